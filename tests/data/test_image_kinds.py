"""Every kind of image file, against Pillow's own reading of it."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from simclr_keras import data
from simclr_keras.data.decoding import (
    decode_boxes,
    decode_jpeg_window,
    decode_other,
    decode_photo,
)
from simclr_keras.data.image_files import EXTENSIONS
from simclr_keras.data.orientation import as_stored, orient, orientation_of
from tests.data.pictures import picture

HEIGHT, WIDTH = 24, 32


def transparent(mode="RGBA"):
    """The left half is transparent, and hides its colours."""
    image = picture().convert("RGBA")
    alpha = np.full((HEIGHT, WIDTH), 255, "uint8")
    alpha[:, : WIDTH // 2] = np.arange(WIDTH // 2) * 5
    image.putalpha(Image.fromarray(alpha))
    return image.convert(mode)


def sixteen_bits():
    values = np.array(picture().convert("L")).astype("uint16") * 257
    return Image.fromarray(values)


def turned(orientation):
    """A photo that is stored as a camera held that way has seen it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera"
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    back = Image.Exif()
    back[0x0112] = undo
    stored = picture()
    stored.getexif().update(back)
    stored = ImageOps.exif_transpose(stored)
    return stored, {"exif": exif.tobytes()}


def kinds():
    """Name of a file -> image, format, further arguments of `save`."""
    rgb, gray = picture(), picture().convert("L")
    found = {
        "color.jpg": (rgb, "JPEG", {}),
        "gray.JPEG": (gray, "JPEG", {}),
        "cmyk.jpg": (rgb.convert("CMYK"), "JPEG", {}),
        "progressive.jpg": (rgb, "JPEG", {"progressive": True}),
        "color.png": (rgb, "PNG", {}),
        "gray.png": (gray, "PNG", {}),
        "bits.png": (gray.convert("1"), "PNG", {}),
        "palette.png": (rgb.convert("P"), "PNG", {}),
        "sixteen.png": (sixteen_bits(), "PNG", {}),
        "transparent.png": (transparent(), "PNG", {}),
        "transparent_gray.png": (transparent("LA"), "PNG", {}),
        "color.bmp": (rgb, "BMP", {}),
        "gray.bmp": (gray, "BMP", {}),
        "color.gif": (rgb, "GIF", {}),
        "animated.gif": (
            rgb,
            "GIF",
            {"save_all": True, "append_images": [picture(seed=1)]},
        ),
        "lossless.webp": (rgb, "WEBP", {"lossless": True}),
        "lossy.webp": (rgb, "WEBP", {}),
        "transparent.webp": (transparent(), "WEBP", {"lossless": True}),
        "animated.webp": (
            rgb,
            "WEBP",
            {
                "save_all": True,
                "append_images": [picture(seed=1)],
                "lossless": True,
            },
        ),
        "color.tif": (rgb, "TIFF", {}),
        "gray.tiff": (gray, "TIFF", {"compression": "tiff_lzw"}),
        "sixteen.tif": (sixteen_bits(), "TIFF", {}),
        "transparent.tif": (transparent(), "TIFF", {}),
        "a photo without a suffix": (rgb, "JPEG", {}),
        "jpeg.png": (rgb, "JPEG", {}),
        "webp.jpg": (rgb, "WEBP", {"lossless": True}),
        "tiff.dat": (rgb, "TIFF", {}),
    }
    for orientation in range(1, 9):
        image, exif = turned(orientation)
        found[f"turned {orientation}.jpg"] = (image, "JPEG", exif)
        found[f"turned {orientation}.webp"] = (
            image,
            "WEBP",
            {**exif, "lossless": True},
        )
    return found


def expected_of(content):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode.startswith("I"):
        values = np.array(image) // 257
        return np.repeat(values[..., None], 3, axis=-1)
    if image.has_transparency_data and image.format != "BMP":
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for name, (image, kind, arguments) in kinds().items():
        image.save(folder / name, kind, **arguments)
    (folder / "notes.txt").write_text("Not an image.")
    (folder / "table.dat").write_bytes(b"\x00" * 99)
    return folder


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_kind_is_read_as_pillow_reads_it(folder, in_memory):
    images = data.load_image_folder(
        folder, (HEIGHT, WIDTH), in_memory=in_memory
    ).train
    names = sorted(kinds())
    assert images.num_images == len(names) >= 24
    for name, image in zip(names, images.arrays()[0]):
        expected = expected_of((folder / name).read_bytes())
        assert expected.shape == (HEIGHT, WIDTH, 3), name
        difference = np.abs(image.astype(int) - expected).max()
        # JPEG decoders differ by a few levels; a colour over white is rounded.
        is_jpeg = kinds()[name][1] == "JPEG"
        assert difference <= (6 if is_jpeg else 1), name


def test_photos_are_upright(folder):
    upright = np.array(picture())
    for orientation in range(1, 9):
        content = (folder / f"turned {orientation}.jpg").read_bytes()
        assert orientation_of(tf.constant(content)) == orientation
        image = decode_photo(tf.constant(content), 3).numpy().astype(int)
        assert np.abs(image - upright).mean() < 3
    for name in ("color.jpg", "color.png", "lossy.webp"):
        content = (folder / name).read_bytes()
        assert orientation_of(tf.constant(content)) == 1


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_both_orders_of_bytes(order):
    big = order == b"MM"

    def number(value, length):
        return value.to_bytes(length, "big" if big else "little")

    entry = number(0x112, 2) + number(3, 2) + number(1, 4) + number(6, 2)
    table = number(1, 2) + entry + bytes(6)
    header = b"Exif\0\0" + order + number(42, 2) + number(8, 4) + table
    content = io.BytesIO()
    picture().save(content, "JPEG", exif=header)
    assert orientation_of(tf.constant(content.getvalue())) == 6
    for wrong in (0, 9, 258):
        broken = header.replace(entry, entry[:8] + number(wrong, 2))
        content = io.BytesIO()
        picture().save(content, "JPEG", exif=broken)
        found = int(orientation_of(tf.constant(content.getvalue())))
        assert 1 <= found <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_upright_image(folder, orientation):
    content = tf.constant((folder / f"turned {orientation}.jpg").read_bytes())
    whole = decode_photo(content, 3).numpy().astype(int)
    boxes = tf.constant([[0, 0, 24, 32], [3, 5, 9, 20], [20, 1, 4, 2]])
    cut = decode_boxes(
        content,
        lambda rows, columns: boxes,
        lambda data: decode_other(data, 3),
        lambda data, window: decode_jpeg_window(data, window, 3),
        orientation_of(content),
    )
    for (top, left, height, width), box in zip(boxes.numpy(), cut):
        expected = whole[top : top + height, left : left + width]
        assert np.abs(box.numpy() - expected).max() <= 2


def test_boxes_and_images_turn_alike():
    image = tf.reshape(tf.range(4 * 7), (4, 7, 1))
    for orientation in map(tf.constant, range(1, 9)):
        whole = orient(image, orientation)
        size = tf.shape(whole)[:2]
        box = tf.constant([[1, 2, 2, 1]])
        top, left, height, width = as_stored(box, size, orientation).numpy()[0]
        cut = image[top : top + height, left : left + width]
        np.testing.assert_array_equal(orient(cut, orientation), whole[1:3, 2:3])


def test_what_is_not_an_image_is_ignored_and_what_promises_one_is_told(
    folder, tmp_path
):
    (tmp_path / "readme.md").write_text("No image.")
    picture().save(tmp_path / "photo.png")
    (tmp_path / "floats.tif").write_bytes(b"")
    values = np.zeros((4, 4), "float32")
    Image.fromarray(values).save(tmp_path / "floats.tif")
    with pytest.raises(ValueError, match=r"floats\.tif.*floating-point"):
        data.load_image_folder(tmp_path, 8)
    (tmp_path / "floats.tif").unlink()
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    (tmp_path / "phone").write_bytes(heic)
    with pytest.raises(ValueError, match=r"phone.*pillow-heif"):
        data.load_image_folder(tmp_path, 8)
    with pytest.warns(UserWarning, match="Left out 1 of 2 image files"):
        found = data.load_image_folder(tmp_path, 8, on_error="skip")
    assert found.train.num_images == 1
    assert ".webp" in EXTENSIONS
