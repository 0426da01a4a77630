"""Each private name is still needed: the test of one that is not fails."""

import keras
import numpy as np
import pytest
import tensorflow as tf


class Still(keras.optimizers.Optimizer):
    """An optimizer that leaves its variables where they are."""

    seen = None

    def update_step(self, gradient, variable, learning_rate):
        self.seen = variable


def test_own_weight_decay():
    # With an attribute of this name Keras decays, apart from the gradient.
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = Still(learning_rate=0.5)
    optimizer.weight_decay = 0.1
    optimizer.apply([tf.zeros(3)], [variable])
    np.testing.assert_allclose(variable, 0.95, rtol=1e-6)


def test_variable_index():
    # The variable of a step can be told by nothing that is public.
    layer = keras.layers.Dense(3, name="dense")
    layer.build((None, 2))
    optimizer = Still(learning_rate=0.5)
    kernel = layer.kernel
    optimizer.apply([tf.zeros((2, 3))], [kernel])
    assert optimizer.seen is not kernel
    assert not hasattr(optimizer.seen, "path")
    with pytest.raises(AttributeError):
        optimizer.get_variable_index(kernel)
