"""From an image file of any format and size to a tensor of known shape."""

import numpy as np
import tensorflow as tf


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


def try_load_image_file(path, image_size, channels):
    """Reads, decodes, crops and resizes an image file, if that is possible.

    Args:
        path: String tensor ().
        image_size: Pair of integers (height, width) in pixels.
        channels: 1 or 3.

    Returns:
        (is_valid, image): a boolean (), and uint8 (height, width, channels),
        zeros if the file cannot be read or decoded.
    """

    def load(path):
        image = decode_image(tf.io.read_file(path), channels)
        return True, crop_and_resize(image, image_size)

    # The try and except of a graph: a failure leaves the first dataset empty,
    # and the element of the second one takes its place. This costs 0.1 ms per
    # image; a `tf.py_function` costs two to three times the whole decoding,
    # because its threads wait for each other.
    loaded = tf.data.Dataset.from_tensors(path).map(load).ignore_errors()
    zeros = tf.zeros((*image_size, channels), tf.uint8)
    failed = tf.data.Dataset.from_tensors((False, zeros))
    return loaded.concatenate(failed).take(1).get_single_element()


def decode_image(data, channels):
    """Decodes JPEG, PNG, BMP, or the first frame of a GIF.

    The format is detected from the data. Images are converted to `channels`;
    transparency is dropped; 16 bits are reduced to 8; CMYK is converted. A
    rotation in the EXIF data is not applied.

    Args:
        data: String tensor (), the content of the file.
        channels: 1 or 3.

    Returns:
        uint8 tensor (H, W, channels).
    """
    image = tf.io.decode_image(data, channels=0, expand_animations=False)
    image = tf.cond(
        (tf.strings.substr(data, 0, 2) == "BM") & (tf.shape(image)[-1] == 1),
        lambda: _look_up_bmp_palette(data, image),
        lambda: image,
    )
    return _with_channels(image, channels)


def decode_jpeg_window(data, window, channels):
    """Decodes a part of a JPEG; otherwise as `decode_image`.

    Args:
        data: String tensor (), the content of the file.
        window: int32 tensor (4,): top, left, height and width in pixels.
        channels: 1 or 3.

    Returns:
        uint8 tensor (height, width, channels).
    """
    image = tf.io.decode_and_crop_jpeg(data, window, channels=0)
    return _with_channels(image, channels)


def decode_boxes(data, channels, draw, decode, decode_window=None):
    """Decodes an image once, and cuts boxes out of it.

    Of a JPEG only the part that holds the boxes is decoded; its pixels are
    those of the whole image.

    Args:
        data: String tensor (), the content of the file.
        channels: Integer C.
        draw: Function of (rows, columns), the size of the whole image, int32
            tensors (), that returns the boxes: int32 (V, 4), each top, left,
            height and width in pixels. V is known.
        decode: Function from `data` to the whole image (H, W, C).
        decode_window: Function of (data, window) for JPEG, to the part of the
            image in a window, a box. None decodes every image as a whole.

    Returns:
        List of V tensors (height, width, C).
    """

    def whole():
        image = decode(data)
        return tf.shape(image)[:2], image

    def around():
        window = _around(boxes, size)
        return decode_window(data, window), window[:2]

    # Drawn at one place, as it is much of the graph: of a JPEG the size is read
    # first, of other formats all.
    if decode_window is None:
        size, image = whole()
    else:
        is_jpeg = tf.io.is_jpeg(data)
        size, image = tf.cond(
            is_jpeg,
            lambda: (
                tf.io.extract_jpeg_shape(data)[:2],
                tf.zeros((0, 0, channels), tf.uint8),
            ),
            whole,
        )
    boxes = draw(size[0], size[1])
    first = tf.zeros((2,), tf.int32)
    if decode_window is not None:
        image, first = tf.cond(is_jpeg, around, lambda: (image, first))
    start, size = boxes[:, :2] - first, boxes[:, 2:]
    return [
        image[top : top + height, left : left + width]
        for (top, left), (height, width) in zip(
            map(tf.unstack, tf.unstack(start)),
            map(tf.unstack, tf.unstack(size)),
        )
    ]


def _around(boxes, size):
    """The part (4,) of a JPEG of some size that holds boxes (V, 4)."""
    first = tf.reduce_min(boxes[:, :2], axis=0) - _JPEG_MARGIN
    first = tf.maximum(first, 0)
    last = tf.reduce_max(boxes[:, :2] + boxes[:, 2:], axis=0) + _JPEG_MARGIN
    last = tf.minimum(last, size)
    return tf.concat([first, last - first], axis=0)


def _with_channels(image, channels):
    """An image (H, W, 1), (H, W, 3) or (H, W, 4) with so many channels."""
    is_color = tf.shape(image)[-1] >= 3
    if channels == 3:
        image = tf.cond(
            is_color,
            lambda: image[..., :3],
            lambda: tf.repeat(image[..., :1], 3, axis=-1),
        )
    else:
        image = tf.cond(
            is_color,
            lambda: _to_grayscale(image[..., :3]),
            lambda: image[..., :1],
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


def _look_up_bmp_palette(data, indices):
    """Colors of a BMP with a palette, which TensorFlow decodes to indices.

    The header has the offset of the pixels at byte 10 and the length of its
    second part at byte 14; the palette, 4 bytes (B, G, R, 0) per entry, lies
    between the two.
    """
    pixels = tf.io.decode_raw(tf.strings.substr(data, 10, 4), tf.int32)[0]
    header = tf.io.decode_raw(tf.strings.substr(data, 14, 4), tf.int32)[0]
    start = 14 + header
    length = (pixels - start) // 4 * 4
    palette = tf.io.decode_raw(tf.strings.substr(data, start, length), tf.uint8)
    palette = tf.reshape(palette, (-1, 4))[:, 2::-1]
    return tf.gather(palette, tf.cast(indices[..., 0], tf.int32))


def _to_grayscale(image):
    """uint8 (H, W, 3) to (H, W, 1), rounded; `tf.image` would truncate."""
    gray = tf.image.rgb_to_grayscale(tf.cast(image, tf.float32))
    return tf.cast(tf.round(gray), tf.uint8)
