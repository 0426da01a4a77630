"""What layers add to the loss beside the contrastive one, on every backend."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import simclr_keras
from tests.backends import scenarios

N = 8
IMAGES = scenarios.images((N, 8, 8, 3)).astype("float32")
EXTRA = 0.25


class AddsToTheLoss(layers.Layer):
    """Adds the same to the loss, whatever it is called on."""

    def call(self, x):
        self.add_loss(ops.convert_to_tensor(EXTRA, "float32"))
        return x


class NothingElse(simclr_keras.SimCLRModel):
    def contrastive_loss(self, projections, *args, **kwargs):
        return 0 * ops.sum(projections[0])


def model_of(micro_batch_size=None):
    keras.utils.set_random_seed(0)
    model = NothingElse(
        keras.Sequential(
            [
                keras.Input((None, None, 3)),
                layers.Conv2D(4, 3, padding="same", activity_regularizer="l2"),
                layers.GlobalAveragePooling2D(),
            ]
        ),
        keras.Sequential([layers.Dense(4), AddsToTheLoss()]),
    )
    model.compile(keras.optimizers.SGD(1e-3), micro_batch_size=micro_batch_size)
    return model


def views_of(steps):
    return {
        f"view_{k}": IMAGES[:, ::step, ::step]
        for k, step in enumerate(steps, 1)
    }


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize("steps", [(1, 1), (1, 2), (2, 1, 2)])
def test_penalties_of_every_view_count(steps, micro_batch_size):
    views = views_of(steps)
    model = model_of(micro_batch_size)
    convolution = model.encoder.layers[0]
    # Keras's l2 is 0.01 times the sum of squares, here the mean over images.
    penalty = np.mean(
        [
            0.01 * np.sum(ops.convert_to_numpy(convolution(x / 255)) ** 2) / N
            for x in views.values()
        ]
    )
    before = ops.convert_to_numpy(convolution.kernel).copy()
    history = model.fit(views, batch_size=N, verbose=0, shuffle=False)
    # float32
    assert history.history["loss"] == [pytest.approx(penalty + EXTRA, rel=1e-5)]
    moved = before - ops.convert_to_numpy(convolution.kernel)
    assert np.abs(moved).max() > 1e-5


def test_they_count_in_evaluation():
    model = model_of()
    loss = model.evaluate(
        views_of((1, 2)), batch_size=N, verbose=0, return_dict=True
    )["loss"]
    history = model.fit(views_of((1, 2)), batch_size=N, verbose=0)
    # float32
    assert loss == pytest.approx(history.history["loss"][0], rel=1e-5)
