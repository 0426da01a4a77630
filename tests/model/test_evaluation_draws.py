"""Evaluation draws by an image's index, and leaves training alone."""

import keras
import numpy as np
import pytest

from simclr_keras.augmentation import (
    RandomCutout,
    RandomGaussianNoise,
    RandomHorizontalFlip,
)
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    assert_equal,
    dataset,
    fit,
    tiny_model,
)


def composed():
    return keras.Sequential(
        [
            RandomHorizontalFlip(seed=7),
            RandomGaussianNoise(stddev=0.3, seed=7),
            keras.Sequential([RandomCutout(seed=7), RandomCutout(seed=7)]),
        ]
    )


AUGMENTATIONS = {
    "layer": lambda: RandomGaussianNoise(seed=7),
    "sequential": composed,
    "without_seeds": lambda: keras.Sequential(
        [RandomHorizontalFlip(), RandomGaussianNoise()]
    ),
    "with_a_keras_layer": lambda: keras.Sequential(
        [keras.layers.RandomTranslation(0.3, 0.3, seed=3), RandomCutout(seed=7)]
    ),
    "keras_layer": lambda: keras.layers.RandomTranslation(0.4, 0.4, seed=3),
    "one_for_each_view": lambda: [RandomCutout(seed=7), RandomCutout(seed=7)],
}
OWN = ("layer", "sequential", "without_seeds", "one_for_each_view")


def recorded(model, *data, **kwargs):
    """The views of an evaluation, in order."""
    views = []
    augment = model.augment

    def record(images, view=0, training=True, augmentation=None):
        result = augment(images, view, training, augmentation)
        views.append((view, np.array(result)))
        return result

    model.augment = record
    model.evaluate(*data, verbose=0, **kwargs)
    del model.augment
    return [
        np.concatenate([v for k, v in views if k == view]) for view in (0, 1)
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("with_a_keras_layer", "keras_layer", "without_seeds")
        else name
        for name in AUGMENTATIONS
    ],
)
def test_evaluation_repeats_and_leaves_the_training_alone(name):
    # In a graph, where a step draws in other ways, for one of each kind.
    in_graph = ("sequential", "with_a_keras_layer")
    compiling = {} if name in in_graph else EAGER
    alone, watched = (
        tiny_model(augmentation=AUGMENTATIONS[name](), compiling=compiling)
        for _ in range(2)
    )
    fit(alone, IMAGES)
    fit(watched, IMAGES, validation_data=(IMAGES[:8],))
    assert_equal(alone.get_weights(), watched.get_weights())
    first, second = (
        watched.evaluate(IMAGES, batch_size=8, verbose=0) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("name", OWN)
def test_views_follow_from_the_index_in_the_evaluation(name):
    model = tiny_model(augmentation=AUGMENTATIONS[name](), compiling=EAGER)
    whole = recorded(model, IMAGES, batch_size=16)
    fit(model, IMAGES, epochs=1)
    for size in (8, 4):
        cut = recorded(model, IMAGES, batch_size=size)
        for a, b in zip(whole, cut):
            # float32, in units of 255
            np.testing.assert_allclose(a, b, atol=1e-3)
    # The two views are two draws, and so are an image's in two places.
    assert np.abs(whole[0] - whole[1]).max() > 1
    same = np.repeat(IMAGES[:1], 16, axis=0)
    first, second = np.split(recorded(model, same, batch_size=8)[0], 2)
    assert np.abs(first - second).max() > 1


def test_evaluate_of_a_batch_repeats():
    model = tiny_model(augmentation=composed(), compiling=EAGER)
    losses = [model.test_on_batch(IMAGES) for _ in range(2)]
    np.testing.assert_array_equal(*losses)


def test_a_dataset_gives_what_arrays_give():
    model = tiny_model(augmentation=composed(), num_classes=4)
    by_dataset = model.evaluate(
        dataset((IMAGES, LABELS)), verbose=0, return_dict=True
    )
    by_arrays = model.evaluate(
        IMAGES, LABELS, batch_size=8, verbose=0, return_dict=True
    )
    # float32; threads may add up in another order
    assert by_dataset == pytest.approx(by_arrays, rel=1e-5)
