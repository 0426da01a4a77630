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
