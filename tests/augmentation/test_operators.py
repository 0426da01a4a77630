"""Blur, grayscale, flip, cutout, rotation, noise, Sobel; the center crop."""

import itertools

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras import ops

from simclr_keras import augmentation
from simclr_keras.augmentation import functional
from tests import checks

DRAWS = 20_000
# float32 at values in [0, 1], some ten roundings of 6e-8.
ATOL = 1e-6
YES_AND_NO = np.array([True, False, True, False])


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, "float32")


def draw(layer, *shape):
    parameters = layer.draw((DRAWS, *shape))
    return {k: np.array(v) for k, v in parameters.items()}


def where_yes(changed, images):
    """The changed images for True in YES_AND_NO, the others as they are."""
    return np.where(YES_AND_NO[:, None, None, None], changed, images)


# Flip.


def test_flip_mirrors_left_to_right():
    images = random_images(4, 5, 7, 2)
    layer = augmentation.RandomHorizontalFlip()
    result = layer.transform(ops.array(images), is_flipped=YES_AND_NO)
    checks.assert_same(result, where_yes(np.flip(images, axis=2), images))
    assert layer.probability == 0.5


# Grayscale.


def test_grayscale_keeps_three_channels():
    images = random_images(4, 5, 7, 3)
    layer = augmentation.RandomGrayscale()
    result = layer.transform(ops.array(images), is_gray=YES_AND_NO)
    gray = np.repeat(tf.image.rgb_to_grayscale(images), 3, axis=-1)
    checks.assert_same(result, where_yes(gray, images), atol=ATOL)
    assert layer.probability == 0.2


# Blur.


def test_blur_has_a_sigma_for_each_image():
    images = random_images(4, 12, 9, 3)
    sigma = ops.array([0.5, 1.0, 1.5, 2.0])
    layer = augmentation.RandomGaussianBlur(kernel_size=5)
    result = layer.transform(
        ops.array(images), is_blurred=YES_AND_NO, sigma=sigma
    )
    blurred = [
        functional.gaussian_blur(images[k : k + 1], sigma[k : k + 1], 5)[0]
        for k in range(4)
    ]
    checks.assert_same(result, where_yes(np.stack(blurred), images), atol=ATOL)


@pytest.mark.parametrize(
    ("height", "taps"), [(19, 1), (20, 3), (32, 3), (40, 5), (224, 23)]
)
def test_blur_takes_a_tenth_of_the_height(height, taps):
    # A column of light one pixel wide spreads over as many as there are taps.
    images = np.zeros((1, height, 49, 1), "float32")
    images[:, :, 24] = 1
    layer = augmentation.RandomGaussianBlur(
        sigma_range=(100.0, 100.0), probability=1.0, value_range=(0, 1)
    )
    row = np.array(layer(images))[0, height // 2, :, 0]
    assert np.count_nonzero(row) == taps


@pytest.mark.parametrize("sigma_range", [(0.1, 2.0), (0.5, 3.0)])
def test_blur_draws_sigma_uniformly(sigma_range):
    low, high = sigma_range
    layer = augmentation.RandomGaussianBlur(sigma_range, seed=1)
    sigma = draw(layer, 8, 8, 3)["sigma"].astype("float64")
    test = scipy.stats.kstest(sigma, "uniform", (low, high - low))
    assert test.pvalue > 1e-3


def test_blur_defaults_are_the_papers():
    layer = augmentation.RandomGaussianBlur()
    assert layer.sigma_range == (0.1, 2.0)
    assert layer.kernel_size is None
    assert layer.probability == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma_range", (0.0, 1.0)),
        ("sigma_range", (2.0, 1.0)),
        ("sigma_range", 1.0),
        ("kernel_size", 0),
        ("kernel_size", 2.5),
    ],
)
def test_blur_bad_arguments(name, value):
    checks.check_rejects(augmentation.RandomGaussianBlur, name, value)


# Cutout.


@pytest.mark.parametrize("size", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_cutout_covers_a_square(size, fill):
    images = random_images(4, 10, 13, 3)
    rows, columns = [5, 0, 9, 3], [6, 0, 12, 3]
    layer = augmentation.RandomCutout(size=size, fill=fill)
    result = layer.transform(
        ops.array(images),
        is_cut=YES_AND_NO,
        center_row=ops.array(rows, "float32"),
        center_column=ops.array(columns, "float32"),
    )
    side = int(np.rint(size * 10))  # of the shorter side
    expected = images.copy()
    for image, row, column in zip(expected, rows, columns):
        top, left = row - side // 2, column - side // 2
        # A square that leaves the image covers what is in it.
        image[max(top, 0) : top + side, max(left, 0) : left + side] = fill
    checks.assert_same(result, where_yes(expected, images))


def test_cutout_centers_are_uniform_over_the_pixels():
    layer = augmentation.RandomCutout(seed=1)
    parameters = draw(layer, 8, 5, 3)
    place = parameters["center_row"] * 5 + parameters["center_column"]
    counts = np.bincount(place.astype(int), minlength=40)
    assert len(counts) == 40
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_cutout_fill_is_a_place_in_the_value_range():
    layer = augmentation.RandomCutout(size=1.0, fill=0.25, value_range=(-1, 1))
    views = np.array(layer(np.ones((4, 6, 6, 1), "float32")))
    assert set(np.unique(views)) <= {-0.5, 1.0}
    assert -0.5 in views


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 0), ("size", 1.5), ("fill", -0.1), ("fill", 255)],
)
def test_cutout_bad_arguments(name, value):
    checks.check_rejects(augmentation.RandomCutout, name, value)


# Rotation.


def test_rotation_equals_numpy():
    images = random_images(4, 6, 6, 3)
    layer = augmentation.RandomRotation()
    result = layer.transform(ops.array(images), quarter_turns=ops.arange(4))
    expected = [np.rot90(image, k) for k, image in enumerate(images)]
    checks.assert_same(result, np.stack(expected))


def test_rotation_draws_every_turn_as_often():
    turns = draw(augmentation.RandomRotation(seed=1), 8, 8, 3)["quarter_turns"]
    counts = np.bincount(turns)
    assert len(counts) == 4
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_rotation_needs_squares():
    with pytest.raises(ValueError, match=r"square .*\(2, 6, 7, 3\)"):
        augmentation.RandomRotation()(np.ones((2, 6, 7, 3)))


# Noise.


@pytest.mark.parametrize("stddev", [0.05, 0.1])
def test_noise_is_normal(stddev):
    # At middle gray a clip is five sigma away.
    images = np.full((50, 9, 15, 3), 0.5, "float32")
    layer = augmentation.RandomGaussianNoise(stddev, value_range=(0, 1), seed=1)
    noise = (np.array(layer(images), "float64") - 0.5).ravel()
    n = noise.size  # 20,250
    assert abs(noise.mean()) < 4 * stddev / np.sqrt(n)
    assert abs(noise.std() / stddev - 1) < 4 / np.sqrt(2 * n)
    assert scipy.stats.kstest(noise / stddev, "norm").pvalue > 1e-3
    # Neither the values of a pixel nor neighbours nor images go together.
    noise = noise.reshape(images.shape)
    for a, b in (
        (noise[..., 0], noise[..., 1]),
        (noise[:, :, :-1], noise[:, :, 1:]),
        (noise[:, :-1], noise[:, 1:]),
        (noise[:-1], noise[1:]),
    ):
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(a.size)


def test_noise_is_added_where_told_to_and_clipped():
    images = random_images(4, 5, 7, 2)
    noise = np.random.default_rng(1).normal(size=images.shape)
    noise = noise.astype("float32")
    layer = augmentation.RandomGaussianNoise(stddev=0.5)
    result = layer.transform(
        ops.array(images), is_noisy=YES_AND_NO, noise=ops.array(noise)
    )
    noisy = np.clip(images + 0.5 * noise.astype("float64"), 0, 1)
    checks.assert_same(result, where_yes(noisy, images), atol=ATOL)


def test_noise_of_zero_changes_nothing():
    images = random_images(4, 5, 7, 2)
    layer = augmentation.RandomGaussianNoise(0.0, value_range=(0, 1))
    checks.assert_same(layer(images), images)


@pytest.mark.parametrize("stddev", [-0.1, float("nan")])
def test_noise_bad_arguments(stddev):
    checks.check_rejects(augmentation.RandomGaussianNoise, "stddev", stddev)


# Sobel.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("contrast", [1.0, 0.1])  # with and without clipping
def test_sobel_is_the_length_of_the_gradient(channels, contrast):
    images = random_images(4, 5, 7, channels) * contrast
    layer = augmentation.RandomSobel()
    result = layer.transform(ops.array(images), is_filtered=YES_AND_NO)
    edges = tf.image.sobel_edges(tf.constant(images))  # (B, H, W, C, 2)
    edges = np.clip(np.linalg.norm(edges, axis=-1), 0, 1)
    # Differences of sums as large as 4: some ten roundings of 2e-7.
    checks.assert_same(result, where_yes(edges, images), atol=4e-6)


def test_sobel_of_a_flat_image_is_black():
    layer = augmentation.RandomSobel(value_range=(0, 255))
    views = np.array(layer(np.full((2, 6, 6, 3), 77, "uint8")))
    np.testing.assert_array_equal(views, 0)


# Center crop.


def test_center_crop_layer_equals_the_function_and_clips():
    images = random_images(3, 30, 41, 2) > 0.5  # black and white overshoots
    images = images.astype("uint8") * 255
    layer = augmentation.CenterCropAndResize(17, 13, crop_proportion=0.7)
    expected = functional.center_crop_and_resize(
        images.astype("float32"), (17, 13), 0.7
    )
    assert np.max(expected) > 260
    # float32, at 255.
    checks.assert_same(layer(images), np.clip(expected, 0, 255), atol=1e-4)
    assert augmentation.CenterCropAndResize(17, 13).crop_proportion == 0.875


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_proportion", 0.0),
        ("crop_proportion", 1.5),
        ("interpolation", "area"),
    ],
)
def test_center_crop_bad_arguments(name, value):
    def make(**kwargs):
        return augmentation.CenterCropAndResize(8, 8, **kwargs)

    checks.check_rejects(make, name, value)


# Any pair of operators, as the paper studies them.

OPERATORS = {
    "crop": lambda: augmentation.RandomResizedCrop(12, 12, seed=1),
    "cutout": lambda: augmentation.RandomCutout(seed=1),
    "color": lambda: augmentation.RandomColorJitter(seed=1),
    "sobel": lambda: augmentation.RandomSobel(seed=1),
    "noise": lambda: augmentation.RandomGaussianNoise(seed=1),
    "blur": lambda: augmentation.RandomGaussianBlur(seed=1),
    "rotation": lambda: augmentation.RandomRotation(seed=1),
}


@pytest.mark.parametrize(
    ("first", "second"), itertools.combinations(OPERATORS, 2)
)
def test_pairs_in_a_sequential(first, second):
    images = random_images(3, 16, 16, 3) * 255
    pair = keras.Sequential([OPERATORS[first](), OPERATORS[second]()])
    views = np.array(pair(images, training=True))
    side = 12 if "crop" in (first, second) else 16
    assert views.shape == (3, side, side, 3)
    assert views.min() >= 0
    assert views.max() <= 255
    by_hand = OPERATORS[second]()(OPERATORS[first]()(images))
    checks.assert_same(views, by_hand)
    checks.assert_same(pair(images, training=False), images)


def test_a_saved_pair_goes_on_with_the_next_draw(tmp_path):
    images = random_images(3, 16, 16, 3) * 255
    pair = keras.Sequential([OPERATORS["crop"](), OPERATORS["color"]()])
    checks.check_saves_and_loads(pair, (images,), tmp_path, training=True)
