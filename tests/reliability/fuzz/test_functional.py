"""`augmentation.functional`: any image, any parameter."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from simclr_keras.augmentation import functional
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import Refused, attempt, positive

pytestmark = pytest.mark.slow

FACTORS = st.floats(0, 10, width=32)
SIZES = st.integers(1, 40)
INTERPOLATIONS = st.sampled_from(["bicubic", "bilinear", "nearest"])
# Function -> parameters of each image.
POINTWISE = {
    functional.adjust_brightness: FACTORS,
    functional.adjust_contrast: FACTORS,
    functional.adjust_saturation: FACTORS,
    functional.adjust_hue: st.floats(-3, 3, width=32),
}
# What TensorFlow makes of one image.
REFERENCES = {
    functional.adjust_brightness: lambda image, factor: image * factor,
    functional.adjust_contrast: tf.image.adjust_contrast,
    functional.adjust_saturation: tf.image.adjust_saturation,
}
FLOATS = st.sampled_from(["float16", "bfloat16", "float32", "float64"])
RTOL = {"float16": 1e-2, "bfloat16": 1e-1}


@st.composite
def image_batches(draw, dtypes=FLOATS, channels=None):
    shape = (
        draw(st.integers(1, 4)),
        draw(SIZES),
        draw(SIZES),
        draw(st.integers(1, 13)) if channels is None else channels,
    )
    values = draw(properties.values_in(shape, 0, 1))
    return properties.array_of(draw(dtypes), values)


def per_image(count, values):
    return st.lists(values, min_size=count, max_size=count)


@pytest.mark.parametrize("function", POINTWISE, ids=lambda f: f.__name__)
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_pointwise(function, data):
    colored = function in (functional.adjust_saturation, functional.adjust_hue)
    images = data.draw(image_batches(channels=3 if colored else None))
    values = data.draw(per_image(len(images), POINTWISE[function]))
    result = function(
        images, np.array(values, data.draw(st.sampled_from("fd")))
    )
    assert result.dtype == images.dtype
    result = properties.check_finite(result, *images.shape)
    if function in REFERENCES:
        for found, image, value in zip(result, images, values):
            expected = REFERENCES[function](
                tf.cast(image, "float32"), tf.constant(value, "float32")
            )
            tolerance = RTOL.get(images.dtype.name, 1e-4)
            np.testing.assert_allclose(
                found, expected, rtol=tolerance, atol=max(1, value) * tolerance
            )
    elif images.dtype.name not in RTOL:
        # A turn of the hue keeps the largest and the smallest channel.
        original = properties.as_array(images)
        for end in (np.max, np.min):
            np.testing.assert_allclose(
                end(result, axis=-1), end(original, axis=-1), atol=1e-4
            )


@properties.fuzz()
@hypothesis.given(images=image_batches(channels=3))
def test_grayscale(images):
    result = functional.rgb_to_grayscale(images)
    gray = properties.check_finite(result, *images.shape[:3], 1)
    expected = properties.as_array(images) @ [0.2989, 0.587, 0.114]
    atol = RTOL.get(images.dtype.name, 1e-5)
    np.testing.assert_allclose(gray[..., 0], expected, atol=atol)


def blur_of_one(image, sigma, kernel_size):
    """In float64, with zeros beyond the border."""
    reach = kernel_size // 2
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        width = [(0, 0)] * 3
        width[axis] = (reach, reach)
        padded = np.pad(image, width)
        count = image.shape[axis]
        image = sum(
            tap * np.take(padded, np.arange(k, k + count), axis)
            for k, tap in enumerate(taps)
        )
    return image


@properties.fuzz()
@hypothesis.given(
    images=image_batches(), kernel_size=st.integers(1, 50), data=st.data()
)
def test_blur(images, kernel_size, data):
    sigma = data.draw(per_image(len(images), positive(1e-30, 1e6)))
    result = functional.gaussian_blur(images, sigma, kernel_size)
    result = properties.check_finite(result, *images.shape)
    atol = RTOL.get(images.dtype.name, 1e-5)
    for found, image, width in zip(result, properties.as_array(images), sigma):
        if images.dtype.name in RTOL:
            assert found.min() >= 0
            assert found.max() <= 1 + atol
            continue
        expected = blur_of_one(image, width, kernel_size)
        np.testing.assert_allclose(found, expected, atol=atol)


@properties.fuzz()
@hypothesis.given(
    images=image_batches(),
    size=st.tuples(SIZES, SIZES),
    interpolation=INTERPOLATIONS,
    data=st.data(),
)
def test_crop_and_resize(images, size, interpolation, data):
    count, rows, columns, channels = images.shape
    heights = data.draw(per_image(count, st.integers(1, rows)))
    widths = data.draw(per_image(count, st.integers(1, columns)))
    tops = [data.draw(st.integers(0, rows - h)) for h in heights]
    lefts = [data.draw(st.integers(0, columns - w)) for w in widths]
    boxes = [np.array(x) for x in (tops, lefts, heights, widths)]
    result = functional.crop_and_resize(images, *boxes, size, interpolation)
    result = properties.check_finite(result, count, *size, channels)
    slack = 0.3 if interpolation == "bicubic" else 1e-2
    assert result.min() >= -slack
    assert result.max() <= 1 + slack
    exact = images.dtype.name in ("float32", "float64")
    if not exact or interpolation == "nearest":
        return  # Points between two pixels go either way, by their rounding.
    for found, image, top, left, height, width in zip(result, images, *boxes):
        expected = tf.image.resize(
            image[top : top + height, left : left + width], size, interpolation
        )
        np.testing.assert_allclose(found, expected, atol=1e-3)


@properties.fuzz()
@hypothesis.given(
    images=image_batches(),
    size=st.one_of(SIZES, st.tuples(SIZES, SIZES)),
    proportion=positive(1e-4, 1),
    interpolation=INTERPOLATIONS,
)
def test_center_crop_and_resize(images, size, proportion, interpolation):
    result = functional.center_crop_and_resize(
        images, size, proportion, interpolation
    )
    height, width = (size, size) if isinstance(size, int) else size
    shape = (len(images), height, width, images.shape[-1])
    result = properties.check_finite(result, *shape)
    if len(np.unique(properties.as_array(images))) == 1:
        atol = RTOL.get(images.dtype.name, 1e-5)
        np.testing.assert_allclose(result, result.flat[0], atol=atol)


@properties.fuzz()
@hypothesis.given(
    extent=st.integers(1, 3000), size=st.integers(1, 3000), data=st.data()
)
def test_every_point_of_a_resized_image_has_weights(extent, size, data):
    image = np.ones((1, extent, 1, 1), "float32")
    result = functional.crop_and_resize(
        image, 0, 0, extent, 1, (size, 1), data.draw(INTERPOLATIONS)
    )
    np.testing.assert_allclose(result, 1, atol=1e-5)


PARAMETERS = {
    **{function: ["factor"] for function in POINTWISE},
    functional.adjust_hue: ["delta"],
    functional.rgb_to_grayscale: [],
    functional.gaussian_blur: ["sigma", "kernel_size"],
    functional.crop_and_resize: [
        *("top", "left", "height", "width", "size", "interpolation")
    ],
    functional.center_crop_and_resize: [
        *("size", "crop_proportion", "interpolation")
    ],
}
DEFAULTS = {
    **{"factor": [1.0, 1.0], "delta": [0.0, 0.0], "sigma": [1.0, 1.0]},
    **{"kernel_size": 3, "size": 2, "interpolation": "bicubic"},
    **{"top": 0, "left": 0, "height": 4, "width": 5, "crop_proportion": 1.0},
}


@pytest.mark.parametrize("function", PARAMETERS, ids=lambda f: f.__name__)
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_anything(function, data):
    images = np.ones((2, 4, 5, 3), "float32")
    arguments = {name: DEFAULTS[name] for name in PARAMETERS[function]}
    wrong = data.draw(st.sampled_from(["images", *arguments]))
    value = data.draw(properties.odd())
    if wrong in arguments:
        # A size is what the result has: no surprise, and much memory.
        hypothesis.assume(wrong != "size" or not _is_large(value))
        arguments[wrong] = value
        result = attempt(function, images, **arguments)
    else:
        result = attempt(function, value, **arguments)
        assert result is Refused
    if result is not Refused:
        assert len(result.shape) == 4


def _is_large(value):
    numbers = np.asarray(value, object).ravel()
    return any(isinstance(x, int) and x > 100 for x in numbers)
