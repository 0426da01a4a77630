import functools

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simclr_keras.augmentation import functional
from tests import checks
from tests.augmentation.references import blur_loops, cut_and_resize

# float32 has 6e-8 of rounding at 1; each result comes out of some ten
# operations, and the resizing kernels' weights are as large as 1.2.
ATOL = 1e-6


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, "float32")


def hard_colors():
    """Every color whose channels are 0, 1/2 or 1, and near ties, (1, 9, 9, 3).

    Gray has no hue, black no saturation, and where two channels share the
    largest value two formulas of the hue meet.
    """
    levels = np.array([0.0, 0.5, 1.0])
    corners = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    corners = corners.reshape(-1, 3)
    near = np.clip(corners + np.array([1e-6, 0, -1e-6]), 0, 1)
    dark = corners * 1e-3
    colors = np.concatenate([corners, near, dark])
    return colors.reshape(1, 9, 9, 3).astype("float32")


def image_by_image(function, images, *parameters):
    """Applies a function of one image and one parameter of each kind."""
    return np.stack(
        [np.asarray(function(*row)) for row in zip(images, *parameters)]
    )


def assert_near(result, expected, atol=ATOL):
    result = ops.convert_to_numpy(result)
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=atol)


# Color.


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_brightness_multiplies_each_image(channels):
    images = random_images(3, 5, 7, channels)
    factor = np.array([0.0, 1.0, 1.8], "float32")
    result = functional.adjust_brightness(ops.array(images), ops.array(factor))
    expected = image_by_image(
        lambda x, f: x.astype("float64") * f, images, factor
    )
    assert_near(result, expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_contrast_equals_tf_image(channels):
    images = random_images(4, 5, 7, channels)
    factor = np.array([0.0, 0.2, 1.0, 1.8], "float32")
    result = functional.adjust_contrast(ops.array(images), ops.array(factor))
    expected = image_by_image(tf.image.adjust_contrast, images, factor)
    assert_near(result, expected)


@pytest.mark.parametrize("factor", [0.0, 0.2, 1.0, 1.8, 5.0])
@pytest.mark.parametrize(
    "images", [random_images(3, 5, 7, 3), hard_colors()], ids=["any", "hard"]
)
def test_saturation_equals_tf_image(images, factor):
    factors = np.linspace(factor, factor + 0.1, len(images), dtype="float32")
    result = functional.adjust_saturation(ops.array(images), ops.array(factors))
    expected = image_by_image(tf.image.adjust_saturation, images, factors)
    assert_near(result, expected)


@pytest.mark.parametrize("delta", [-0.5, -0.2, 0.0, 0.2, 1 / 3, 0.5])
@pytest.mark.parametrize(
    "images", [random_images(3, 5, 7, 3), hard_colors()], ids=["any", "hard"]
)
def test_hue_equals_tf_image(images, delta):
    deltas = np.linspace(delta, delta + 0.01, len(images), dtype="float32")
    result = functional.adjust_hue(ops.array(images), ops.array(deltas))
    expected = image_by_image(tf.image.adjust_hue, images, deltas)
    # The hue counts up to 6, in steps of 5e-7, and is turned once more.
    assert_near(result, expected, atol=2e-6)


def test_grayscale_equals_tf_image():
    images = random_images(3, 5, 7, 3)
    expected = tf.image.rgb_to_grayscale(images).numpy()
    assert_near(functional.rgb_to_grayscale(ops.array(images)), expected)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.adjust_saturation(x, ops.ones(2)),
        lambda x: functional.adjust_hue(x, ops.zeros(2)),
        functional.rgb_to_grayscale,
    ],
    ids=["saturation", "hue", "grayscale"],
)
@pytest.mark.parametrize("channels", [1, 4])
def test_color_needs_three_channels(function, channels):
    with pytest.raises(ValueError, match=rf"Received.* {channels}\b"):
        function(ops.ones((2, 4, 4, channels)))


# Blur.


@pytest.mark.parametrize("kernel_size", [1, 3, 4, 7, 23])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_equals_a_zero_padded_convolution(kernel_size, channels):
    images = random_images(3, 9, 6, channels)  # smaller than 23 taps
    sigma = np.array([0.1, 0.7, 2.0], "float32")
    result = functional.gaussian_blur(
        ops.array(images), ops.array(sigma), kernel_size
    )
    loops = functools.partial(blur_loops, kernel_size=kernel_size)
    assert_near(result, image_by_image(loops, images, sigma))


# Crop and resize.


def random_boxes(count, rows, columns, seed=0):
    """Boxes (count,) x 4 of any size inside an image, the extremes first."""
    rng = np.random.default_rng(seed)
    height = rng.integers(1, rows + 1, count)
    width = rng.integers(1, columns + 1, count)
    height[0], width[0] = rows, columns
    height[1], width[1] = 1, 1
    top = rng.integers(0, rows - height + 1)
    left = rng.integers(0, columns - width + 1)
    return top, left, height, width


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((32, 32, 3), (32, 32)),
        ((24, 37, 3), (16, 16)),  # a rectangle, mostly down
        ((11, 6, 2), (28, 17)),  # up
        ((40, 9, 1), (7, 30)),  # down and up
        ((5, 5, 4), (1, 1)),
    ],
)
def test_crop_and_resize_equals_tf_image(shape, size, method):
    count = 24
    images = random_images(count, *shape)
    boxes = random_boxes(count, *shape[:2])
    result = functional.crop_and_resize(
        ops.array(images), *(ops.array(b) for b in boxes), size, method
    )
    expected = image_by_image(
        functools.partial(cut_and_resize, size=size, method=method),
        images,
        *boxes,
    )
    assert_near(result, expected)


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
def test_every_extent_is_resized_as_by_tf_image(method):
    # Where a point lies between two pixels, or between two steps of the table
    # of the bicubic kernel, a rounding decides.
    largest = 48
    extent = np.arange(1, largest + 1)
    images = random_images(largest, largest, 1, 1)
    start, one = np.zeros_like(extent), np.ones_like(extent)
    for size in (7, 24, 32):
        result = functional.crop_and_resize(
            ops.array(images),
            *(ops.array(b) for b in (start, start, extent, one)),
            (size, 1),
            method,
        )
        expected = image_by_image(
            functools.partial(cut_and_resize, size=(size, 1), method=method),
            images,
            *(start, start, extent, one),
        )
        assert_near(result, expected)


def test_no_pixel_outside_the_box_is_read():
    images = np.full((1, 12, 12, 3), np.float32(1e6))
    images[:, 3:8, 2:9] = random_images(1, 5, 7, 3)
    box = [ops.array([n]) for n in (3, 2, 5, 7)]
    result = functional.crop_and_resize(ops.array(images), *box, 20)
    expected = tf.image.resize(images[0, 3:8, 2:9], (20, 20), "bicubic")
    assert_near(result[0], expected.numpy())


def test_an_integer_size_is_a_square():
    images = ops.array(random_images(2, 9, 7, 3))
    box = [ops.array([n, n]) for n in (1, 2, 5, 4)]
    np.testing.assert_array_equal(
        functional.crop_and_resize(images, *box, 6),
        functional.crop_and_resize(images, *box, (6, 6)),
    )


def center_crop_by_hand(image, size, proportion, method):
    """The evaluation preprocessing by its definition, for one image."""
    rows, columns = image.shape[:2]
    ratio = size[1] / size[0]
    if columns / rows >= ratio:  # too wide: the height decides
        height, width = rows, rows * ratio
    else:
        height, width = columns / ratio, columns
    height = int(np.rint(np.float32(proportion * height)))
    width = int(np.rint(np.float32(proportion * width)))
    top, left = (rows - height + 1) // 2, (columns - width + 1) // 2
    return cut_and_resize(image, top, left, height, width, size, method)


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize(
    ("shape", "size", "proportion"),
    [
        ((256, 256, 3), (64, 64), 0.875),
        ((37, 50, 3), (24, 24), 0.875),
        ((50, 37, 1), (24, 24), 0.875),
        ((20, 60, 3), (16, 40), 0.875),  # wider than the result
        ((60, 61, 2), (16, 40), 0.5),  # narrower than the result
        ((33, 21, 3), (9, 9), 1.0),
        ((12, 12, 3), (12, 12), 1.0),
    ],
)
def test_center_crop_and_resize_equals_tf_image(
    shape, size, proportion, method
):
    images = random_images(2, *shape)
    result = functional.center_crop_and_resize(
        ops.array(images), size, proportion, method
    )
    by_hand = functools.partial(
        center_crop_by_hand, size=size, proportion=proportion, method=method
    )
    assert_near(result, image_by_image(by_hand, images))


def test_center_crop_defaults_are_the_papers():
    images = random_images(2, 40, 48, 3)
    result = functional.center_crop_and_resize(ops.array(images), 16)
    by_hand = functools.partial(
        center_crop_by_hand, size=(16, 16), proportion=0.875, method="bicubic"
    )
    assert_near(result, image_by_image(by_hand, images))


# Everything, under XLA and with shapes that only the graph knows.


def all_functions(images, factor, delta, sigma, top, side):
    boxes = (top, top, side, side)
    return {
        "brightness": functional.adjust_brightness(images, factor),
        "contrast": functional.adjust_contrast(images, factor),
        "saturation": functional.adjust_saturation(images, factor),
        "hue": functional.adjust_hue(images, delta),
        "grayscale": functional.rgb_to_grayscale(images),
        "blur": functional.gaussian_blur(images, sigma, 5),
        "bicubic": functional.crop_and_resize(images, *boxes, 8),
        "bilinear": functional.crop_and_resize(images, *boxes, 8, "bilinear"),
        "nearest": functional.crop_and_resize(images, *boxes, 8, "nearest"),
        "center": functional.center_crop_and_resize(images, (8, 6)),
    }


@pytest.mark.parametrize("mode", ["xla", "unknown shape"])
def test_compiled_equals_eager(mode):
    inputs = (
        random_images(5, 13, 11, 3),
        np.linspace(0.2, 1.8, 5, dtype="float32"),
        np.linspace(-0.2, 0.2, 5, dtype="float32"),
        np.linspace(0.1, 2.0, 5, dtype="float32"),
        np.arange(5, dtype="int32"),
        np.arange(5, dtype="int32") + 3,
    )
    inputs = [tf.constant(x) for x in inputs]
    signature = [tf.TensorSpec([None] * 3 + [3])]
    signature += [tf.TensorSpec([None], x.dtype) for x in inputs[1:]]
    compiled = (
        tf.function(all_functions, jit_compile=True)
        if mode == "xla"
        else tf.function(all_functions, input_signature=signature)
    )
    results = compiled(*inputs)
    for name, expected in all_functions(*inputs).items():
        np.testing.assert_allclose(
            results[name], expected, rtol=0, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize("name", ["adjust_brightness", "crop_and_resize"])
def test_examples_of_the_docstring(name):
    checks.check_examples(getattr(functional, name))


# Wrong arguments.


def crop(size=4, interpolation="bicubic"):
    box = [ops.array([n]) for n in (0, 0, 5, 5)]
    return functional.crop_and_resize(
        ops.ones((1, 6, 6, 1)), *box, size, interpolation
    )


@pytest.mark.parametrize(
    "size", [0, -3, 2.5, None, (4,), (4, 0), (4, 4, 4), (4, 2.5)]
)
def test_bad_size(size):
    with pytest.raises(ValueError, match="Received: size=") as error:
        crop(size=size)
    assert repr(size) in str(error.value)


def test_bad_interpolation():
    with pytest.raises(ValueError, match="interpolation='lanczos3'"):
        crop(interpolation="lanczos3")


@pytest.mark.parametrize("proportion", [0, -0.5, 1.01, float("nan")])
def test_bad_crop_proportion(proportion):
    with pytest.raises(ValueError, match=f"crop_proportion={proportion}"):
        functional.center_crop_and_resize(
            ops.ones((1, 6, 6, 1)), 4, crop_proportion=proportion
        )


@pytest.mark.parametrize(
    ("shape", "size", "proportion"),
    [((8, 9), (5, 2), 1e-3), ((1, 24), (24, 1), 1.0), ((30, 2), 4, 0.1)],
)
def test_center_crops_have_at_least_a_pixel(shape, size, proportion):
    images = np.ones((1, *shape, 2), "float32")
    result = functional.center_crop_and_resize(images, size, proportion)
    np.testing.assert_allclose(result, 1, atol=ATOL)


@pytest.mark.parametrize("sigma", [1e-3, 1e-23, 1e-38])
def test_a_blur_too_narrow_to_be_seen(sigma):
    images = random_images(2, 5, 6, 3)
    result = functional.gaussian_blur(images, [sigma, sigma], 3)
    np.testing.assert_array_equal(result, images)


def test_parameters_of_another_dtype():
    images = random_images(2, 5, 6, 3)
    factor = np.array([0.5, 1.5])  # float64
    expected = functional.adjust_contrast(images, factor.astype("float32"))
    result = functional.adjust_contrast(tf.constant(images), factor)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (functional.adjust_brightness, [1.0]),
        (functional.adjust_contrast, [1.0]),
        (functional.adjust_saturation, [1.0]),
        (functional.adjust_hue, [0.1]),
        (functional.rgb_to_grayscale, []),
        (functional.gaussian_blur, [1.0, 3]),
        (functional.crop_and_resize, [0, 0, 4, 4, 2]),
        (functional.center_crop_and_resize, [2]),
    ],
)
def test_what_is_refused(function, parameters):
    name = function.__name__
    with pytest.raises(TypeError, match=f"{name} takes images of a float"):
        function(np.zeros((2, 4, 4, 3), "uint8"), *parameters)
    with pytest.raises(ValueError, match=f"{name} takes images .B, H, W, C"):
        function(np.zeros((4, 4, 3), "float32"), *parameters)
    images = np.zeros((2, 4, 4, 3), "float32")
    has_some = parameters and function is not functional.center_crop_and_resize
    if has_some:
        with pytest.raises(ValueError, match=r"must have the shape \(B,\)"):
            function(images, np.ones(3), *parameters[1:])
        with pytest.raises(TypeError, match="array of numbers"):
            function(images, ["a", "b"], *parameters[1:])


@pytest.mark.parametrize("kernel_size", [0, 1.5, 2**40, None])
def test_bad_kernel_size(kernel_size):
    images = np.zeros((2, 4, 4, 3), "float32")
    with pytest.raises(ValueError, match="`kernel_size`"):
        functional.gaussian_blur(images, 1.0, kernel_size)
