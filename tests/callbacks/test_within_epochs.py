"""Checkpoints within an epoch: at a signal, and every so many steps."""

import signal

import keras
import numpy as np
import pytest

from simclr_keras.callbacks import Checkpoints
from tests.callbacks.small import X, Y, fit, make_model


def state(model):
    return [v.numpy() for v in model.variables + model.optimizer.variables]


class SignalAt(keras.callbacks.Callback):
    def __init__(self, epoch, batch, number):
        super().__init__()
        self.at, self.number = (epoch, batch), number

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("batch", [0, 2, 3])
def test_a_signal_loses_nothing(number, batch, tmp_path):
    straight = make_model(dropout=1)
    expected = fit(straight, [], epochs=3).history["loss"]
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(dropout=1),
            [SignalAt(1, batch, number), Checkpoints(tmp_path)],
            epochs=3,
        )
    again, checkpoints = make_model(dropout=1), Checkpoints(tmp_path)
    done = checkpoints.restore(again)
    assert (done, checkpoints.step) == (1, batch + 1)
    fit(again, [checkpoints], initial_epoch=done, epochs=3)
    assert checkpoints.history["loss"] == expected
    for here, there in zip(state(again), state(straight), strict=True):
        np.testing.assert_array_equal(here, there)


def test_every_so_many_steps(tmp_path):
    checkpoints = Checkpoints(tmp_path, every_steps=3, keep=9)
    fit(make_model(), [checkpoints], epochs=2)
    assert checkpoints.positions() == [(0, 0), (0, 3), (1, 0), (1, 3), (2, 0)]


def test_a_signal_in_the_validation(tmp_path):
    def stop(batch, logs=None):
        signal.raise_signal(signal.SIGTERM)

    arguments = {"validation_data": (X, Y), "validation_batch_size": 2}
    straight = make_model()
    expected = fit(straight, [], epochs=2, **arguments).history
    stops = keras.callbacks.LambdaCallback()
    stops.on_test_batch_begin = stop
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), [stops, Checkpoints(tmp_path)], **arguments)
    again, checkpoints = make_model(), Checkpoints(tmp_path)
    assert (checkpoints.restore(again), checkpoints.step) == (0, 4)
    fit(again, [checkpoints], epochs=2, **arguments)
    assert checkpoints.history == expected


def test_the_best_is_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, monitor="loss", mode="max")
    fit(make_model(), [checkpoints], epochs=3)
    assert checkpoints.best() == (1, 0)
    assert checkpoints.positions() == [(1, 0), (3, 0)]
