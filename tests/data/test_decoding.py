import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_keras.data.decoding import crop_and_resize, decode_photo
from tests.data.pictures import picture


def encoded(image, kind, **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("BMP", "RGB"),
        ("BMP", "RGBA"),
        ("BMP", "L"),
        ("BMP", "P"),
        ("GIF", "RGB"),
        ("GIF", "L"),
    ],
)
def test_decoding_equals_pillow(kind, mode, channels):
    content = encoded(picture().convert(mode), kind)
    got = decode_photo(tf.constant(content), channels)
    image = Image.open(io.BytesIO(content))
    if mode not in ("LA", "1", "L"):
        image = image.convert("RGB")
    expected = np.array(image.convert("RGB" if channels == 3 else "L"))
    if channels == 1:
        expected = expected[..., None]
    assert got.shape == (24, 32, channels)
    # JPEG decoders differ by a few levels (chroma upsampling, CMYK); what is
    # left elsewhere is the rounding of the luma.
    limit = {"JPEG": 6}.get(kind, channels == 1)
    assert np.abs(got.numpy().astype(int) - expected).max() <= limit


def test_sixteen_bits_become_eight():
    values = np.arange(256, dtype="uint16")[None] * 257
    content = encoded(Image.fromarray(values), "PNG")
    got = decode_photo(tf.constant(content), 1)
    np.testing.assert_array_equal(got[0, :, 0], np.arange(256))


def test_first_frame_of_an_animation():
    frames = [picture(seed=i) for i in range(3)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    got = decode_photo(tf.constant(content), 3)
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    np.testing.assert_array_equal(got, np.array(expected))


@pytest.mark.parametrize("size", [(12, 12), (10, 20), (40, 16), (24, 32)])
def test_crop_and_resize_equals_pillow(size):
    height, width = size
    image = picture(24, 32)
    box_height = min(24, 32 * height // width)
    box_width = min(32, 24 * width // height)
    top, left = (24 - box_height) // 2, (32 - box_width) // 2
    box = image.crop((left, top, left + box_width, top + box_height))
    expected = box.resize((width, height), Image.Resampling.BICUBIC)
    got = crop_and_resize(tf.constant(np.array(image)), size)
    # Pillow rounds after each of the two directions: one level.
    difference = got.numpy().astype(int) - np.array(expected)
    assert np.abs(difference).max() <= 1
