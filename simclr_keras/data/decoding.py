"""From an image file of any format and size to a tensor of known shape."""

import numpy as np
import tensorflow as tf

from simclr_keras.data.decoding_by_pillow import MAX_PIXELS, pillow_image
from simclr_keras.data.decoding_cost import (
    MAX_SCANS,
    has_chunks_that_fit,
    has_few_scans,
)
from simclr_keras.data.lazily import lazily
from simclr_keras.data.orientation import as_stored, orient, upright


def check_image_size(image_size):
    """(height, width) in pixels, from one positive integer or a pair."""
    size = np.atleast_1d(image_size)
    if size.shape not in ((1,), (2,)) or size.dtype.kind not in "iu":
        raise TypeError(
            "`image_size` must be an integer or a pair of integers (height, "
            f"width). Received: image_size={image_size!r}."
        )
    if size.min() < 1:
        raise ValueError(
            "`image_size` must be positive. Received: "
            f"image_size={image_size!r}."
        )
    return int(size[0]), int(size[-1])


# In a JPEG the colours of a pixel depend on the pixels beside it. With so many
# around a box, what is decoded of it is what it is in the whole image.
_JPEG_MARGIN = 2  # pixels


def try_load_image_file(path, image_shape, dtype, decode):
    """Reads, decodes, crops and resizes an image file, if that is possible.

    Args:
        path: String tensor ().
        image_shape: Tuple of integers (height, width, channels).
        dtype: String, "uint8" or "uint16".
        decode: Function from the file's content to the image (H, W, channels).

    Returns:
        (is_valid, image): a boolean (), and (height, width, channels) of
        `dtype`, zeros if the file cannot be read or decoded.
    """

    def load(path):
        image = decode(tf.io.read_file(path))
        return True, crop_and_resize(image, image_shape[:2])

    # The try and except of a graph: a failure leaves the first dataset empty,
    # and the element of the second one takes its place. A `tf.py_function`
    # costs two to three times the whole decoding, because its threads wait for
    # each other.
    loaded = tf.data.Dataset.from_tensors(path).map(load).ignore_errors()
    zeros = tf.zeros(image_shape, dtype)
    failed = tf.data.Dataset.from_tensors((False, zeros))
    return loaded.concatenate(failed).take(1).get_single_element()


def decode_photo(data, channels, max_pixels=MAX_PIXELS):
    """Decodes an image of any format, upright.

    The format is detected from the data. JPEG and PNG are decoded by
    TensorFlow, all others by Pillow: TensorFlow's own decoders of them are not
    safe (of an animated WebP that of 2.21 corrupts the memory). Of an animation
    it is the first frame. Images are converted to `channels`; transparent
    pixels become white; 16 bits are reduced to 8; CMYK is converted.

    Args:
        data: String tensor (), the content of the file.
        channels: 1 or 3.
        max_pixels: Integer, the largest number of pixels that is decoded.

    Returns:
        uint8 tensor (H, W, channels).
    """

    def jpeg():
        size = tf.io.extract_jpeg_shape(data)[:2]
        checked = _once_small(data, size, max_pixels)
        image = tf.io.decode_jpeg(checked, _of_jpeg(channels))
        return upright(_with_channels(image, channels), data)

    return tf.cond(
        tf.io.is_jpeg(data),
        jpeg,
        lambda: decode_other(data, channels, max_pixels),
    )


def decode_other(data, channels, max_pixels=MAX_PIXELS):
    """As `decode_photo`, for formats other than JPEG."""

    def png(data):
        # The size stands in the header.
        header = tf.strings.substr(data, 0, 24) + b"\0" * 24
        size = tf.io.decode_raw(
            tf.strings.substr(header, 16, 8), tf.int32, little_endian=False
        )
        checked = _once(
            (_num_pixels(size) <= max_pixels) & has_chunks_that_fit(data),
            f"It has more pixels than `max_pixels`, {max_pixels:,}, or says "
            "that a part of it is longer than the file.",
            data,
        )
        image = tf.io.decode_png(checked)
        has_alpha = tf.shape(image)[-1] % 2 == 0
        image = tf.cond(has_alpha, lambda: _on_white(image), lambda: image)
        return _with_channels(image, channels)

    def other(data):
        return tf.ensure_shape(
            tf.numpy_function(by_pillow, [data], tf.uint8),
            (None, None, channels),
        )

    def by_pillow(data):
        # Eagerly it comes as an array.
        data = data.item() if isinstance(data, np.ndarray) else data
        try:
            return pillow_image(data, channels, max_pixels)
        except ValueError:  # An error would be logged, with its traceback.
            return np.zeros((0, 0, channels), "uint8")

    def decode(data):
        is_png = tf.strings.substr(data, 0, 4) == b"\x89PNG"
        image = tf.cond(is_png, lambda: png(data), lambda: other(data))
        is_there = tf.debugging.assert_positive(
            tf.size(image), "It cannot be decoded."
        )
        return _after(is_there, image)

    return lazily(decode, data)


def decode_jpeg_window(data, window, channels):
    """Decodes a part of a JPEG, as it is stored.

    Args:
        data: String tensor (), the content of the file.
        window: int32 tensor (4,): top, left, height and width in pixels.
        channels: 1 or 3.

    Returns:
        uint8 tensor (height, width, channels).
    """
    image = tf.io.decode_and_crop_jpeg(data, window, _of_jpeg(channels))
    return _with_channels(image, channels)


def _of_jpeg(channels):
    # TensorFlow cannot convert CMYK to grayscale; 0 is what there are.
    return 3 if channels == 3 else 0


def _once_small(data, size, max_pixels):
    """A JPEG, once it is known that it is not too much to decode."""
    num_pixels = tf.maximum(_num_pixels(size), 1)
    # One check: each operation takes its time for each image.
    return _once(
        (num_pixels <= max_pixels) & has_few_scans(data, num_pixels),
        f"It has more pixels than `max_pixels`, {max_pixels:,}, or more than "
        f"{MAX_SCANS} scans.",
        data,
    )


def _num_pixels(size):
    return tf.reduce_prod(tf.cast(size, tf.int64))


def _once(condition, message, value):
    """A tensor, once it is known that something holds."""
    # `tf.debugging.Assert` is several operations for each image.
    check = tf.raw_ops.Assert(condition=condition, data=[message])
    return _after(check, value)


def _after(check, value):
    # Eagerly the check is done and None.
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(value)


def _on_white(image):
    """An image (H, W, C + 1), the last channel its opacity, as (H, W, C)."""
    colors = tf.cast(image[..., :-1], tf.float32)
    opacity = tf.cast(image[..., -1:], tf.float32) / 255
    return tf.cast(tf.round(255 + (colors - 255) * opacity), tf.uint8)


def decode_boxes(
    data,
    draw,
    decode,
    decode_window=None,
    orientation=None,
    max_pixels=MAX_PIXELS,
):
    """Decodes an image once, and cuts boxes out of it.

    Of a JPEG only the part that holds the boxes is decoded; its pixels are
    those of the whole image.

    Args:
        data: String tensor (), the content of the file.
        draw: Function of (rows, columns), the size of the whole image, int32
            tensors (), that returns the boxes: int32 (V, 4), each top, left,
            height and width in pixels. V is known.
        decode: Function from `data` to the whole image (H, W, C).
        decode_window: Function of (data, window) for JPEG, to the part of the
            image in a window, a box. None decodes every image as a whole.
        orientation: int32 tensor (), as in `orient`: the boxes are those of
            the upright image. None is that of what is stored. Defaults to
            None.
        max_pixels: Integer, the largest JPEG that is decoded.

    Returns:
        Tuple of V tensors (height, width, C).
    """

    def of_window():
        size = tf.io.extract_jpeg_shape(data)[:2]
        boxes = draw(size[0], size[1])
        window = _around(boxes, size)
        checked = _once_small(data, size, max_pixels)
        return _cut(decode_window(checked, window), boxes, window[:2])

    def of_turned_window(data, orientation):
        stored = tf.io.extract_jpeg_shape(data)[:2]
        size = tf.where(orientation < 5, stored, stored[::-1])
        boxes = draw(size[0], size[1])
        boxes = as_stored(boxes, size, orientation)
        window = _around(boxes, stored)
        checked = _once_small(data, stored, max_pixels)
        cut = _cut(decode_window(checked, window), boxes, window[:2])
        return tuple(orient(each, orientation) for each in cut)

    def of_whole(data):
        image = decode(data)
        size = tf.shape(image)
        return _cut(image, draw(size[0], size[1]))

    def of_other(data, orientation):
        return tf.cond(
            orientation != 1,
            lambda: of_turned_window(data, orientation),
            lambda: of_whole(data),
        )

    if decode_window is None:
        return of_whole(data)
    if orientation is None:
        orientation = tf.constant(1)
    # What most photos are comes first. Each operation takes its time for each
    # image, so that the rest is out of the way.
    is_turned = orientation != 1
    return tf.cond(
        tf.io.is_jpeg(data) & ~is_turned,
        of_window,
        lambda: lazily(of_other, data, orientation),
    )


def _cut(image, boxes, first=(0, 0)):
    """The parts of an image in boxes, of which `first` is its corner."""
    corners, sizes = boxes[:, :2] - first, boxes[:, 2:]
    return tuple(
        image[top : top + height, left : left + width]
        for (top, left), (height, width) in zip(
            map(tf.unstack, tf.unstack(corners)),
            map(tf.unstack, tf.unstack(sizes)),
        )
    )


def _around(boxes, size):
    """The part (4,) of a JPEG of some size that holds boxes (V, 4)."""
    first = tf.reduce_min(boxes[:, :2], axis=0) - _JPEG_MARGIN
    first = tf.maximum(first, 0)
    last = tf.reduce_max(boxes[:, :2] + boxes[:, 2:], axis=0) + _JPEG_MARGIN
    last = tf.minimum(last, size)
    return tf.concat([first, last - first], axis=0)


def _with_channels(image, channels):
    """An image (H, W, 1) or (H, W, 3) with so many channels."""
    if image.shape[-1] == channels:
        return image
    is_color = tf.shape(image)[-1] >= 3
    if channels == 3:
        image = tf.cond(
            is_color,
            lambda: image,
            lambda: tf.repeat(image, 3, axis=-1),
        )
    else:
        image = tf.cond(
            is_color,
            lambda: _to_grayscale(image),
            lambda: image,
        )
    return tf.ensure_shape(image, (None, None, channels))


def crop_and_resize(image, image_size):
    """Crops to the largest central box of the right aspect and resizes it.

    Args:
        image: uint8 or uint16 tensor (H, W, C).
        image_size: Pair of integers (height, width) in pixels.

    Returns:
        Tensor (height, width, C) of the same dtype, bicubic and antialiased.
    """
    height, width = image_size
    # int64, since a panorama's pixels times `height` can exceed 2 ** 31.
    shape = tf.shape(image, tf.int64)
    box_height = tf.minimum(shape[0], shape[1] * height // width)
    box_width = tf.minimum(shape[1], shape[0] * width // height)
    box_height = tf.maximum(box_height, tf.ones_like(box_height))
    box_width = tf.maximum(box_width, tf.ones_like(box_width))
    top = (shape[0] - box_height) // 2
    left = (shape[1] - box_width) // 2
    box = image[top : top + box_height, left : left + box_width]
    resized = tf.image.resize(box, image_size, "bicubic", antialias=True)
    # Bicubic overshoots; saturate_cast clips.
    return tf.saturate_cast(tf.round(resized), image.dtype)


def _to_grayscale(image):
    """uint8 (H, W, 3) to (H, W, 1), rounded; `tf.image` would truncate."""
    gray = tf.image.rgb_to_grayscale(tf.cast(image, tf.float32))
    return tf.cast(tf.round(gray), tf.uint8)
