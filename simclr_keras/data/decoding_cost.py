"""Files that take more time or memory to decode than their pixels tell."""

import struct

import numpy as np
import tensorflow as tf

from simclr_keras.data.lazily import lazily

# A progressive JPEG has about ten scans. Each of them goes over the whole
# image, and may be a few bytes long.
MAX_SCANS = 100
# Of all scans together: twenty over an image of 134 megapixels, some seconds.
_MAX_SCANNED_PIXELS = 20 * 2**27
_JPEG = b"\xff\xd8\xff"
_SCAN, _END = 0xDA, 0xD9  # of an image
# Parts of a PNG for which libpng takes the memory that they say they need
# before it looks for their contents; and such a part of 16 MiB or more, in
# single bytes, since RE2 takes others for UTF-8.
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"sPLT", b"pCAL", b"sCAL")
_LARGE_CHUNK = r"\C*[\x01-\x7f]\C\C\C(?:tEXt|zTXt|iTXt|sPLT|pCAL|sCAL)\C*"
# Of a TIFF, tags that list where its strips or tiles are, and how many of them
# are looked for: each takes some 40 microseconds.
_PLACES = (273, 279, 324, 325)
_MAX_PLACES = 2**16
# What Python decodes byte by byte.
_MAX_RUN_LENGTH_PIXELS = 2**22


def has_few_scans(data, num_pixels):
    """Whether a JPEG's scans are as few as those of photos are.

    Args:
        data: String tensor (), the content of the file.
        num_pixels: int64 tensor (), of the image.

    Returns:
        Boolean tensor ().
    """

    def look(data, num_pixels):
        found = tf.numpy_function(_scans_are_few, [data, num_pixels], tf.bool)
        return tf.ensure_shape(found, ())

    # What looks like a scan is one, or is beside the image: in a thumbnail, or
    # by chance in a video behind a photo. Python tells them apart.
    parts = tf.raw_ops.StringSplitV2(
        input=tf.reshape(data, (1,)), sep=b"\xff\xda", maxsplit=MAX_SCANS + 1
    )
    most = tf.minimum(
        tf.constant(MAX_SCANS, tf.int64), _MAX_SCANNED_PIXELS // num_pixels
    )
    return tf.cond(
        parts.shape[1] - 1 <= most,
        lambda: True,
        lambda: lazily(look, data, num_pixels),
    )


def has_chunks_that_fit(data):
    """Whether a PNG's text is no longer than the file.

    Args:
        data: String tensor (), the content of the file.

    Returns:
        Boolean tensor ().
    """

    def look(data):
        return tf.ensure_shape(
            tf.numpy_function(_chunks_fit, [data], tf.bool), ()
        )

    # What is found by chance in the bytes of pixels is looked at by Python.
    return tf.cond(
        tf.strings.regex_full_match(data, _LARGE_CHUNK),
        lambda: lazily(look, data),
        lambda: True,
    )


def check_cost(data):
    """Raises a `ValueError` for a file that would take long or much memory.

    Args:
        data: Bytes, the content of the file.
    """
    if data[:3] == _JPEG and not _scans_are_few(data):
        raise ValueError(
            f"It has more than {MAX_SCANS} scans, or too many for its size."
        )
    if data[:4] == b"\x89PNG" and not _chunks_fit(data):
        raise ValueError("It says that a part of it is longer than the file.")
    if data[:2] == b"BM":
        _check_bmp(data)
    if data[:2] in (b"II", b"MM"):
        _check_tiff(data)


def _scans_are_few(data, num_pixels=None):
    """Counts the scans of a JPEG's first image, as libjpeg meets them."""
    data = _as_bytes(data)
    scans, place = 0, _next_marker(data, 2)
    while place < len(data):
        kind = data[place]
        if kind == _END:
            return True
        if kind == 1 or 0xD0 <= kind <= 0xD8:  # Without a length.
            place = _next_marker(data, place + 1)
            continue
        length = int.from_bytes(data[place + 1 : place + 3], "big")
        is_frame = 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC)
        if is_frame and num_pixels is None:
            height = int.from_bytes(data[place + 4 : place + 6], "big")
            width = int.from_bytes(data[place + 6 : place + 8], "big")
            num_pixels = height * width
        if kind == _SCAN:
            scans += 1
            most = _MAX_SCANNED_PIXELS // max(1, int(num_pixels or 1))
            if scans > min(MAX_SCANS, most):
                return False
        place = _next_marker(data, place + 1 + length)
    return True


def _next_marker(data, place):
    """Where the kind of the next marker stands, after 0xff.

    What is before it is passed over: the bytes of a scan, in which 0xff is
    followed by 0, and bytes that do not belong there.
    """
    while True:
        place = data.find(b"\xff", place) + 1
        if place == 0 or place == len(data):
            return len(data)
        if data[place] not in (0, 0xFF):
            return place


def _chunks_fit(data):
    data = _as_bytes(data)
    place = 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if length > len(data) - place - 8:  # Others libpng tells as damaged.
            return kind not in _TEXT_CHUNKS
        if kind == b"IEND" or not kind.isalpha():
            return True
        place += 12 + length
    return True


def _check_bmp(data):
    if len(data) < 34:
        return
    width, height = struct.unpack("<ii", data[18:26])
    is_run_length = int.from_bytes(data[30:34], "little") in (1, 2)
    size = max(abs(width * height), len(data))
    if is_run_length and size > _MAX_RUN_LENGTH_PIXELS:
        raise ValueError(
            "It is compressed by run lengths and has more than "
            f"{_MAX_RUN_LENGTH_PIXELS:,} pixels or bytes."
        )


def _check_tiff(data):
    """Looks at the first page, which is the one that is decoded."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    start, count, entry, number = (
        ("Q", "Q", 20, "HHQ") if is_big else ("I", "H", 12, "HHI")
    )
    try:
        (place,) = struct.unpack_from(order + start, data, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + count, data, place)
        place += struct.calcsize(order + count)
        for k in range(min(entries, 1000)):
            tag, _, length = struct.unpack_from(
                order + number, data, place + k * entry
            )
            if tag in _PLACES and length > _MAX_PLACES:
                raise ValueError(
                    f"It has {length:,} strips or tiles, and {_MAX_PLACES:,} "
                    "is the largest number that is read."
                )
    except struct.error:  # Damaged, which the decoder tells.
        return


def _as_bytes(data):
    # Eagerly it comes as an array.
    return data.item() if isinstance(data, np.ndarray) else data
