import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras import ops

from simclr_keras import augmentation
from tests import checks

DRAWS = 20_000
# Seeds are fixed, so this is no rate of failure but the size of a difference
# that would be seen: at 20,000 against 20,000 draws, 0.02 of a distribution.
SIGNIFICANCE = 1e-3


def draw(layer, rows, columns, count=DRAWS):
    """Top, left, height, width of many boxes, in float64."""
    parameters = layer.draw((count, rows, columns, 3))
    return tuple(
        ops.convert_to_numpy(parameters[name]).astype("float64")
        for name in ("top", "left", "height", "width")
    )


def draw_by_rejection(
    rows, columns, area_range, aspect_ratio_range, count=DRAWS, seed=0
):
    """The sampling of the paper: up to 100 tries, else the whole image.

    All boxes that have not fitted yet are tried again, in each of the tries.
    """
    rng = np.random.default_rng(seed)
    height = np.full(count, float(rows))
    width = np.full(count, float(columns))
    waiting = np.arange(count)
    for _ in range(100):
        area = rng.uniform(*area_range, len(waiting)) * rows * columns
        ratio = rng.uniform(*aspect_ratio_range, len(waiting))
        h = np.rint(np.sqrt(area / ratio))
        w = np.rint(np.sqrt(area * ratio))
        fits = (h <= rows) & (w <= columns)
        height[waiting[fits]], width[waiting[fits]] = h[fits], w[fits]
        waiting = waiting[~fits]
    top = rng.integers(0, (rows - height).astype(int) + 1)
    left = rng.integers(0, (columns - width).astype(int) + 1)
    return top, left, height, width


def statistics(boxes, rows, columns):
    """What is compared: shape, and place among the places there are."""
    top, left, height, width = boxes
    free_row, free_column = rows - height, columns - width
    return {
        "area": height * width / (rows * columns),
        "aspect ratio": width / height,
        "row": (top[free_row > 0] + 0.5) / (free_row[free_row > 0] + 1),
        "column": (left[free_column > 0] + 0.5)
        / (free_column[free_column > 0] + 1),
    }


@pytest.mark.parametrize(
    ("image", "target", "area_range", "aspect_ratio_range"),
    [
        ((32, 32), (32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((224, 224), (224, 224), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((100, 400), (224, 224), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((300, 170), (96, 128), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((100, 400), (32, 128), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((200, 200), (64, 64), (0.3, 0.6), (1 / 4, 2.0)),
        ((200, 200), (64, 64), (0.2, 0.9), (1.0, 1.0)),
        ((200, 200), (64, 64), (0.5, 0.5), (3 / 4, 4 / 3)),
        # So few pixels that it matters which boxes fit once they are rounded.
        ((12, 12), (12, 12), (0.5, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_boxes_are_distributed_as_by_rejection(
    image, target, area_range, aspect_ratio_range
):
    layer = augmentation.RandomResizedCrop(
        *target,
        area_range=area_range,
        aspect_ratio_range=aspect_ratio_range,
        seed=1,
    )
    ratios = [r * target[1] / target[0] for r in aspect_ratio_range]
    boxes = draw(layer, *image)
    found = statistics(boxes, *image)
    expected = statistics(draw_by_rejection(*image, area_range, ratios), *image)
    for name, values in found.items():
        test = scipy.stats.ks_2samp(values, expected[name])
        assert test.pvalue > SIGNIFICANCE, (name, test.statistic)
    # The joint distribution: how area and aspect ratio go together.
    for sign in (1, -1):
        test = scipy.stats.ks_2samp(
            *(
                s["area"] * s["aspect ratio"] ** (sign * 0.7)
                for s in (found, expected)
            )
        )
        assert test.pvalue > SIGNIFICANCE, ("joint", test.statistic)


@pytest.mark.parametrize("image", [(32, 32), (100, 400), (7, 5), (1, 1)])
def test_boxes_are_whole_pixels_within_the_image(image):
    boxes = draw(augmentation.RandomResizedCrop(16, 16, seed=1), *image)
    for values in boxes:
        np.testing.assert_array_equal(values, np.rint(values))
    top, left, height, width = boxes
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert np.all(top + height <= image[0])
    assert np.all(left + width <= image[1])


def test_every_place_is_reached():
    layer = augmentation.RandomResizedCrop(
        8, 8, area_range=(0.25, 0.25), aspect_ratio_range=(1, 1), seed=1
    )
    top, left, height, width = draw(layer, 8, 8, 2000)
    assert set(height) == set(width) == {4.0}
    counts = np.bincount((top * 5 + left).astype(int), minlength=25)
    assert scipy.stats.chisquare(counts).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("image", [(64, 64), (50, 200)])
def test_where_nothing_fits_the_whole_image_is_taken(image):
    # Nine tenths of the area at an aspect ratio of 7 are too wide for both.
    layer = augmentation.RandomResizedCrop(
        16, 16, area_range=(0.9, 1.0), aspect_ratio_range=(7, 9), seed=1
    )
    top, left, height, width = draw(layer, *image, 1000)
    assert set(height) == {float(image[0])}
    assert set(width) == {float(image[1])}
    assert set(top) == set(left) == {0.0}


def test_an_area_range_of_one_value():
    layer = augmentation.RandomResizedCrop(
        16, 16, area_range=(0.5, 0.5), seed=1
    )
    _, _, height, width = draw(layer, 200, 200)
    # Half a pixel of rounding a side.
    np.testing.assert_allclose(height * width / 200**2, 0.5, atol=0.005)


@pytest.mark.parametrize("ratios", [(1, 1), (3 / 4, 4 / 3)])
def test_an_area_range_of_the_whole_image(ratios):
    layer = augmentation.RandomResizedCrop(
        16, 16, area_range=(1.0, 1.0), aspect_ratio_range=ratios, seed=1
    )
    images = np.random.default_rng(0).random((16, 16, 16, 3), "float32") * 255
    # float32: to [0, 1] and back costs two roundings at 255.
    checks.assert_same(layer(images), images, atol=1e-4)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_transform_equals_tf_image_with_a_supplied_draw(interpolation):
    images = np.random.default_rng(0).random((6, 30, 40, 3), "float32")
    layer = augmentation.RandomResizedCrop(
        12, 20, interpolation=interpolation, seed=1
    )
    parameters = layer.draw(images.shape)
    boxes = zip(
        *(
            np.array(parameters[name]).astype(int)
            for name in ("top", "left", "height", "width")
        )
    )
    expected = []
    for image, (top, left, height, width) in zip(images, boxes):
        box = image[top : top + height, left : left + width]
        box = tf.image.resize(box, (12, 20), method=interpolation)
        expected.append(np.clip(box, 0, 1))
    result = layer.transform(ops.array(images), **parameters)
    # float32, some ten operations on values up to 1.2.
    checks.assert_same(result, np.stack(expected), atol=1e-6)


def test_bicubic_overshoot_is_clipped():
    images = np.zeros((8, 16, 16, 1), "uint8")
    images[:, :, 8:] = 255
    views = np.array(augmentation.RandomResizedCrop(40, 40, seed=1)(images))
    assert views.min() == 0
    assert views.max() == 255


def test_defaults_are_the_papers():
    layer = augmentation.RandomResizedCrop(224, 224)
    assert layer.area_range == (0.08, 1.0)
    assert layer.aspect_ratio_range == (3 / 4, 4 / 3)
    assert layer.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("area_range", (0.5, 0.1)),
        ("area_range", (0.0, 1.0)),
        ("area_range", (0.1, 1.5)),
        ("area_range", (0.1, 0.5, 1.0)),
        ("area_range", 0.5),
        ("aspect_ratio_range", (0.0, 1.0)),
        ("aspect_ratio_range", (2.0, 1.0)),
        ("interpolation", "lanczos3"),
    ],
)
def test_bad_arguments(name, value):
    def make(**kwargs):
        return augmentation.RandomResizedCrop(8, 8, **kwargs)

    checks.check_rejects(make, name, value)


@pytest.mark.parametrize("height", [0, -1, 8.0, "8"])
def test_bad_size(height):
    def make(height):
        return augmentation.RandomResizedCrop(height, 9)

    received = f"size={(height, 9)!r}"
    checks.check_rejects(make, "height", height, received=received)
