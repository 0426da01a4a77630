"""The way up of a photo, which cameras write beside it."""

import numpy as np
import tensorflow as tf

from simclr_keras.data.lazily import lazily

# How far a JPEG's EXIF data are searched for its orientation, which stands in
# the first of their tables.
_EXIF_BYTES = 4096
# Tag 0x0112, of type 3, one number; then the number. Both orders of bytes.
_LITTLE = np.frombuffer(b"\x12\x01\x03\x00\x01\x00\x00\x00", "uint8")
_BIG = np.frombuffer(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00", "uint8")


def orientation_of(data):
    """How a JPEG is to be turned to be upright, as its EXIF data say.

    Args:
        data: String tensor (), the content of the file.

    Returns:
        int32 tensor (), from 1, not at all, to 8; see `orient`. 1 for other
        formats and where it is not said.
    """

    def search(data):
        head = tf.strings.substr(data, 0, _EXIF_BYTES) + b"\0" * 16
        head = tf.io.decode_raw(head, tf.uint8)
        found = tf.zeros((), tf.int32)
        for pattern in (_LITTLE, _BIG):
            count = tf.size(head) - len(pattern)
            windows = [head[i : i + count] for i in range(len(pattern))]
            is_here = tf.reduce_all(
                tf.stack(windows, axis=1) == pattern[None], axis=1
            )
            place = tf.argmax(tf.cast(is_here, tf.uint8), output_type=tf.int32)
            value = tf.cast(head[place + len(pattern)], tf.int32)
            found = tf.where(tf.reduce_any(is_here), value, found)
        return tf.where((found >= 1) & (found <= 8), found, 1)

    return tf.cond(_has_exif(data), lambda: lazily(search, data), lambda: 1)


def upright(image, data):
    """Turns a decoded JPEG upright, as its EXIF data say.

    Args:
        image: Tensor (H, W, C), as it is stored.
        data: String tensor (), the content of the file.

    Returns:
        Tensor (H, W, C) or (W, H, C).
    """

    def turn(image, data):
        return orient(image, orientation_of(data))

    turned = tf.cond(
        _has_exif(data), lambda: lazily(turn, image, data), lambda: image
    )
    return tf.ensure_shape(turned, (None, None, image.shape[-1]))


def _has_exif(data):
    """Whether a JPEG has EXIF data."""
    # They come first in the file, or second, after what JFIF says; \C is any
    # byte.
    return tf.strings.regex_full_match(
        tf.strings.substr(data, 0, 28),
        r"\C{6}Exif\C*|\C{24}Exif",
    )


def orient(image, orientation):
    """Turns an image upright.

    Args:
        image: Tensor (H, W, C).
        orientation: int32 tensor () from 1 to 8: as stored, mirrored left to
            right, turned by 180 degrees, mirrored top to bottom, transposed,
            turned by 90 degrees clockwise, transposed along the other
            diagonal, turned by 90 degrees anticlockwise.

    Returns:
        Tensor (H, W, C), or (W, H, C) for 5 to 8.
    """
    swaps, left_right, top_bottom = _turns(orientation)
    image = tf.cond(
        swaps, lambda: tf.transpose(image, (1, 0, 2)), lambda: image
    )
    image = tf.cond(left_right, lambda: image[:, ::-1], lambda: image)
    return tf.cond(top_bottom, lambda: image[::-1], lambda: image)


def as_stored(boxes, size, orientation):
    """Boxes of an upright image, in the one that is stored.

    Args:
        boxes: int32 tensor (V, 4), each top, left, height and width in pixels.
        size: int32 tensor (2,), rows and columns of the upright image.
        orientation: As in `orient`.

    Returns:
        int32 tensor (V, 4).
    """
    swaps, left_right, top_bottom = _turns(orientation)
    start, extent = boxes[:, :2], boxes[:, 2:]
    mirrored = size - start - extent
    start = tf.where(tf.stack([top_bottom, left_right]), mirrored, start)
    start = tf.where(swaps, start[:, ::-1], start)
    extent = tf.where(swaps, extent[:, ::-1], extent)
    return tf.concat([start, extent], axis=1)


def _turns(orientation):
    """Whether to transpose; to mirror left to right; then top to bottom."""

    def is_in(*values):
        return tf.reduce_any(orientation == tf.constant(values))

    return orientation >= 5, is_in(2, 3, 6, 7), is_in(3, 4, 7, 8)
