"""Augmentation layers: any argument, any image."""

import warnings

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

from simclr_keras import augmentation
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import (
    BAD_DTYPES,
    DTYPES,
    Refused,
    attempt,
    positive,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The images are floats that lie"),
]

SIDES = st.integers(1, 9)
SHARES = st.one_of(st.sampled_from([0, 1, 0.0, 1.0]), st.floats(0, 1))
RANGES = st.sampled_from(
    [(0, 1), (0, 255), (-1, 1), (0, 65535), (-1000.5, 12.25), [0.0, 1e-3]]
)
COMMON = {
    "value_range": RANGES,
    "seed": st.sampled_from([0, 1, 7, 2**31 - 1, None]),
}
CROP = {
    "height": SIDES,
    "width": SIDES,
    "area_range": properties.pairs(positive(1e-3, 1.0)),
    "aspect_ratio_range": properties.pairs(positive(1e-2, 100.0)),
    "interpolation": st.sampled_from(["bicubic", "bilinear", "nearest"]),
}
# Layer -> the strategy of each argument.
LAYERS = {
    augmentation.RandomResizedCrop: CROP,
    augmentation.RandomHorizontalFlip: {"probability": SHARES},
    augmentation.RandomGrayscale: {"probability": SHARES},
    augmentation.RandomSobel: {"probability": SHARES},
    augmentation.RandomRotation: {},
    augmentation.RandomCutout: {
        "size": positive(1e-3, 1.0),
        "fill": SHARES,
        "probability": SHARES,
    },
    augmentation.RandomGaussianNoise: {
        "stddev": st.one_of(st.just(0), positive(1e-6, 100.0)),
        "probability": SHARES,
    },
    augmentation.RandomGaussianBlur: {
        "sigma_range": properties.pairs(positive(1e-3, 100.0)),
        "kernel_size": st.one_of(st.none(), st.integers(1, 30)),
        "probability": SHARES,
    },
    augmentation.RandomColorJitter: {
        "brightness": st.floats(0, 10),
        "contrast": st.floats(0, 10),
        "saturation": st.floats(0, 10),
        "hue": st.floats(0, 0.5),
        "probability": SHARES,
        "additive_brightness": st.booleans(),
    },
    augmentation.SimCLRAugmentation: {
        **CROP,
        "strength": st.floats(0, 5),
        "blur": st.booleans(),
        "flip": st.booleans(),
        "jitter_probability": SHARES,
        "grayscale_probability": SHARES,
        "blur_probability": SHARES,
        "evaluation_size": st.one_of(st.none(), SIDES, st.tuples(SIDES, SIDES)),
    },
    augmentation.CenterCropAndResize: {
        "height": SIDES,
        "width": SIDES,
        "crop_proportion": positive(1e-3, 1.0),
        "interpolation": CROP["interpolation"],
        "only_other_sizes": st.booleans(),
    },
}
every_layer = pytest.mark.parametrize("cls", LAYERS, ids=lambda c: c.__name__)


def arguments_of(cls):
    own = {**LAYERS[cls], **COMMON}
    if cls is augmentation.CenterCropAndResize:
        del own["seed"]
    return properties.arguments(optional=set(own) - {"height", "width"}, **own)


@st.composite
def images_for(draw, value_range, square=False, three_channels=False):
    """A batch of images, and whether it is what a layer takes."""
    rows = draw(st.integers(1, 24))
    columns = rows if square else draw(st.integers(1, 24))
    channels = 3 if three_channels else draw(st.integers(1, 13))
    count = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from(DTYPES))
    low, high = value_range
    if "int" in dtype:
        info = np.iinfo(dtype)
        low, high = max(low, info.min), min(high, info.max)
    elif dtype == "float16":
        high = min(high, float(np.finfo(dtype).max))
    values = draw(
        properties.values_in((count, rows, columns, channels), low, high)
    )
    if draw(st.integers(0, 4)) == 0:
        values = values[0]
    return properties.array_of(dtype, values)


def check_views(layer, images, views):
    """What is promised of the views of images in their range."""
    expected = layer.compute_output_shape(tuple(images.shape))
    views = keras.ops.convert_to_numpy(views)
    assert views.dtype == "float32"
    views = properties.check_finite(views, *expected)
    low, high = layer.value_range
    slack = 1e-5 * max(abs(low), abs(high), high - low)
    if images.dtype in ("float16", "bfloat16"):
        slack = 4e-3 * max(abs(low), abs(high))  # Of the image itself.
    if views.size:
        assert low - slack <= views.min(), views.min()
        assert views.max() <= high + slack, views.max()


def call(layer, images):
    kwargs = {}
    if isinstance(layer, augmentation.RandomImageLayer):
        kwargs["training"] = True
    return layer(images, **kwargs)


@every_layer
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_arguments_and_images(cls, data):
    kwargs, wrong = data.draw(arguments_of(cls))
    layer = attempt(cls, **kwargs)
    if layer is Refused:
        assert wrong is not None, kwargs
        return
    if wrong in ("height", "width") and kwargs[wrong] > 100:
        return  # As much memory as is asked for.
    # What was accepted must be of use, whatever it was.
    images = data.draw(
        images_for(
            layer.value_range,
            square=cls is augmentation.RandomRotation,
            three_channels=cls
            in (augmentation.RandomGrayscale, augmentation.RandomColorJitter),
        )
    )
    views = attempt(call, layer, images)
    if cls is augmentation.RandomSobel and 1 in images.shape[-3:-1]:
        assert views is Refused
        return
    check_views(layer, images, views)
    if kwargs.get("seed", None) is not None:
        again = cls.from_config(layer.get_config())
        np.testing.assert_array_equal(call(again, images), views)
        assert not np.shares_memory(np.asarray(views), np.asarray(images))


WRONG_IMAGES = (
    *(None, 3, 1.5, "images", b"", [], [[1, 2], [3]], {}, {"image": 1}),
    *(np.zeros(()), np.zeros(3), np.zeros((2, 3)), np.zeros((1, 2, 3, 3, 3))),
    *([np.zeros((4, 5, 3)), np.zeros((5, 4, 3))], object(), np.array(None)),
    [np.zeros((4, 4, 3)), None],
)


@every_layer
@properties.fuzz(0.5)
@hypothesis.given(data=st.data())
def test_what_are_no_images(cls, data):
    sides = {"height": 4, "width": 5}
    layer = cls(**{k: v for k, v in sides.items() if k in LAYERS[cls]})
    shape = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=5))
    dtype = data.draw(st.sampled_from((*DTYPES, *BAD_DTYPES)))
    values = data.draw(properties.values_in(tuple(shape), 0, 255))
    images = data.draw(
        st.one_of(
            st.sampled_from(WRONG_IMAGES),
            st.just(properties.array_of(dtype, values)),
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        views = attempt(call, layer, images)
    if views is not Refused:
        assert len(images.shape) in (3, 4)
        assert dtype not in BAD_DTYPES[1:]
        check_views(layer, images, views)


@properties.fuzz(0.1)
@hypothesis.given(
    count=st.sampled_from([1, 2, 4095, 8192]),
    channels=st.integers(1, 13),
    seed=st.integers(0, 2**31 - 1),
)
def test_many_tiny_images(count, channels, seed):
    layer = augmentation.SimCLRAugmentation(2, 3, seed=seed)
    images = np.random.default_rng(seed).integers(
        0, 256, (count, 3, 2, channels), "uint8"
    )
    check_views(layer, images, layer(images))


@properties.fuzz()
@hypothesis.given(
    rows=st.integers(1, 400),
    columns=st.integers(1, 400),
    crop=properties.arguments(wrong=lambda: st.just(1), **CROP),
    seed=st.integers(0, 2**31 - 1),
)
def test_boxes_lie_within_the_image(rows, columns, crop, seed):
    ranges = {k: v for k, v in crop[0].items() if isinstance(v, tuple)}
    layer = augmentation.RandomResizedCrop(5, 7, **ranges)
    numbers = np.random.default_rng(seed).random((32, 4), "float32")
    numbers[0], numbers[1] = 0, 1 - 2**-24
    boxes = {
        k: properties.check_finite(v, 32)
        for k, v in layer.boxes(numbers, rows, columns).items()
    }
    for start, extent, size in (
        ("top", "height", rows),
        ("left", "width", columns),
    ):
        assert (boxes[start] == np.floor(boxes[start])).all()
        assert (boxes[start] >= 0).all()
        assert (boxes[extent] >= 1).all()
        assert (boxes[start] + boxes[extent] <= size).all()


@properties.fuzz(0.5)
@hypothesis.given(
    layers=st.lists(
        st.sampled_from(
            [
                augmentation.RandomResizedCrop(6, 6, seed=1),
                augmentation.RandomCutout(seed=1),
                augmentation.RandomSobel(0.5, seed=1),
                augmentation.RandomRotation(value_range=(0, 1)),
                augmentation.RandomHorizontalFlip(seed=3),
                keras.layers.RandomContrast(0.5, seed=1),
                keras.layers.Rescaling(1.0),
            ]
        ),
        max_size=4,
        unique_by=id,
    ),
    number=st.integers(0, 2**31 - 1),
)
def test_compositions_repeat_under_a_key(layers, number):
    views = attempt(augmentation.as_augmentation, keras.Sequential(layers))
    ranges = {
        layer.value_range
        for layer in layers
        if isinstance(layer, augmentation.RandomImageLayer)
    }
    assert (views is Refused) == (len(ranges) > 1)
    if views is Refused:
        return
    # Some of Keras's layers take floats alone.
    images = np.random.default_rng(0).integers(0, 2, (3, 6, 6, 2))
    images = images.astype("float32")
    first, again = (views.apply(images, key=views.key(number)) for _ in "ab")
    np.testing.assert_array_equal(first, again)
    properties.check_finite(first, *views.compute_output_shape(images.shape))


@properties.fuzz()
@hypothesis.given(layer=properties.odd())
def test_what_is_no_augmentation(layer):
    assert attempt(augmentation.as_augmentation, layer) is Refused
