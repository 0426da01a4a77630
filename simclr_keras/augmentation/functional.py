"""The arithmetic of the augmentations: a batch with parameters per image.

Nothing here is random. Images are float tensors (B, H, W, C) with values in
[0, 1]; every parameter is a tensor (B,) that holds one number an image.
Results are not clipped, as `tf.image` does not clip floats either; the layers
that draw the parameters clip.

Cropping and blurring are products with one small matrix along the rows and
one along the columns: static shapes and no gather, which is what XLA and
accelerators like best.
"""

import numbers
import operator

import keras
from keras import ops

from simclr_keras.argument_checks import check_number, to_numbers
from simclr_keras.augmentation.images import check_images

# ITU-R BT.601, with the digits of `tf.image.rgb_to_grayscale`.
_LUMA = (0.2989, 0.587, 0.114)
# `tf.image.resize` looks the bicubic kernel up in a table of this many steps
# a pixel; the same steps here make the results equal to float32 rounding.
_BICUBIC_STEPS = 1024
# Far more than an image has pixels along a side; each takes memory.
_MOST_TAPS = 2**20


def adjust_brightness(images, factor):
    """Multiplies images by a factor each.

    Args:
        images: Float tensor (B, H, W, C) in [0, 1].
        factor: Float tensor (B,), not negative; 1 changes nothing.

    Returns:
        Float tensor (B, H, W, C), not clipped.

    Example:
        >>> import keras
        >>> from simclr_keras.augmentation import functional
        >>> brighter = functional.adjust_brightness(
        ...     keras.ops.ones((2, 8, 8, 3)) / 2, keras.ops.array([0.8, 1.2])
        ... )

    Reference:
        - SimCLRv2 code; the first paper's adds a number instead.
    """
    images, factor = _checked("adjust_brightness", images, factor=factor)
    return images * per_image(factor)


def adjust_contrast(images, factor):
    """Scales the distance of every pixel from the mean of its channel.

    Equals `tf.image.adjust_contrast` of each image.

    Args:
        images: Float tensor (B, H, W, C) in [0, 1].
        factor: Float tensor (B,); 1 changes nothing.

    Returns:
        Float tensor (B, H, W, C), not clipped.
    """
    images, factor = _checked("adjust_contrast", images, factor=factor)
    mean = ops.mean(images, axis=(1, 2), keepdims=True)
    return (images - mean) * per_image(factor) + mean


def adjust_saturation(images, factor):
    """Multiplies the saturation of HSV, which stops at 1.

    Equals `tf.image.adjust_saturation` of each image.

    Args:
        images: Float tensor (B, H, W, 3) in [0, 1].
        factor: Float tensor (B,), not negative; 1 changes nothing.

    Returns:
        Float tensor (B, H, W, 3).

    Raises:
        ValueError: If the images do not have three channels.
    """
    images, factor = _checked("adjust_saturation", images, factor=factor)
    check_three_channels(images.shape[-1], "adjust_saturation")
    value = ops.max(images, axis=-1, keepdims=True)
    chroma = value - ops.min(images, axis=-1, keepdims=True)
    scale = saturation_scale(value, chroma, per_image(factor))
    return value + (images - value) * scale


def saturation_scale(value, chroma, factor):
    """The scale about V = max(RGB) that multiplies the saturation by `factor`.

    HSV has S = chroma / V, so with hue and V kept, S -> min(factor S, 1) moves
    every channel by x -> V + (x - V) min(factor, 1 / S). Gray stays gray.
    """
    safe = where(chroma > 0, chroma, 1.0)
    return where(chroma > 0, ops.minimum(factor, value / safe), 0.0)


def adjust_hue(images, delta):
    """Turns the hue of HSV.

    Equals `tf.image.adjust_hue` of each image.

    Args:
        images: Float tensor (B, H, W, 3) in [0, 1].
        delta: Float tensor (B,), in turns: 1 is the full circle, 0 changes
            nothing.

    Returns:
        Float tensor (B, H, W, 3).

    Raises:
        ValueError: If the images do not have three channels.
    """
    images, delta = _checked("adjust_hue", images, delta=delta)
    check_three_channels(images.shape[-1], "adjust_hue")
    return turn_hue(images, per_image(delta), axis=-1)


def turn_hue(images, delta, axis):
    """`adjust_hue` with the channels along `axis` and `delta` of any shape."""
    red, green, blue = ops.split(images, 3, axis=axis)
    value = ops.maximum(ops.maximum(red, green), blue)
    chroma = value - ops.minimum(ops.minimum(red, green), blue)
    safe = where(chroma > 0, chroma, 1.0)
    # The hue in sixths of a turn: 0 red, 2 green, 4 blue. Gray has hue 0.
    hue = 6.0 * delta + ops.where(
        value == red,
        (green - blue) / safe,
        ops.where(
            value == green,
            2.0 + (blue - red) / safe,
            4.0 + (red - green) / safe,
        ),
    )

    def channel(offset):
        # The channel as a trapezoid of the hue: V on two sixths of the circle
        # around its own colour, V - chroma opposite, straight lines between.
        sixth = hue + offset
        sixth = sixth - 6.0 * ops.floor(sixth / 6.0)
        return value - chroma * ops.clip(
            ops.minimum(sixth, 4.0 - sixth), 0.0, 1.0
        )

    return ops.concatenate(
        [channel(5.0), channel(3.0), channel(1.0)], axis=axis
    )


def rgb_to_grayscale(images):
    """The luma of each pixel; equals `tf.image.rgb_to_grayscale`.

    Args:
        images: Float tensor (B, H, W, 3).

    Returns:
        Float tensor (B, H, W, 1).

    Raises:
        ValueError: If the images do not have three channels.
    """
    (images,) = _checked("rgb_to_grayscale", images)
    check_three_channels(images.shape[-1], "rgb_to_grayscale")
    return luma(images, axis=-1)


def luma(images, axis):
    """The weighted sum of the three channels along `axis`, which stays."""
    channels = ops.split(images, 3, axis=axis)
    return sum(weight * x for weight, x in zip(_LUMA, channels))


def gaussian_blur(images, sigma, kernel_size):
    """Convolves images with a Gaussian each, zeros beyond the border.

    Args:
        images: Float tensor (B, H, W, C).
        sigma: Float tensor (B,), positive: standard deviations in pixels.
        kernel_size: Taps of the kernel along a side, an integer, one for all;
            an even one counts as the odd number above it. The taps sum to 1.

    Returns:
        Float tensor (B, H, W, C).
    """
    images, sigma = _checked("gaussian_blur", images, sigma=sigma)
    check_kernel_size(kernel_size)
    return from_planes(blur_planes(to_planes(images), sigma, kernel_size))


def crop_and_resize(
    images, top, left, height, width, size, interpolation="bicubic"
):
    """Cuts a box out of each image and resizes it.

    The box counts as an image of its own: no pixel outside it is read. Equals
    `tf.image.resize(image[top : top + height, left : left + width], size,
    method=interpolation)`, without antialiasing.

    Args:
        images: Float tensor (B, H, W, C).
        top: Integer or float tensor (B,), whole numbers of pixels, as the
            other three; the boxes lie inside the image.
        left: As `top`.
        height: As `top`.
        width: As `top`.
        size: Pair (height, width) of the result, or one integer for both.
        interpolation: `"bicubic"`, `"bilinear"` or `"nearest"`.

    Returns:
        Float tensor (B, size[0], size[1], C). Bicubic results can lie outside
        the range of the image by up to a quarter of it.

    Raises:
        ValueError: If `interpolation` or `size` is none of these.

    Example:
        >>> import keras
        >>> from simclr_keras.augmentation import functional
        >>> images = keras.random.uniform((2, 32, 48, 3))
        >>> top, left = keras.ops.array([0, 4]), keras.ops.array([8, 0])
        >>> side = keras.ops.array([16, 28])
        >>> views = functional.crop_and_resize(
        ...     images, top, left, side, side, size=24
        ... )
        >>> tuple(views.shape)
        (2, 24, 24, 3)
    """
    images, *box = _checked(
        "crop_and_resize",
        images,
        "float32",  # Pixels are counted in it.
        top=top,
        left=left,
        height=height,
        width=width,
    )
    return from_planes(
        resize_planes(to_planes(images), *box, size, interpolation)
    )


def center_crop_and_resize(
    images, size, crop_proportion=0.875, interpolation="bicubic"
):
    """The evaluation preprocessing: the middle of each image, resized.

    The box is the largest of the result's aspect ratio, times
    `crop_proportion`, rounded to whole pixels.

    Args:
        images: Float tensor (B, H, W, C).
        size: Pair (height, width) of the result, or one integer for both.
        crop_proportion: Float in (0, 1], side of the box to side of the image.
        interpolation: As in `crop_and_resize`.

    Returns:
        Float tensor (B, size[0], size[1], C).

    Raises:
        ValueError: If an argument is out of its range.
    """
    (images,) = _checked("center_crop_and_resize", images)
    crop_proportion = check_crop_proportion(crop_proportion)
    out_height, out_width = standardize_size(size)
    _, rows, columns, _ = ops.shape(images)
    rows, columns = (ops.cast(side, "float32") for side in (rows, columns))
    aspect_ratio = out_width / out_height
    height = ops.minimum(rows, columns / aspect_ratio)
    width = ops.minimum(columns, rows * aspect_ratio)
    # A box of no pixels has no values.
    height = ops.maximum(ops.round(crop_proportion * height), 1.0)
    width = ops.maximum(ops.round(crop_proportion * width), 1.0)
    top = ops.floor((rows - height + 1) / 2)
    left = ops.floor((columns - width + 1) / 2)
    box = (top, left, height, width)  # scalars: one box serves all images
    return crop_and_resize(images, *box, (out_height, out_width), interpolation)


def to_planes(images):
    """Images (B, H, W, C) as rows of channels, (B, H, C, W).

    In this layout the row and the column product need nothing moved, and a
    channel's pixels lie side by side, as vector units want them.
    """
    return ops.transpose(images, (0, 1, 3, 2))


def from_planes(planes):
    """Undoes `to_planes`."""
    return ops.transpose(planes, (0, 1, 3, 2))


def blur_planes(planes, sigma, kernel_size):
    """`gaussian_blur` of planes (B, H, C, W)."""
    # Below a hundredth of a pixel all taps but the middle one are 0 in every
    # precision; the square of a smaller one might be 0 as well.
    sigma = ops.reshape(ops.maximum(sigma, 0.01), (-1, 1, 1))
    reach = kernel_size // 2

    def band(size):  # -> (B, size, size)
        distance = ops.arange(size)[:, None] - ops.arange(size)[None, :]
        squares = ops.cast(distance * distance, planes.dtype)
        weights = ops.exp(-squares / (2 * sigma**2))
        return where(ops.abs(distance) <= reach, weights, 0.0)

    # The sum over all taps, those that fall beyond the border included.
    taps = ops.cast(ops.arange(-reach, reach + 1), planes.dtype)
    total = ops.sum(
        ops.exp(-(taps**2) / (2 * sigma**2)), axis=-1, keepdims=True
    )
    _, height, _, width = ops.shape(planes)
    return _multiply(planes, band(height) / total, band(width) / total)


def resize_planes(planes, top, left, height, width, size, interpolation):
    """`crop_and_resize` of planes (B, H, C, W)."""
    out_height, out_width = standardize_size(size)
    check_interpolation(interpolation)
    _, rows, _, columns = ops.shape(planes)
    return _multiply(
        planes,
        _resize_matrix(rows, top, height, out_height, interpolation),
        _resize_matrix(columns, left, width, out_width, interpolation),
    )


def _multiply(planes, row_matrix, column_matrix):
    """Multiplies planes by a matrix (B, h, H) and another (B, w, W).

    A matrix (1, h, H) serves every image.
    """
    _, height, channels, width = ops.shape(planes)
    out_height = ops.shape(row_matrix)[1]
    out_width = ops.shape(column_matrix)[1]
    planes = ops.reshape(planes, (-1, height, channels * width))
    planes = ops.matmul(row_matrix, planes)  # (B, h, C W)
    planes = ops.reshape(planes, (-1, out_height * channels, width))
    column_matrix = ops.transpose(column_matrix, (0, 2, 1))
    planes = ops.matmul(planes, column_matrix)  # (B, h C, w)
    return ops.reshape(planes, (-1, out_height, channels, out_width))


def per_image(values):
    """Reshapes one number an image, (B,), to (B, 1, 1, 1)."""
    return ops.reshape(values, (-1, 1, 1, 1))


def _checked(who, images, dtype=None, **parameters):
    """Images as a tensor, and what goes with them in a dtype.

    Args:
        who: String, what messages call the function.
        images: Tensor or array.
        dtype: Of the parameters. None is that of the images.
        **parameters: Tensors, arrays or numbers, one for each image or one
            for all.

    Returns:
        List of tensors: the images, then the parameters.

    Raises:
        TypeError: If images are not floats, or parameters no numbers.
        ValueError: If images are not (B, H, W, C), or parameters not (B,).
    """
    check_images(images, who)
    images = ops.convert_to_tensor(images)
    shape = tuple(images.shape)
    if len(shape) != 4:
        raise ValueError(
            f"{who} takes images (B, H, W, C). Received: images.shape={shape}."
        )
    if not keras.backend.is_float_dtype(images.dtype):
        raise TypeError(
            f"{who} takes images of a float dtype, in [0, 1]. Received: images "
            f"of dtype {keras.backend.standardize_dtype(images.dtype)}."
        )
    result = [images]
    for name, values in parameters.items():
        values = to_numbers(name, values)
        count = tuple(values.shape)
        if len(count) > 1 or (
            count
            and None not in (*count, shape[0])
            and count[0] not in (1, shape[0])
        ):
            raise ValueError(
                f"`{name}` must have the shape (B,), a number for each image. "
                f"Received: {name}.shape={count} for images.shape={shape}."
            )
        result.append(ops.cast(values, dtype or images.dtype))
    return result


def arithmetic_dtype(layer):
    """What a layer computes in: its compute dtype, but float32 at least."""
    return keras.backend.result_type(layer.compute_dtype, "float32")


def standardize_size(size, name="size"):
    """Returns `size` as a pair of positive integers (height, width)."""
    is_sequence = isinstance(size, (list, tuple))
    pair = tuple(size) if is_sequence else (size, size)
    if len(pair) != 2 or not all(map(_is_count, pair)):
        raise ValueError(
            f"`{name}` must be a positive integer or a pair (height, width) "
            f"of them. Received: {name}={size!r}."
        )
    return tuple(map(operator.index, pair))


def _is_count(value):
    """Whether it is a positive integer, NumPy's too."""
    is_integer = isinstance(value, numbers.Integral)
    return is_integer and not isinstance(value, bool) and value > 0


def check_kernel_size(kernel_size):
    """Raises a `ValueError` unless it is a sensible number of taps."""
    if not isinstance(kernel_size, int) or not 0 < kernel_size <= _MOST_TAPS:
        raise ValueError(
            f"`kernel_size` must be a positive integer, at most {_MOST_TAPS}. "
            f"Received: kernel_size={kernel_size!r}."
        )


def check_interpolation(interpolation):
    """Raises a `ValueError` if there is no such interpolation."""
    if not isinstance(interpolation, str) or interpolation not in _KERNELS:
        raise ValueError(
            f"`interpolation` must be one of {sorted(_KERNELS)}. Received: "
            f"interpolation={interpolation!r}."
        )


def check_crop_proportion(crop_proportion):
    """Returns a number in (0, 1]; raises for anything else."""
    return check_number(
        "crop_proportion",
        crop_proportion,
        "lie in (0, 1]",
        lambda x: 0 < x <= 1,
    )


def check_three_channels(channels, who):
    """Raises a `ValueError` if the images are known not to be RGB."""
    if channels is not None and channels != 3:
        raise ValueError(
            f"{who} needs images with three channels (RGB). Received images "
            f"with {channels}. Leave it out for images without colour; "
            "brightness, contrast, crop, flip and blur work on any number of "
            "channels."
        )


def _resize_matrix(in_size, start, extent, out_size, interpolation):
    """The weights (B, out_size, in_size) of a box's pixels in the result's."""
    kernel, steps = _KERNELS[interpolation]
    start = ops.cast(ops.reshape(start, (-1, 1)), "float32")
    extent = ops.cast(ops.reshape(extent, (-1, 1)), "float32")
    out = ops.arange(out_size, dtype="float32")[None, :]
    # Pixels are squares with their centres at halves.
    center = (out + 0.5) * (extent / out_size) - 0.5  # (B, out), in the box
    if steps:
        whole = ops.floor(center)
        center = whole + ops.round((center - whole) * steps) / steps
    pixel = ops.arange(in_size, dtype="float32")[None, :]
    pixel = (pixel - start)[:, None, :]  # (B, 1, in), in the box
    weights = kernel(pixel - center[:, :, None])  # (B, out, in)
    inside = (pixel >= 0) & (pixel < extent[:, :, None])
    weights = where(inside, weights, 0.0)
    # Near the border some taps fall outside the box; the others stand in.
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _nearest(x):
    # The pixel whose square holds the point; a point between two goes right.
    return ops.cast((x > -0.5) & (x <= 0.5), "float32")


def _bilinear(x):
    return ops.maximum(1.0 - ops.abs(x), 0.0)


def _bicubic(x):
    # Keys' cubic convolution with a = -1/2.
    x = ops.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x <= 1, near, where(x < 2, far, 0.0))


_KERNELS = {
    "bicubic": (_bicubic, _BICUBIC_STEPS),
    "bilinear": (_bilinear, None),
    "nearest": (_nearest, None),
}


def where(condition, x, number):
    """`ops.where`, in the dtype of `x`: Keras gives a number that of floatx."""
    return ops.where(condition, x, ops.cast(number, x.dtype))


def cast_floats(values, dtype):
    """A tensor of floats in another dtype; any other tensor as it is."""
    is_float = keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(values.dtype)
    )
    return ops.cast(values, dtype) if is_float else values
