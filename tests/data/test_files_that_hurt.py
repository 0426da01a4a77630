"""What hurts a reader: special files, bombs and damaged images."""

import json
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import data
from simclr_keras.data.decoding import (
    decode_boxes,
    decode_jpeg_window,
    decode_photo,
)
from simclr_keras.data.decoding_as_stored import stored_image
from tests.data import special_files
from tests.data.pictures import picture
from tests.distribution.results import ROOT


def printed_by(program):
    """What a process of its own prints, which may crash or hang."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3, "auto"])
def test_nothing_hangs_and_memory_is_bounded(channels, tmp_path):
    picture().save(tmp_path / "a photo.png")
    read, left_out = special_files.make(tmp_path)
    assert len(read | left_out) >= 45
    program = f"""
import json, os, resource, warnings
import tensorflow as tf
from simclr_keras import data

def peak():  # in MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

dataset = tf.data.Dataset.range(3).map(lambda x: x + 1)
list(dataset)
before = peak()
found = []
for in_memory in (True, False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = data.load_image_folder(
            {str(tmp_path)!r},
            8,
            on_error="skip",
            in_memory=in_memory,
            labels=None,
            channels={channels!r},
        )
    found.append([os.path.basename(p) for p in images.skipped])
    found.append(images.train.num_images)
print(json.dumps([*found, peak() - before]))
"""
    *found, growth = json.loads(printed_by(program))
    for skipped, count in (found[:2], found[2:]):
        assert set(skipped) == left_out
        assert count == 1 + len(read)
    assert growth < 500


# --- What would take long or much memory -------------------------------------
def whole(data):
    return decode_photo(data, 3)


def as_stored(data):
    return tf.convert_to_tensor(stored_image(data.numpy()))


def box_of_jpeg(data):
    (box,) = decode_boxes(
        data,
        lambda rows, columns: tf.stack([[0, 0, rows, columns]]),
        whole,
        lambda data, window: decode_jpeg_window(data, window, 3),
    )
    return box


@pytest.mark.parametrize("decode", [whole, as_stored, box_of_jpeg])
def test_scans_of_a_jpeg_are_counted(decode):
    content = special_files.jpeg_with_scans(100)
    image = tf.io.decode_jpeg(content)
    np.testing.assert_array_equal(decode(tf.constant(content)), image)
    content = special_files.jpeg_with_scans(101)
    # libjpeg passes over what does not belong there, and fills.
    start = content.index(b"\xff\xc4")
    others = content[:start] + b"\0\xff\0" + b"\xff" * 3 + content[start:]
    for each in (content, others, content[:-2]):
        with pytest.raises(
            (ValueError, tf.errors.OpError), match="more than 100 scans"
        ):
            decode(tf.constant(each))


@pytest.mark.parametrize("decode", [whole, as_stored, box_of_jpeg])
def test_scans_beside_an_image_are_not_its_own(decode):
    jpeg = special_files.encoded("JPEG")
    scans = b"\0\2" + b"\xff\xda\0\2" * 250
    for content in (
        jpeg + scans,
        jpeg[:2] + b"\xff\xe1\x04\x00" + scans.ljust(1022, b"\0") + jpeg[2:],
        special_files.encoded("JPEG", progressive=True) * 20,
    ):
        image = tf.io.decode_jpeg(content)
        np.testing.assert_array_equal(decode(tf.constant(content)), image)


@pytest.mark.parametrize("decode", [whole, as_stored])
def test_chunks_of_a_png_are_not_longer_than_it(decode):
    header, pixels, end = (
        special_files.png_header(),
        special_files.PNG_PIXELS,
        special_files.PNG_END,
    )
    for length in (2**24, special_files.LARGEST):
        for kind in (b"tEXt", b"zTXt", b"iTXt", b"sPLT", b"pCAL", b"sCAL"):
            content = special_files.png_of(header, (kind, length), pixels, end)
            with pytest.raises(
                (ValueError, tf.errors.OpError), match="longer than the file"
            ):
                decode(tf.constant(content))
    # Where they fit, also in what only looks like one.
    rows = b"".join(b"\0" + b"\x7f\0\0\0tEXt" * 12 for _ in range(24))
    content = special_files.png_of(
        header,
        (b"tEXt", b"Comment\0" + b"\x7f\0\0\0zTXt" * 9),
        (b"IDAT", zlib.compress(rows, 0)),
        (b"tEXt", b"Comment\0\xff"),
        end,
    )
    image = decode(tf.constant(content))
    np.testing.assert_array_equal(image, tf.io.decode_png(content))


def test_special_files_are_named(tmp_path):
    picture().save(tmp_path / "photo.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png.*not a regular file"):
        data.load_image_folder(tmp_path, 8)
    (tmp_path / "pipe.png").unlink()
    with pytest.raises(ValueError, match=r"photo\.png.*`max_pixels`, 99"):
        data.load_image_folder(tmp_path, 8, max_pixels=99)
    with pytest.raises(ValueError, match=r"photo\.png.*`max_bytes` is 99"):
        data.load_image_folder(tmp_path, 8, max_bytes=99)
    assert data.load_image_folder(tmp_path, 8, max_pixels=768).train.num_images
    for value in (0, 1.5, True):
        with pytest.raises(ValueError, match="`max_pixels` must be a positive"):
            data.load_image_folder(tmp_path, 8, max_pixels=value)


def test_folders_that_are_linked_to_each_other_count_once(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for k in range(4):
            picture(seed=k).save(tmp_path / name / f"{k}.png")
    for here, there in (("one", "two"), ("two", "one")):
        for k in range(2):
            (tmp_path / here / f"link {k}").symlink_to(tmp_path / there)
    (tmp_path / "one" / "again.png").symlink_to(tmp_path / "one" / "0.png")
    with pytest.warns(UserWarning, match="count once"):
        found = data.load_image_folder(tmp_path, 8, labels=None)
    assert found.train.num_images == 8


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("JPEG", 25),
        *(
            pytest.param(kind, 850, marks=pytest.mark.slow)
            for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
        ),
    ],
)
def test_mutated_files_are_read_or_told(kind, count, tmp_path):
    """Bytes changed, cut off or repeated; in a process that may crash."""
    program = f"""
import io, sys, warnings
import numpy as np
from simclr_keras import data
from tests.data.pictures import picture
content = io.BytesIO()
picture().save(content, {kind!r})
whole, rng = content.getvalue(), np.random.default_rng(0)
for k in range({count}):
    mutated = bytearray(whole)
    for _ in range(rng.integers(1, 9)):
        mutated[rng.integers(len(mutated))] = rng.integers(256)
    if k % 3 == 0:
        del mutated[rng.integers(len(mutated)) :]
    if k % 5 == 0:
        mutated += mutated[: rng.integers(len(mutated) + 1)]
    with open(f"{tmp_path}/{{k:03}}.{kind.lower()}", "wb") as file:
        file.write(mutated)
picture().save("{tmp_path}/whole.png")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    found = data.load_image_folder({str(tmp_path)!r}, 8, on_error="skip")
print(found.train.num_images + found.num_skipped)
"""
    assert printed_by(program).strip() == str(count + 1)
