import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simclr_keras.evaluation import accelerator, nearest_neighbours, neighbours


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(
        keras.distribution, "list_devices", lambda: ["cpu:0", "gpu:0"]
    )


def test_an_accelerator_is_what_keras_lists(monkeypatch, gpu):
    assert accelerator.has_accelerator()
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    assert not accelerator.has_accelerator()


def test_features_stay_on_an_accelerator_alone(monkeypatch, gpu):
    assert accelerator.resident_bytes() == 2**30
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    assert accelerator.resident_bytes() == 0


@pytest.mark.parametrize("was_on", [True, False])
def test_neighbours_keep_all_digits_and_the_setting(was_on, monkeypatch, gpu):
    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    seen = []

    def matmul(*arguments):
        seen.append(config.tensor_float_32_execution_enabled())
        return ops.numpy.matmul(*arguments)

    # Where `nearest_neighbours` looks for it.
    monkeypatch.setattr(neighbours.ops, "matmul", matmul)
    config.enable_tensor_float_32_execution(was_on)
    try:
        nearest_neighbours(np.eye(4, dtype="float32"), k=1)
        assert seen == [False]
        assert config.tensor_float_32_execution_enabled() == was_on
    finally:
        config.enable_tensor_float_32_execution(before)
