"""Images whose channels and bits are kept: satellites, microscopes, X-rays."""

import io

import numpy as np
import tensorflow as tf

from simclr_keras.data.decoding_by_pillow import MAX_PIXELS, pillow_image
from simclr_keras.data.decoding_cost import check_cost
from simclr_keras.data.messages import message_of
from simclr_keras.optional_imports import import_optional

DTYPES = ("uint8", "uint16")
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_PNG = b"\x89PNG"
_JPEG = b"\xff\xd8\xff"


class _NotSuchAnImageError(ValueError):
    """It can be decoded, but is not to be."""


def stored_image(data, max_pixels=MAX_PIXELS):
    """Decodes an image, with the channels and the bits that it has.

    TIFF of any number of channels, interleaved, in planes or in pages, which
    `tifffile` reads; PNG of 8 or 16 bits; of other formats what
    `decoding.decode_photo` makes of them.

    Args:
        data: Bytes, the content of the file.
        max_pixels: Integer, the largest number of pixels that is decoded.

    Returns:
        uint8 or uint16 array (H, W, C). What is transparent in a PNG is white,
        and no channel; in a TIFF opacity is one, since many programs call a
        fourth band so.

    Raises:
        ValueError: If it is not such an image.
    """
    check_cost(data)
    if data[:4] in _TIFF:
        return _of_tiff(data, max_pixels)
    if data[:4] == _PNG:
        return _of_png(data, max_pixels)
    if data[:3] == _JPEG:
        size = _decoded(tf.io.extract_jpeg_shape, data)[:2]
        _check_pixels(size, max_pixels)
        image = _decoded(tf.io.decode_jpeg, data)
        if image.shape[-1] == 4:  # CMYK
            image = _decoded(lambda d: tf.io.decode_jpeg(d, 3), data)
        return image
    return pillow_image(data, 3, max_pixels)


def decode_stored(data, channels, dtype, max_pixels=MAX_PIXELS):
    """`stored_image` in a graph, of images that are all of one kind.

    Args:
        data: String tensor (), the content of the file.
        channels: Integer C.
        dtype: "uint8" or "uint16".
        max_pixels: Integer, the largest number of pixels that is decoded.

    Returns:
        Tensor (H, W, C) of `dtype`. It fails for an image of another kind.
    """

    def decode(data):
        # Eagerly it comes as an array.
        data = data.item() if isinstance(data, np.ndarray) else data
        try:
            return checked_image(data, channels, dtype, max_pixels)
        except ValueError:  # An error would be logged, with its traceback.
            return np.zeros((0, 0, channels), dtype)

    image = tf.numpy_function(decode, [data], dtype)
    image = tf.ensure_shape(image, (None, None, channels))
    is_there = tf.debugging.assert_positive(
        tf.size(image), "It cannot be decoded."
    )
    # Eagerly the check is done and None.
    with tf.control_dependencies([] if is_there is None else [is_there]):
        return tf.identity(image)


def checked_image(data, channels, dtype, max_pixels=MAX_PIXELS):
    """`stored_image`, or a `ValueError` that says in what it differs."""
    image = stored_image(data, max_pixels)
    if image.shape[-1] != channels or image.dtype != dtype:
        raise ValueError(
            f"It has {image.shape[-1]} channels of {image.dtype}, and "
            f"{channels} of {dtype} are asked for."
        )
    return image


def _of_tiff(data, max_pixels):
    tifffile = import_optional(
        "tifffile", "tifffile", "tiff", "A TIFF as it is stored"
    )
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            if file.pages[0].photometric == tifffile.PHOTOMETRIC.PALETTE:
                return pillow_image(data, 3, max_pixels)
            # Beside an image there may be a small one of it.
            series = max(file.series, key=lambda each: each.size)
            shape, axes = series.shape, series.axes
            if len(shape) not in (2, 3) or not {"Y", "X"} <= set(axes):
                raise _NotSuchAnImageError(
                    f"It has the axes {axes}, of {shape}: rows, columns and "
                    "channels are needed."
                )
            rows, columns = axes.index("Y"), axes.index("X")
            _check_pixels((shape[rows], shape[columns]), max_pixels)
            # Of four channels of 16 bits, or of more in a smaller image.
            if series.nbytes > 8 * max_pixels:
                raise _NotSuchAnImageError(
                    f"It has {series.nbytes:,} bytes, more than 8 for each of "
                    f"`max_pixels`, {max_pixels:,}."
                )
            page = series.keyframe
            is_negative = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            dtype = np.dtype(series.dtype)
            if str(dtype.newbyteorder("=")) not in DTYPES:
                raise _NotSuchAnImageError(
                    f"Its values are {dtype.name}, whose black and white are "
                    "unknown; store them as uint8 or uint16."
                )
            image = series.asarray()
    except _NotSuchAnImageError:
        raise
    except Exception as error:  # tifffile raises whatever it meets.
        raise ValueError(f"tifffile cannot decode it: {error}.") from None
    if image.ndim == 2:
        image = image[None]
        rows, columns = 1, 2
    channel_axis = 3 - rows - columns
    image = np.transpose(image, (rows, columns, channel_axis))
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if is_negative:
        image = np.iinfo(image.dtype).max - image
    return np.ascontiguousarray(image)


def _of_png(data, max_pixels):
    if len(data) < 25:  # bytes of the header
        raise ValueError("It ends within its header.")
    _check_pixels(np.frombuffer(data[16:24], ">u4"), max_pixels)
    dtype = tf.uint16 if data[24:25] == b"\x10" else tf.uint8
    image = _decoded(lambda d: tf.io.decode_png(d, dtype=dtype), data)
    return _on_white(image) if image.shape[-1] in (2, 4) else image


def _on_white(image):
    """An image (H, W, C + 1), the last channel its opacity, as (H, W, C)."""
    white = np.iinfo(image.dtype).max
    opacity = image[..., -1:] / white
    colors = white + (image[..., :-1] - float(white)) * opacity
    return np.round(colors).astype(image.dtype)


def _check_pixels(size, max_pixels):
    if int(size[0]) * int(size[1]) > max_pixels:
        raise _NotSuchAnImageError(
            f"It has more pixels than `max_pixels`, {max_pixels:,}."
        )


def _decoded(function, data):
    try:
        with tf.device("/cpu:0"):
            return function(tf.constant(data)).numpy()
    except tf.errors.OpError as error:
        raise ValueError(message_of(error)) from None
