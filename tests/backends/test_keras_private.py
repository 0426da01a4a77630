"""What a private name of Keras on JAX is there for."""

import keras
import numpy as np
import pytest


class ByItsLoss(keras.Model):
    """Computes all it needs in `compute_loss`."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.calls = 0

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        self.calls += 1
        return x

    def compute_loss(self, x, y, y_pred, sample_weight):
        return keras.ops.mean(self.dense(x) ** 2)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's own step")
def test_keras_calls_the_model_before_its_loss():
    """When this fails, `LossWithoutForward` can go."""
    model = ByItsLoss()
    model.compile("sgd", run_eagerly=True)
    images = np.ones((4, 2), "float32")
    model.train_on_batch(images)
    built = model.calls
    model.train_on_batch(images)
    assert model.calls == built + 1
