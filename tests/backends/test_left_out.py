"""Steps that the optimizer leaves out, on whatever backend Keras runs."""

import signal

import keras
import numpy as np
import pytest
from keras import ops

import simclr_keras
from simclr_keras.callbacks import Checkpoints, StopOnNaN

RNG = np.random.default_rng(0)
# Up to 0.9: a value of 1 is the mark of images that overflow.
VIEWS = {
    f"view_{k}": 0.9 * RNG.random((32, 8, 8, 3), "float32") for k in (1, 2)
}
LABELS = RNG.integers(0, 2, 32)
BATCH = 8


class Overflow(keras.layers.Layer):
    """What a network does in a step that overflows."""

    def call(self, x):
        return ops.where(ops.max(x) > 0.95, x * np.inf, x)


def make_model(leaves_out, micro_batch_size=None, **compiling):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            Overflow(),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
        ]
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        simclr_keras.ProjectionHead(4),
        value_range=(0, 1),
        num_classes=2,
    )
    optimizer = simclr_keras.LARS(0.1)
    if leaves_out:
        optimizer = keras.optimizers.LossScaleOptimizer(
            optimizer, initial_scale=1.0
        )
    model.compile(optimizer, micro_batch_size=micro_batch_size, **compiling)
    return model


def fit(model, bad_steps=(), without=(), **kwargs):
    """An epoch; some of its four steps overflow, or are not there."""
    views = {key: view.copy() for key, view in VIEWS.items()}
    for step in bad_steps:
        views["view_2"][step * BATCH] = 1.0
    keep = [i for i in range(32) if i // BATCH not in without]
    return model.fit(
        {key: view[keep] for key, view in views.items()},
        LABELS[keep],
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        **kwargs,
    ).history


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_it_is_as_if_the_step_had_not_been(micro_batch_size):
    model, other = (make_model(b, micro_batch_size) for b in (True, False))
    history = fit(model, bad_steps=[1], callbacks=[StopOnNaN()])
    expected = fit(other, without=[1])
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        # float32: the loss is scaled by a half after the step.
        np.testing.assert_allclose(
            history[name], values, rtol=1e-5, err_msg=name
        )
    for here, there in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(here),
            ops.convert_to_numpy(there),
            rtol=1e-5,
            atol=1e-6,
            err_msg=here.path,
        )
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 3


def test_without_such_an_optimizer_it_stops():
    with pytest.raises(FloatingPointError, match="nan at step 2 of epoch 1"):
        fit(make_model(False), bad_steps=[1], callbacks=[StopOnNaN()])


def test_many_in_a_row_stop_the_run():
    stops = StopOnNaN(patience=2)
    fit(make_model(True), bad_steps=[0, 2], callbacks=[stops])
    with pytest.raises(
        FloatingPointError, match=r"2 steps in a row were.* at step 4 of"
    ):
        fit(make_model(True), bad_steps=[2, 3], callbacks=[stops])


def test_the_first_step_counts():
    with pytest.raises(FloatingPointError, match=r"1 steps .*after 0 updates"):
        fit(make_model(True), bad_steps=[0], callbacks=[StopOnNaN(patience=1)])


class StopAt(keras.callbacks.Callback):
    """Asks to stop after the third step."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            signal.raise_signal(signal.SIGTERM)


def test_steps_that_are_passed_over_are_not_left_out(tmp_path):
    stops = StopOnNaN(patience=1)
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(True),
            callbacks=[StopAt(), stops, Checkpoints(tmp_path)],
        )
    model, checkpoints = make_model(True), Checkpoints(tmp_path)
    model.build((None, 8, 8, 3))
    assert (checkpoints.restore(model), checkpoints.step) == (0, 3)
    fit(model, callbacks=[stops, checkpoints])
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 4


@pytest.mark.parametrize(
    ("patience", "error"), [(0, ValueError), (2.0, TypeError)]
)
def test_a_wrong_patience(patience, error):
    with pytest.raises(error, match=f"patience={patience}"):
        StopOnNaN(patience=patience)
