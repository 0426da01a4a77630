import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import simclr_keras
from simclr_keras import augmentation
from tests import checks
from tests.augmentation.references import (
    blur_loops,
    cut_and_resize,
    jitter_image,
)

DRAWS = 20_000
# float32: the sum of what crop, jitter and blur may differ from tf.image.
ATOL = 1e-5


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, "float32")


def view_by_hand(image, row, size, kernel_size):
    """The paper's operators one after the other, by tf.image and NumPy.

    `row` holds an image's own numbers of what the augmentation drew.
    """
    box = [int(row["crop"][k]) for k in ("top", "left", "height", "width")]
    image = cut_and_resize(image, *box, size, "bicubic")
    image = np.clip(image, 0, 1)
    if "horizontal_flip" in row and row["horizontal_flip"]["is_flipped"]:
        image = image[:, ::-1]
    if "color_jitter" in row:
        image = jitter_image(image, **row["color_jitter"], additive=False)
    if "light_jitter" in row:
        jitter = row["light_jitter"]
        for operation in jitter["order"]:
            if operation == 0:
                image = np.clip(image * jitter["brightness"], 0, 1)
            if operation == 1:
                image = tf.image.adjust_contrast(image, jitter["contrast"])
                image = np.clip(image, 0, 1)
    if "grayscale" in row and row["grayscale"]["is_gray"]:
        gray = tf.image.rgb_to_grayscale(image)
        image = np.repeat(gray, 3, axis=-1)
    if "gaussian_blur" in row and row["gaussian_blur"]["is_blurred"]:
        sigma = row["gaussian_blur"]["sigma"]
        image = blur_loops(np.asarray(image), sigma, kernel_size)
    return np.clip(image, 0, 1)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"strength": 0.5, "blur": False},
        {"flip": False, "strength": 0},
    ],
    ids=["imagenet", "cifar", "crop and blur"],
)
def test_a_view_is_what_the_papers_operators_make(arguments, channels):
    images = random_images(12, 30, 37, channels)
    size = (20, 24)  # the blur has three taps
    layer = augmentation.SimCLRAugmentation(
        *size,
        value_range=(0, 1),
        jitter_probability=0.5,
        grayscale_probability=0.5,
        seed=1,
        **arguments,
    )
    key = ops.array([5, 6], "int32")
    parameters = layer.draw(images.shape, key=key)
    expected = []
    for k, image in enumerate(images):
        row = keras.tree.map_structure(
            lambda x, k=k: np.array(x)[k], parameters
        )
        expected.append(view_by_hand(image, row, size, kernel_size=2))
    views = layer.apply(images, key=key)
    checks.assert_same(views, np.stack(expected), atol=ATOL)


@pytest.mark.parametrize(
    ("channels", "arguments", "expected"),
    [
        (3, {}, "crop horizontal_flip color_jitter grayscale gaussian_blur"),
        (3, {"blur": False}, "crop horizontal_flip color_jitter grayscale"),
        (3, {"flip": False}, "crop color_jitter grayscale gaussian_blur"),
        (3, {"strength": 0}, "crop horizontal_flip grayscale gaussian_blur"),
        (1, {}, "crop horizontal_flip light_jitter gaussian_blur"),
        (5, {"blur": False}, "crop horizontal_flip light_jitter"),
    ],
)
def test_operators_stand_in_the_papers_order(channels, arguments, expected):
    layer = augmentation.SimCLRAugmentation(24, 24, **arguments)
    names = [operator.name for operator in layer.operators(channels)]
    assert names == expected.split()
    assert list(layer.draw((2, 24, 24, channels))) == names


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_strength_scales_the_jitter(strength):
    layer = augmentation.SimCLRAugmentation(24, 24, strength=strength)
    for jitter in (layer.color_jitter, layer.light_jitter):
        assert jitter.brightness == jitter.contrast == 0.8 * strength
    assert layer.color_jitter.saturation == 0.8 * strength
    assert layer.light_jitter.saturation == layer.light_jitter.hue == 0
    # Half a turn to either side is every hue there is.
    assert layer.color_jitter.hue == min(0.2 * strength, 0.5)


def test_arguments_reach_the_operators():
    layer = augmentation.SimCLRAugmentation(
        24,
        28,
        area_range=(0.2, 0.7),
        aspect_ratio_range=(0.5, 1.5),
        interpolation="nearest",
        jitter_probability=0.1,
        grayscale_probability=0.3,
        blur_probability=0.6,
    )
    assert (layer.crop.height, layer.crop.width) == (24, 28)
    assert layer.crop.area_range == (0.2, 0.7)
    assert layer.crop.aspect_ratio_range == (0.5, 1.5)
    assert layer.crop.interpolation == "nearest"
    assert layer.color_jitter.probability == 0.1
    assert layer.light_jitter.probability == 0.1
    assert layer.grayscale.probability == 0.3
    assert layer.gaussian_blur.probability == 0.6


def test_defaults_are_the_papers():
    layer = simclr_keras.SimCLRAugmentation(224, 224)
    assert layer.strength == 1.0
    assert layer.blur
    assert layer.flip
    assert layer.crop.area_range == (0.08, 1.0)
    assert layer.horizontal_flip.probability == 0.5
    assert layer.color_jitter.probability == 0.8
    assert layer.color_jitter.hue == 0.2
    assert layer.grayscale.probability == 0.2
    assert layer.gaussian_blur.probability == 0.5
    assert layer.gaussian_blur.sigma_range == (0.1, 2.0)
    assert layer.value_range == (0, 255)


def decisions(layer, **kwargs):
    """What is drawn of each operator, a column each, for many images."""
    drawn = layer.draw((DRAWS, 32, 32, 3), **kwargs)
    crop = drawn["crop"]
    return {
        "flip": np.array(drawn["horizontal_flip"]["is_flipped"]),
        "jitter": np.array(drawn["color_jitter"]["brightness"]) != 1,
        "grayscale": np.array(drawn["grayscale"]["is_gray"]),
        "blur": np.array(drawn["gaussian_blur"]["is_blurred"]),
        "area": np.array(crop["height"] * crop["width"]),
        "row": np.array(crop["top"] / (32.0 - crop["height"] + 1)),
        "brightness": np.array(drawn["color_jitter"]["brightness"]),
        "first": np.array(drawn["color_jitter"]["order"][:, 0]),
        "sigma": np.array(drawn["gaussian_blur"]["sigma"]),
    }


def test_rates_are_the_papers_and_operators_are_independent():
    drawn = decisions(augmentation.SimCLRAugmentation(32, 32, seed=1))
    rates = {"flip": 0.5, "jitter": 0.8, "grayscale": 0.2, "blur": 0.5}
    for name, rate in rates.items():
        sigma = np.sqrt(rate * (1 - rate) / DRAWS)
        assert abs(drawn[name].mean() - rate) < 4 * sigma, name
    correlation = np.corrcoef(np.stack(list(drawn.values())))
    # The place of the box depends on its size through rounding, and whether
    # there is a jitter on its brightness by definition.
    names = list(drawn)
    for i, first in enumerate(names):
        for j, second in enumerate(names[:i]):
            if {first, second} not in (
                {"area", "row"},
                {"jitter", "brightness"},
            ):
                # 36 pairs, so four and a half sigma.
                assert abs(correlation[i, j]) < 4.5 / np.sqrt(DRAWS), (
                    first,
                    second,
                )


def test_the_two_views_of_an_image_are_independent():
    layer = augmentation.SimCLRAugmentation(32, 32, seed=1)
    first, second = decisions(layer), decisions(layer)
    for name in first:
        correlation = np.corrcoef(first[name], second[name])[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(DRAWS), name


def test_strength_zero_is_no_jitter():
    images = random_images(16, 24, 24, 3)
    layer = augmentation.SimCLRAugmentation(
        24,
        24,
        strength=0,
        blur=False,
        flip=False,
        area_range=(1, 1),
        aspect_ratio_range=(1, 1),
        grayscale_probability=0,
        value_range=(0, 1),
    )
    checks.assert_same(layer(images), images, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_other_channel_counts_get_no_color(channels):
    images = random_images(16, 24, 24, channels) * 255
    layer = augmentation.SimCLRAugmentation(
        24, 24, area_range=(1, 1), aspect_ratio_range=(1, 1), seed=1
    )
    views = np.array(layer(images))
    assert views.shape == images.shape
    assert np.abs(views - images).max() > 10
    assert views.min() >= 0
    assert views.max() <= 255


# Evaluation.


def test_evaluation_crops_the_middle_of_large_images():
    layer = augmentation.SimCLRAugmentation(
        48, 64, interpolation="bilinear", value_range=(-1, 1)
    ).evaluation()
    assert isinstance(layer, augmentation.CenterCropAndResize)
    assert (layer.height, layer.width) == (48, 64)
    assert layer.crop_proportion == 0.875
    assert layer.interpolation == "bilinear"
    assert layer.value_range == (-1, 1)


@pytest.mark.parametrize(
    ("size", "proportion"),
    [((32, 32), 1.0), ((28, 32), 1.0), ((33, 32), 0.875)],
)
def test_evaluation_does_not_crop_small_images(size, proportion):
    layer = augmentation.SimCLRAugmentation(*size).evaluation()
    assert layer.crop_proportion == proportion


def test_evaluation_of_small_images_of_the_size_is_identity():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), "uint8")
    layer = augmentation.SimCLRAugmentation(32, 32).evaluation()
    checks.assert_same(layer(images), images)


@pytest.mark.parametrize(
    ("size", "expected", "proportion"),
    [
        (np.int64(32), (32, 32), 1.0),
        ([40, 48], (40, 48), 0.875),
        (None, (20, 24), 1.0),
    ],
)
def test_evaluation_has_a_size_of_its_own(size, expected, proportion):
    layer = augmentation.SimCLRAugmentation(20, 24, evaluation_size=size)
    copy = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")
    for each in (layer, copy):
        evaluation = each.evaluation()
        assert (evaluation.height, evaluation.width) == expected
        assert evaluation.crop_proportion == proportion
        assert each(images, training=True).shape == (2, 20, 24, 3)
    assert copy.evaluation_size == layer.evaluation_size


# Wrong arguments. Those of the parts raise in the parts, at construction.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", -1),
        ("strength", float("nan")),
        ("area_range", (0, 1)),
        ("area_range", (0.5, 2)),
        ("aspect_ratio_range", (2, 1)),
        ("interpolation", "area"),
        ("evaluation_size", 0),
        ("evaluation_size", (32, 32.5)),
        ("evaluation_size", True),
    ],
)
def test_bad_arguments(name, value):
    def make(**kwargs):
        return augmentation.SimCLRAugmentation(8, 8, **kwargs)

    checks.check_rejects(make, name, value)


def test_bad_size():
    with pytest.raises(ValueError, match=r"size=\(0, 8\)"):
        augmentation.SimCLRAugmentation(0, 8)
