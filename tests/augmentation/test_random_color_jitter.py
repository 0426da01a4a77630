import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras import ops

from simclr_keras import augmentation
from tests import checks
from tests.augmentation.references import jitter_image

DRAWS = 20_000
ORDERS = list(itertools.permutations(range(4)))
# float32: four operations and four clips, each of some ten roundings of 6e-8,
# and a contrast or saturation of 1.8 scales the error of what came before.
ATOL = 5e-6


def draw(**kwargs):
    layer = augmentation.RandomColorJitter(seed=1, **kwargs)
    parameters = layer.draw((DRAWS, 8, 8, 3))
    return {k: np.array(v) for k, v in parameters.items()}


def supplied_draw(additive=False, seed=0):
    """One image of each order, with factors over the whole of the ranges."""
    rng = np.random.default_rng(seed)
    n = len(ORDERS)
    low, high = (-0.8, 0.8) if additive else (0.2, 1.8)
    return {
        "brightness": rng.uniform(low, high, n).astype("float32"),
        "contrast": rng.uniform(0.2, 1.8, n).astype("float32"),
        "saturation": rng.uniform(0.2, 1.8, n).astype("float32"),
        "hue": rng.uniform(-0.2, 0.2, n).astype("float32"),
        "order": np.array(ORDERS, "int32"),
    }


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_transform_equals_tf_image_in_all_orders(additive, seed):
    parameters = supplied_draw(additive, seed)
    images = np.random.default_rng(seed).random((len(ORDERS), 6, 5, 3))
    images = images.astype("float32")
    layer = augmentation.RandomColorJitter(additive_brightness=additive)
    result = layer.transform(
        ops.array(images), **{k: ops.array(v) for k, v in parameters.items()}
    )
    expected = [
        jitter_image(x, *row, additive)
        for x, *row in zip(images, *parameters.values())
    ]
    checks.assert_same(result, np.stack(expected), atol=ATOL)


def test_transform_without_color_equals_brightness_and_contrast():
    parameters = supplied_draw()
    images = np.random.default_rng(0).random((len(ORDERS), 6, 5, 2))
    images = images.astype("float32")
    layer = augmentation.RandomColorJitter(saturation=0, hue=0)
    result = layer.transform(
        ops.array(images), **{k: ops.array(v) for k, v in parameters.items()}
    )
    expected = []
    for image, b, c, order in zip(
        images,
        parameters["brightness"],
        parameters["contrast"],
        parameters["order"],
    ):
        for operation in order:
            if operation == 0:
                image = image * b
            if operation == 1:
                mean = image.mean(axis=(0, 1), dtype="float64")
                image = (image - mean) * c + mean
            image = np.clip(image, 0, 1)
        expected.append(image)
    checks.assert_same(result, np.stack(expected), atol=ATOL)


def test_every_order_is_as_likely():
    orders = [tuple(row) for row in draw()["order"].tolist()]
    assert set(orders) == set(ORDERS)
    counts = [orders.count(order) for order in ORDERS]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "arguments", "low", "high"),
    [
        ("brightness", {"brightness": 0.4}, 0.6, 1.4),
        ("brightness", {"brightness": 1.6}, 0.0, 2.6),
        (
            "brightness",
            {"brightness": 0.4, "additive_brightness": True},
            -0.4,
            0.4,
        ),
        ("contrast", {"contrast": 0.4}, 0.6, 1.4),
        ("contrast", {"contrast": 1.6}, 0.0, 2.6),
        ("saturation", {"saturation": 0.4}, 0.6, 1.4),
        ("saturation", {"saturation": 1.6}, 0.0, 2.6),
        ("hue", {"hue": 0.1}, -0.1, 0.1),
        ("hue", {"hue": 0.5}, -0.5, 0.5),
    ],
)
def test_factors_are_uniform_in_their_ranges(name, arguments, low, high):
    values = draw(probability=1.0, **arguments)[name].astype("float64")
    assert values.min() >= low - 1e-6  # float32 rounding at 2.6
    assert values.max() <= high + 1e-6
    test = scipy.stats.kstest(values, "uniform", (low, high - low))
    assert test.pvalue > 1e-3


def test_the_four_factors_and_the_order_are_independent():
    parameters = draw(probability=1.0)
    columns = [parameters[k] for k in list(parameters)[:4]]
    columns += list(np.argsort(parameters["order"], axis=1).T[:3])
    correlation = np.corrcoef(columns)
    # The places of two operations in a permutation of four go with -1/3.
    expected = np.eye(7)
    expected[4:, 4:] = np.where(np.eye(3), 1, -1 / 3)
    assert np.abs(correlation - expected).max() < 4.5 / np.sqrt(DRAWS)


def test_an_image_is_changed_by_all_four_or_by_none():
    parameters = draw(probability=0.3)
    neutral = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0}
    changed = [parameters[name] != value for name, value in neutral.items()]
    np.testing.assert_array_equal(np.all(changed, axis=0), changed[0])
    np.testing.assert_array_equal(np.any(changed, axis=0), changed[0])


def test_strength_zero_changes_nothing():
    images = np.random.default_rng(0).random((8, 6, 5, 3), "float32")
    layer = augmentation.RandomColorJitter(
        0, 0, 0, 0, probability=1.0, value_range=(0, 1), seed=1
    )
    checks.assert_same(layer(images), images, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("brightness", lambda x, f: tf.clip_by_value(x * f, 0, 1)),
        ("contrast", tf.image.adjust_contrast),
        ("saturation", tf.image.adjust_saturation),
        ("hue", tf.image.adjust_hue),
    ],
)
def test_each_strength_alone_leaves_the_others_out(name, operation):
    images = np.random.default_rng(0).random((8, 6, 5, 3), "float32")
    strengths = dict.fromkeys(
        ("brightness", "contrast", "saturation", "hue"), 0.0
    )
    layer = augmentation.RandomColorJitter(
        **{**strengths, name: 0.4}, probability=1.0, seed=1
    )
    parameters = layer.draw(images.shape)
    factors = np.array(parameters[name])
    assert len(set(factors.tolist())) == len(images)
    expected = [np.clip(operation(x, f), 0, 1) for x, f in zip(images, factors)]
    result = layer.transform(ops.array(images), **parameters)
    checks.assert_same(result, np.stack(expected), atol=ATOL)


@pytest.mark.parametrize("channels", [1, 5])
def test_without_saturation_and_hue_any_channel_count_works(channels):
    images = np.random.default_rng(0).random((4, 6, 5, channels), "float32")
    layer = augmentation.RandomColorJitter(
        saturation=0, hue=0, value_range=(0, 1), probability=1.0, seed=1
    )
    views = np.array(layer(images))
    assert views.shape == images.shape
    assert np.abs(views - images).max() > 0.05


@pytest.mark.parametrize("arguments", [{"hue": 0}, {"saturation": 0}, {}])
def test_color_needs_three_channels(arguments):
    layer = augmentation.RandomColorJitter(**arguments)
    with pytest.raises(ValueError, match=r"RandomColorJitter needs.* 1\b"):
        layer(np.zeros((2, 6, 5, 1)))


def test_defaults_are_the_papers():
    layer = augmentation.RandomColorJitter()
    strengths = layer.brightness, layer.contrast, layer.saturation, layer.hue
    assert strengths == (0.8, 0.8, 0.8, 0.2)
    assert layer.probability == 0.8
    assert not layer.additive_brightness


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("brightness", -0.1),
        ("contrast", -0.1),
        ("saturation", float("nan")),
        ("hue", 0.6),
        ("hue", -0.1),
    ],
)
def test_bad_arguments(name, value):
    checks.check_rejects(augmentation.RandomColorJitter, name, value)
