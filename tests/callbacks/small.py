"""What the tests of callbacks train: a line, in no time."""

import keras
import numpy as np

X, Y = np.ones((8, 2)), np.zeros((8, 1))


def make_model(optimizer=None, dropout=0):
    """A layer of two weights, after as many dropouts as are asked for."""
    keras.utils.set_random_seed(0)
    dropouts = [keras.layers.Dropout(0.5) for _ in range(dropout)]
    model = keras.Sequential(
        [keras.Input((2,)), *dropouts, keras.layers.Dense(1)]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


def fit(model, callbacks, **kwargs):
    """Four steps an epoch."""
    return model.fit(
        X, Y, batch_size=2, verbose=0, callbacks=callbacks, **kwargs
    )
