import keras
import numpy as np
import pytest

import simclr_keras


class Recorder(keras.callbacks.Callback):
    """Stands for a callback that saves at the end of an epoch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)


def make_model(learning_rate):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def fit(model, x):
    recorder = Recorder()
    stop = simclr_keras.callbacks.StopOnNaN()
    model.fit(
        x,
        np.zeros((len(x), 1)),
        batch_size=2,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[stop, recorder],
    )
    return recorder


def test_a_finite_run_is_left_alone():
    assert fit(make_model(0.01), np.ones((8, 2))).epochs == [0, 1, 2]


def test_the_step_is_named():
    images = np.ones((8, 2))
    images[4] = np.nan  # in the third batch of two
    with pytest.raises(
        FloatingPointError,
        match=r"loss became nan at step 3 of epoch 1 \(step 3 of the run\)",
    ):
        fit(make_model(0.01), images)


def test_nothing_is_saved_after_the_last_step_spoilt_the_weights():
    # One step an epoch. The first takes a finite loss and leaves weights of
    # about 1e38 behind; they, or the next loss, are infinite.
    model = make_model(1e38)
    recorder = Recorder()
    with pytest.raises(FloatingPointError, match="of epoch"):
        model.fit(
            1e3 * np.ones((2, 2)),
            np.zeros((2, 1)),
            epochs=5,
            verbose=0,
            callbacks=[simclr_keras.callbacks.StopOnNaN(), recorder],
        )
    assert recorder.epochs == []


def test_infinity_counts_too():
    with pytest.raises(FloatingPointError, match="loss became inf"):
        fit(make_model(0.0), np.full((8, 2), 1e30))


def test_moving_statistics_count_too():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.BatchNormalization()]
    )
    model.compile("sgd", "mse")

    def spoil(epoch, logs=None):
        model.layers[-1].moving_variance.assign([np.inf, 1.0])

    spoils = keras.callbacks.LambdaCallback(on_epoch_end=spoil)
    with pytest.raises(FloatingPointError, match="moving_variance"):
        model.fit(
            np.ones((4, 2)),
            np.ones((4, 2)),
            verbose=0,
            callbacks=[spoils, simclr_keras.callbacks.StopOnNaN()],
        )


def bounded(model, x, bound, y=0.0, **kwargs):
    return model.fit(
        x,
        np.full((len(x), 1), y),
        batch_size=2,
        verbose=0,
        callbacks=[simclr_keras.callbacks.StopOnNaN(bound=bound)],
        **kwargs,
    )


def test_a_loss_beyond_the_bound():
    # Targets of 10 and a rate of 0: a loss of 100 from the first step on.
    model = make_model(0.0)
    model.layers[-1].set_weights([np.zeros((2, 1)), np.zeros(1)])
    assert bounded(model, np.ones((8, 2)), 100.0, 10.0).history["loss"] == [100]
    message = r"loss became 100, .* the bound of 99.9, at step 1 of epoch 1"
    with pytest.raises(FloatingPointError, match=message):
        bounded(model, np.ones((8, 2)), 99.9, 10.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_weight_beyond_the_bound(dtype):
    model = keras.Sequential(
        [keras.Input((2,), dtype=dtype), keras.layers.Dense(1, dtype=dtype)]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    kernel = np.array([[1.0], [-64.0]])  # which all of these dtypes have
    model.layers[-1].set_weights([kernel, np.zeros(1)])
    zeros = np.zeros((4, 2))
    bounded(model, zeros, 64)
    bounded(model, zeros, 1e30)  # more than float16 has
    message = "kernel' became 64, in absolute value, beyond the bound of 63.9,"
    with pytest.raises(FloatingPointError, match=message):
        bounded(model, zeros, 63.9)
    model.layers[-1].set_weights([kernel * [[1], [np.inf]], np.zeros(1)])
    with pytest.raises(FloatingPointError, match="loss became nan"):
        bounded(model, zeros, 1e30)


def test_a_bound_looks_at_steps_that_are_not_left_out():
    model = make_model(0.0)
    model.layers[-1].set_weights([np.zeros((2, 1)), np.zeros(1)])
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.0), initial_scale=1.0
    )
    model.compile(scaled, "mse")
    with pytest.raises(FloatingPointError, match="loss became 100, "):
        bounded(model, np.ones((8, 2)), 99.9, 10.0)
    # A loss that is not finite is what such an optimizer is there for.
    bounded(model, np.full((8, 2), np.inf), 99.9)


@pytest.mark.parametrize(
    ("bound", "error"),
    [
        (0, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        ("1", TypeError),
    ],
)
def test_bounds_that_are_none(bound, error):
    with pytest.raises(error, match="`bound` must be positive"):
        simclr_keras.callbacks.StopOnNaN(bound=bound)
