"""Compositions and layers that are not of this library, under the contract."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simclr_keras import augmentation

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), "uint8")


def sequential(*layers):
    return augmentation.as_augmentation(keras.Sequential(list(layers)))


def test_a_composition_of_one_layer_draws_as_the_layer():
    layer = augmentation.RandomCutout(seed=3)
    alone = layer.apply(IMAGES, key=layer.key(5))
    composed = sequential(layer)
    np.testing.assert_array_equal(
        composed.apply(IMAGES, key=composed.key(5)), alone
    )


def test_two_layers_of_one_class_with_one_seed_draw_independently():
    # A cutout of a quarter of the side covers 16 of 256 pixels at most. If the
    # second fell on the first, no image would lose more.
    def cutout():
        return augmentation.RandomCutout(size=0.25, seed=1)

    white = np.full((64, 16, 16, 1), 255, "uint8")
    views = ops.convert_to_numpy(sequential(cutout(), cutout()).apply(white))
    covered = (views == 0).sum(axis=(1, 2, 3))
    assert covered.max() > 16
    # Two independent squares overlap in few of the images.
    assert np.mean(covered > 16) > 0.5


def test_a_composition_in_a_composition():
    def noise():
        return augmentation.RandomGaussianNoise(stddev=0.2, seed=1)

    nested = sequential(noise(), keras.Sequential([noise(), noise()]))
    flat = ops.convert_to_numpy(nested.apply(IMAGES, key=nested.key(0)))
    again = ops.convert_to_numpy(nested.apply(IMAGES, key=nested.key(0)))
    np.testing.assert_array_equal(flat, again)
    assert np.abs(
        flat - ops.convert_to_numpy(nested.apply(IMAGES, key=nested.key(1)))
    ).max()


def test_the_keys_of_a_composition_are_those_of_its_draws():
    def make():
        return sequential(
            augmentation.RandomResizedCrop(8, 8, seed=1),
            augmentation.RandomColorJitter(seed=1),
        )

    moving, fixed = make(), make()
    for number in range(3):
        np.testing.assert_array_equal(
            moving.apply(IMAGES), fixed.apply(IMAGES, key=fixed.key(number))
        )


def test_a_cut_batch_gets_what_the_whole_one_gets():
    views = sequential(
        augmentation.RandomResizedCrop(8, 8, seed=1),
        augmentation.RandomCutout(seed=1),
    )
    key = views.key(2)
    whole = ops.convert_to_numpy(views.apply(IMAGES, key=key))
    parts = [
        views.apply(IMAGES[start : start + 5], np.arange(start, 12)[:5], key)
        for start in (0, 5, 10)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


def test_evaluation_is_the_crops():
    views = sequential(
        augmentation.RandomResizedCrop(8, 8, seed=1),
        augmentation.RandomHorizontalFlip(1.0, seed=1),
    )
    prepare = views.evaluation()
    np.testing.assert_array_equal(
        prepare(IMAGES), augmentation.CenterCropAndResize(8, 8, 1.0)(IMAGES)
    )
    small = IMAGES[:, :8, :8]
    np.testing.assert_array_equal(prepare(small), small)
    assert sequential(augmentation.RandomRotation()).evaluation() is None


def test_xla_may_compile_what_all_layers_allow():
    class Own(augmentation.RandomImageLayer):
        pass

    assert sequential(augmentation.RandomRotation()).jit_compile
    assert not sequential(augmentation.RandomRotation(), Own()).jit_compile
    assert not sequential(keras.layers.RandomFlip()).jit_compile


def test_layers_must_agree_on_the_range():
    with pytest.raises(ValueError, match=r"\(0, 1\), \(0, 255\)"):
        sequential(
            augmentation.RandomCutout(value_range=(0, 1)),
            augmentation.RandomRotation(),
        )


def test_what_is_no_layer():
    with pytest.raises(TypeError, match="function"):
        augmentation.as_augmentation(lambda images: images)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.RandomTranslation(0.4, 0.4, seed=2),
        lambda: keras.layers.RandomContrast(0.9, seed=2),
    ],
)
def test_a_keras_layer_repeats_under_a_key_and_goes_on_after(make, in_graph):
    layer, untouched = make(), make()
    foreign = augmentation.as_augmentation(layer)
    floats = IMAGES.astype("float32")
    layer(floats), untouched(floats)

    def under(number):
        return foreign.apply(floats, key=foreign.key(number, seed=7))

    under = tf.function(under) if in_graph else under
    first, second, first_again = under(0), under(1), under(0)
    np.testing.assert_array_equal(first, first_again)
    assert np.abs(ops.convert_to_numpy(first - second)).max() > 1
    # The layer's own draws are where they were.
    np.testing.assert_array_equal(
        foreign.apply(floats), untouched(floats, training=True)
    )


def test_a_keras_layer_in_evaluation():
    prepare = sequential(
        keras.layers.Resizing(8, 8), keras.layers.RandomFlip("horizontal")
    ).evaluation()
    np.testing.assert_allclose(
        prepare(IMAGES), keras.layers.Resizing(8, 8)(IMAGES), atol=1e-4
    )


def test_floats_in_0_to_1_are_told_of():
    layer = augmentation.RandomHorizontalFlip(seed=1)
    images = np.full((2, 4, 4, 3), 0.5, "float32")
    with pytest.warns(UserWarning, match=r"floats that lie in \[0, 1\]"):
        layer(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(images)  # once
        augmentation.RandomHorizontalFlip(value_range=(0, 1))(images)
        augmentation.RandomHorizontalFlip()(images * 255)
        tf.function(augmentation.RandomHorizontalFlip())(images)
