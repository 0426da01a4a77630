"""Files that take more time or memory to decode than their pixels tell."""

import re

import numpy as np
import tensorflow as tf

from simclr_keras.data.lazily import lazily

# A progressive JPEG has about ten. Each of them goes over the whole image,
# and may be a few bytes long.
MAX_SCANS = 100
_START_OF_SCAN = b"\xff\xda"
# Chunks of a PNG for which libpng takes the memory that they say they need
# before it looks for their contents; and such a chunk of 16 MiB or more, as
# RE2 and Python write it: of single bytes. RE2 takes others for UTF-8.
_KINDS = "tEXt|zTXt|iTXt|sPLT|pCAL|sCAL"
_LARGE_CHUNK = rf"\C*[\x01-\x7f]\C\C\C(?:{_KINDS})\C*"


def has_few_scans(data):
    """Whether a JPEG has no more than `MAX_SCANS` scans.

    Args:
        data: String tensor (), the content of the file.

    Returns:
        Boolean tensor ().
    """
    # Among the bytes of pixels 0xff is followed by 0: the two are a marker.
    parts = tf.raw_ops.StringSplitV2(
        input=tf.reshape(data, (1,)), sep=_START_OF_SCAN, maxsplit=MAX_SCANS + 1
    )
    return parts.shape[1] <= MAX_SCANS + 1


def has_chunks_that_fit(data):
    """Whether a PNG's chunks are no longer than the file.

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
    """Raises a `ValueError` for such a JPEG or PNG, of bytes."""
    if data[:3] == b"\xff\xd8\xff" and data.count(_START_OF_SCAN) > MAX_SCANS:
        raise ValueError(f"It has more than {MAX_SCANS} scans.")
    if data[:4] == b"\x89PNG" and not _chunks_fit(data):
        raise ValueError("It says that a part of it is longer than the file.")


def _chunks_fit(data):
    # Eagerly it comes as an array.
    data = data.item() if isinstance(data, np.ndarray) else data
    place = 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8].decode("latin-1")
        # Others are told as damaged by libpng.
        if length > len(data) - place - 8 and re.fullmatch(_KINDS, kind):
            return False
        place += 12 + length
    return True
