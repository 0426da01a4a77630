"""Steps in micro-batches on the backends whose step is not TensorFlow's."""

import keras
import numpy as np
import pytest
from keras import ops

import simclr_keras
from tests.backends import scenarios

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="tests/model has it on TensorFlow",
)
layers = keras.layers
IMAGES = scenarios.images((52, 8, 8, 3))  # 20, 20 and 12 images
LABELS = np.arange(52) % 4


def train(micro_batch_size, *norms):
    """The logs and all variables after six steps."""
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(8, 3, strides=2),
                *norms,
                layers.Activation("tanh"),
                layers.GlobalAveragePooling2D(),
            ]
        ),
        keras.Sequential([keras.Input((8,)), layers.Dense(6)]),
        simclr_keras.augmentation.RandomGaussianNoise(seed=3),
        num_classes=4,
    )
    model.compile(
        keras.optimizers.Adam(1e-2),
        simclr_keras.NTXentLoss(simclr_keras.losses.LearnedTemperature(0.5)),
        micro_batch_size=micro_batch_size,
    )
    logs = model.fit(
        IMAGES, LABELS, batch_size=20, epochs=2, verbose=0, shuffle=False
    ).history
    variables = [*model.variables, *model.optimizer.variables]
    arrays = {str(i): ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    return {**logs, **arrays}


@pytest.mark.parametrize("size", [1, 6, 10, 50])
def test_equals_the_whole_batch(size):
    found = train(size, layers.GroupNormalization(4, epsilon=1e-3))
    expected = train(None, layers.GroupNormalization(4, epsilon=1e-3))
    assert set(found) == set(expected)
    for key, value in expected.items():
        # float32, which adds up in another order; Adam divides by what is
        # small.
        np.testing.assert_allclose(
            found[key], value, rtol=0, atol=1e-3, err_msg=key
        )


def test_dropout_and_moving_statistics():
    norm = layers.BatchNormalization()
    found = train(6, norm, layers.Dropout(0.5, seed=1))
    assert all(np.isfinite(value).all() for value in found.values())
    assert np.abs(ops.convert_to_numpy(norm.moving_mean)).min() > 0
