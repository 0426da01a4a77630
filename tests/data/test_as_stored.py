"""Folders of images that keep their channels and bits."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras import augmentation, data
from simclr_keras.data.decoding import crop_and_resize
from simclr_keras.data.decoding_as_stored import stored_image
from simclr_keras.data.image_folder import FileImageSet
from tests.data.pictures import picture

tifffile = pytest.importorskip("tifffile")


def pixels(channels=None, dtype="uint16", seed=0, size=(12, 10)):
    rng = np.random.default_rng(seed)
    shape = size if channels is None else (*size, channels)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png(array):
    return tf.io.encode_png(array).numpy()


def on_white(array):
    """What is transparent becomes white, by hand."""
    white = np.iinfo(array.dtype).max
    opacity = array[..., -1:] / white
    colors = white * (1 - opacity) + array[..., :-1] * opacity
    return np.round(colors).astype(array.dtype)


def two_series(*arrays):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for array in arrays:
            writer.write(array, photometric="minisblack")
    return file.getvalue()


BANDS = pixels(13)
GRAY = pixels()
# Name -> (content, expected (H, W, C)).
KINDS = {
    "pages": (tiff(np.moveaxis(BANDS, 2, 0)), BANDS),
    "planes": (
        tiff(
            np.moveaxis(BANDS, 2, 0),
            planarconfig="separate",
            photometric="minisblack",
        ),
        BANDS,
    ),
    "interleaved": (
        tiff(BANDS, planarconfig="contig", photometric="minisblack"),
        BANDS,
    ),
    "big_endian": (tiff(np.moveaxis(BANDS, 2, 0), byteorder=">"), BANDS),
    "bigtiff": (tiff(np.moveaxis(BANDS, 2, 0), bigtiff=True), BANDS),
    "deflate": (
        tiff(np.moveaxis(BANDS, 2, 0), compression="zlib"),
        BANDS,
    ),
    "two_bands": (
        tiff(np.moveaxis(BANDS[..., :2], 2, 0)),
        BANDS[..., :2],
    ),
    "bytes": (
        tiff(np.moveaxis(BANDS, 2, 0).astype("uint8")),
        BANDS.astype("uint8"),
    ),
    "near_infrared": (
        tiff(BANDS[..., :4], photometric="rgb", extrasamples=["unspecified"]),
        BANDS[..., :4],
    ),
    "opacity": (
        tiff(BANDS[..., :4], photometric="rgb", extrasamples=["unassalpha"]),
        BANDS[..., :4],
    ),
    "negative": (
        tiff(65535 - GRAY, photometric="miniswhite"),
        GRAY[..., None],
    ),
    "with_a_small_one": (
        two_series(GRAY[:3, :3], GRAY),
        GRAY[..., None],
    ),
    "x_ray": (tiff(GRAY), GRAY[..., None]),
    "rgb_tiff": (
        tiff(BANDS[..., :3], photometric="rgb"),
        BANDS[..., :3],
    ),
    "png_16": (png(GRAY[..., None]), GRAY[..., None]),
    "png_16_rgb": (png(BANDS[..., :3]), BANDS[..., :3]),
    "png_16_rgba": (png(BANDS[..., :4]), on_white(BANDS[..., :4])),
    "png_8": (
        png(BANDS[..., :3].astype("uint8")),
        BANDS[..., :3].astype("uint8"),
    ),
}


def folder_of(path, contents, suffix="tif"):
    path.mkdir(parents=True, exist_ok=True)
    for k, content in enumerate(contents):
        (path / f"{k:02d}.{suffix}").write_bytes(content)
    return path


def scenes(path, count=6, channels=13, dtype="uint16"):
    arrays = [pixels(channels, dtype, seed=k) for k in range(count)]
    return folder_of(path, [tiff(np.moveaxis(a, 2, 0)) for a in arrays]), arrays


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored(kind):
    content, expected = KINDS[kind]
    image = stored_image(content)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)


def test_photos_as_stored():
    file = io.BytesIO()
    picture(20, 31).save(file, "JPEG", quality=95)
    image = stored_image(file.getvalue())
    np.testing.assert_array_equal(image, tf.io.decode_jpeg(file.getvalue()))
    file = io.BytesIO()
    picture(20, 31).convert("CMYK").save(file, "JPEG")
    assert stored_image(file.getvalue()).shape == (20, 31, 3)
    file = io.BytesIO()
    picture(20, 31).save(file, "BMP")
    image = stored_image(file.getvalue())
    np.testing.assert_array_equal(image, np.array(picture(20, 31)))


@pytest.mark.parametrize("in_memory", [True, False])
def test_bands_of_a_folder(tmp_path, in_memory):
    folder, arrays = scenes(tmp_path / "scenes")
    source = data.load_image_folder(
        folder, (9, 8), channels="auto", in_memory=in_memory
    )
    assert source.image_shape == (9, 8, 13)
    assert source.train.dtype == "uint16"
    assert source.value_range == (0, 65535)
    images, _ = source.train.arrays()
    for image, array in zip(images, arrays, strict=True):
        np.testing.assert_array_equal(
            image, crop_and_resize(tf.constant(array), (9, 8))
        )
    same = data.load_image_folder(folder, (9, 8), channels=13, dtype="uint16")
    np.testing.assert_array_equal(same.train.arrays()[0], images)


def test_auto_of_photos_is_photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    picture(20, 31).convert("RGBA").save(folder / "a.png")
    picture(20, 31).convert("L").save(folder / "b.jpg")
    auto = data.load_image_folder(folder, 16, channels="auto")
    plain = data.load_image_folder(folder, 16)
    np.testing.assert_array_equal(
        auto.train.arrays()[0], plain.train.arrays()[0]
    )


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_twelve_bits_of_gray(tmp_path, suffix):
    values = (pixels() // 16).astype("uint16")[..., None]
    content = tiff(values[..., 0]) if suffix == "tif" else png(values)
    folder = folder_of(tmp_path / "x", [content] * 2, suffix)
    source = data.load_image_folder(folder, (12, 10), channels="auto")
    np.testing.assert_array_equal(source.train.arrays()[0], [values] * 2)


def test_other_images_are_named(tmp_path):
    folder, _ = scenes(tmp_path / "scenes")
    (folder / "06.tif").write_bytes(tiff(pixels(4).transpose(2, 0, 1)))
    (folder / "07.tif").write_bytes(tiff(np.zeros((13, 9, 9), "float32")))
    (folder / "08.tif").write_bytes((folder / "00.tif").read_bytes()[:300])
    (folder / "09.tif").write_bytes(tiff(np.zeros((2, 3, 9, 9), "uint16")))
    picture(9, 9).save(folder / "10.png")
    with pytest.warns(UserWarning, match="Left out 5 of 11"):
        source = data.load_image_folder(
            folder, 8, channels="auto", on_error="skip"
        )
    assert source.train.num_images == 6
    paths = [str(path) for path in sorted(folder.iterdir())]
    files = FileImageSet(paths, None, (8, 8), 13, dtype="uint16")
    for name, reason in (
        (
            "06.tif",
            "It has 4 channels of uint16, and 13 of uint16 are asked for",
        ),
        ("07.tif", "Its values are float32"),
        ("08.tif", "tifffile cannot decode it"),
        ("09.tif", "It has the axes"),
        ("10.png", "It has 3 channels of uint8"),
    ):
        assert reason in files.reason(str(folder / name))
    with pytest.raises(ValueError, match=r"06\.tif.*4 channels of uint16"):
        data.load_image_folder(folder, 8, channels="auto")


def test_pixels_are_limited(tmp_path):
    folder, _ = scenes(tmp_path / "scenes")
    with pytest.raises(ValueError, match="more pixels than `max_pixels`, 100"):
        data.load_image_folder(folder, 8, channels="auto", max_pixels=100)


def test_crops_while_decoding_are_those_of_whole_images(tmp_path):
    folder, arrays = scenes(tmp_path / "scenes", count=4)
    images = data.load_image_folder(
        folder, 8, channels="auto", in_memory=False
    ).train
    crop = augmentation.RandomResizedCrop(6, 6, value_range=(0, 65535), seed=1)
    dataset = data.training_dataset(images, 4, shuffle=False, crop=crop)
    (views,) = dataset.as_numpy_iterator()
    for view, number in (("crop_1", 0), ("crop_2", 1)):
        expected = crop.apply(np.stack(arrays), key=crop.key(number))
        # float32 of values up to 65535
        np.testing.assert_allclose(views[view], expected, atol=0.2)


def test_the_bands_are_used(tmp_path):
    """Classes that differ in the last of 13 bands alone."""
    rng = np.random.default_rng(0)
    for k in range(48):
        array = rng.integers(0, 40000, (13, 8, 8), "uint16")
        array[12] = array[12] // 4 + 25000 * (k % 2)
        folder_of(tmp_path / "ab"[k % 2], [])
        (tmp_path / "ab"[k % 2] / f"{k}.tif").write_bytes(tiff(array))
    source = data.load_image_folder(
        tmp_path, 8, channels="auto", test_fraction=0.25
    )
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 13)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    images, labels = source.test.arrays()
    tuned = simclr_keras.evaluation.fine_tune(
        encoder,
        source.train.arrays(),
        (images, labels),
        epochs=60,
        optimizer=keras.optimizers.Adam(0.01),
        value_range=source.value_range,
    )
    assert tuned.accuracy > 0.9
    images[..., 12] = 0
    predicted = tuned.model.predict(images, verbose=0).argmax(axis=1)
    assert np.mean(predicted == labels) < 0.8


def test_a_palette_is_colours(tmp_path):
    photo = picture(20, 31).convert("P")
    photo.save(tmp_path / "a.tif")
    photo.save(tmp_path / "b.png")
    source = data.load_image_folder(tmp_path, (20, 31), channels="auto")
    images, _ = source.train.arrays()
    for image in images:
        np.testing.assert_array_equal(image, np.array(photo.convert("RGB")))


def test_files_that_end_within_their_header(tmp_path):
    folder, _ = scenes(tmp_path / "scenes", count=2)
    (folder / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 12)
    with pytest.warns(UserWarning, match="Left out 1 of 3"):
        source = data.load_image_folder(
            folder, 8, channels="auto", on_error="skip"
        )
    assert source.train.num_images == 2
    with pytest.raises(ValueError, match="max_bytes"):
        data.load_image_folder(folder, 8, channels="auto", max_bytes=5)


def test_negatives_become_positives(tmp_path):
    for name, array, photometric in (
        ("a", GRAY, "minisblack"),
        ("b", 65535 - GRAY, "miniswhite"),
    ):
        content = tiff(array, photometric=photometric)
        (tmp_path / f"{name}.tif").write_bytes(content)
    for kwargs in ({"channels": "auto"}, {"channels": 1}):
        source = data.load_image_folder(tmp_path, (12, 10), **kwargs)
        first, second = source.train.arrays()[0].astype(int)
        # 16 bits to 8 rounds down, before or after.
        np.testing.assert_allclose(first, second, atol=1)
