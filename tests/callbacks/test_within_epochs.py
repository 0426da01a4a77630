"""Checkpoints within an epoch: at a signal, and every so many steps."""

import signal
import time
import warnings

import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras import augmentation, data
from simclr_keras.callbacks import Checkpoints, StopOnInterrupt
from simclr_keras.callbacks import checkpoints as checkpoints_file
from simclr_keras.callbacks.training_state import training_state
from tests.callbacks.small import X, Y, fit, make_model
from tests.data.pictures import picture


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
    with pytest.raises(KeyboardInterrupt, match="Training is saved in"):
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
    again = Checkpoints(tmp_path, keep=1, monitor="loss", mode="max")
    fit(model := make_model(), [], epochs=1)
    assert again.restore(model) == 3
    assert again.best() == (1, 0)


class Logs(keras.callbacks.Callback):
    """Logs values of its own, epoch by epoch; None is no value."""

    def __init__(self, values, first=0):
        super().__init__()
        self.values, self.first = values, first

    def on_epoch_end(self, epoch, logs=None):
        value = self.values[epoch - self.first]
        if value is not None:
            logs["q"] = value


@pytest.mark.parametrize(
    ("values", "mode", "first", "expected"),
    [
        ([5.0, 7.0, 8.0], "min", 3, (4, 0)),
        ([np.nan, 0.5, 0.9, 0.2, 0.1], "max", 0, (3, 0)),
        ([None, 3.0, None, 1.0, None], "min", 0, (4, 0)),
        ([1.0, 2.0, 2.0], "max", 0, (2, 0)),
        ([np.nan, np.nan], "max", 0, None),
    ],
)
def test_the_best_is_that_of_its_epoch(values, mode, first, expected, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, monitor="q", mode=mode)
    last = first + len(values)
    fit(
        make_model(),
        [Logs(values, first), checkpoints],
        initial_epoch=first,
        epochs=last,
    )
    assert checkpoints.best() == expected
    kept = {expected, (last, 0)} - {None}
    assert checkpoints.positions() == sorted(kept)


def test_a_monitor_that_nothing_logs(tmp_path):
    checkpoints = Checkpoints(tmp_path, monitor="val_loss")
    with pytest.warns(UserWarning, match=r"'val_loss', and logs of \['loss'\]"):
        fit(make_model(), [checkpoints])
    assert checkpoints.best() is None


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("knn_accuracy", "max"), ("val_loss", "min"), ("z_entropy", "min")],
)
def test_names_that_tell_what_is_best(monitor, mode, tmp_path):
    assert Checkpoints(tmp_path, monitor=monitor).mode == mode
    with pytest.raises(ValueError, match=r"`mode` must be.*'h_rank_me'"):
        fit(make_model(), [Checkpoints(tmp_path, monitor="h_rank_me")])
    assert not any(tmp_path.iterdir())


def test_the_best_of_a_run_that_is_resumed_with_another_monitor(tmp_path):
    def train(monitor, values, first):
        model = make_model()
        checkpoints = Checkpoints(tmp_path, keep=1, monitor=monitor, mode="min")
        done = checkpoints.restore(model)
        assert done == first
        logs = Logs(values, first)
        last = first + len(values)
        callbacks = [logs, checkpoints]
        fit(model, callbacks, initial_epoch=first, epochs=last)
        return checkpoints.best()

    assert train("q", [5.0, 0.5, 3.0], first=0) == (2, 0)
    # The loss falls: that of the last epoch is the lowest.
    assert train("loss", [0.25], first=3) == (4, 0)
    assert train(None, [0.1], first=4) is None
    assert train("q", [0.2], first=5) == (5, 0)


def test_the_best_of_a_run_that_is_older_than_its_note(tmp_path, monkeypatch):
    def without(model, notes, metrics):
        return training_state(model, {"history": notes["history"]}, metrics)

    arguments = {"keep": 1, "monitor": "q", "mode": "max"}
    model = make_model()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_file, "training_state", without)
        logs = Logs([0.1, 0.9, 0.2])
        fit(model, [logs, Checkpoints(tmp_path, **arguments)], epochs=3)
    checkpoints = Checkpoints(tmp_path, **arguments)
    done = checkpoints.restore(model)
    logs = Logs([0.4], first=done)
    fit(model, [logs, checkpoints], initial_epoch=done, epochs=4)
    assert checkpoints.positions() == [(2, 0), (4, 0)]


@pytest.mark.parametrize(
    ("minutes", "steps"), [(0.5, [1, 2, 3, 4]), (1, [2, 4]), (2.5, [])]
)
def test_every_so_many_minutes(minutes, steps, tmp_path, monkeypatch):
    class HalfAMinuteAStep(keras.callbacks.Callback):
        now = 1e6

        def on_train_batch_begin(self, batch, logs=None):
            self.now += 30

    clock = HalfAMinuteAStep()
    monkeypatch.setattr(checkpoints_file.time, "monotonic", lambda: clock.now)
    checkpoints = Checkpoints(tmp_path, every_minutes=minutes, keep=9)
    fit(make_model(), [clock, checkpoints], epochs=1)
    # After the last step it is that of the epoch.
    within = [(0, step) for step in steps if step < 4]
    assert checkpoints.positions() == [(0, 0), *within, (1, 0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "repeats", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_a_dataset_that_does_not_read_what_is_done(repeats, tmp_path):
    (tmp_path / "photos").mkdir()
    for k in range(8):
        picture(20 + k, 24, seed=k).save(tmp_path / "photos" / f"{k}.png")
    images = data.load_image_folder(
        tmp_path / "photos", image_size=16, in_memory=False
    ).train

    def train(folder, *callbacks):
        keras.utils.set_random_seed(0)
        crop = augmentation.RandomResizedCrop(8, 8, seed=1)
        model = simclr_keras.SimCLRModel(
            keras.Sequential(
                [
                    keras.Input((8, 8, 3)),
                    keras.layers.Flatten(),
                    keras.layers.Dense(4),
                ]
            ),
            simclr_keras.ProjectionHead(4),
            augmentation=crop,
        )
        model.compile(simclr_keras.LARS(0.1), jit_compile=False)
        checkpoints = Checkpoints(tmp_path / folder)
        done = checkpoints.restore(model)
        dataset = data.training_dataset(
            images,
            2,
            initial_epoch=done,
            initial_step=checkpoints.step,
            crop=crop,
        )
        model.fit(
            dataset.repeat() if repeats else dataset,
            steps_per_epoch=4 if repeats else None,
            initial_epoch=done,
            epochs=3,
            verbose=0,
            callbacks=[*callbacks, checkpoints],
        )
        return checkpoints, state(model)

    expected, straight = train("straight")
    with pytest.raises(KeyboardInterrupt):
        train("broken", SignalAt(1, 1, signal.SIGTERM))
    positions = Checkpoints(tmp_path / "broken").positions()
    assert positions == [(1, 0), (1, 2)]
    found, resumed = train("broken")
    assert found.step == 2
    for name, values in expected.history.items():
        # float32, summed in an order that depends on threads.
        np.testing.assert_allclose(found.history[name], values, rtol=1e-5)
    for here, there in zip(resumed, straight, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)


def test_the_number_of_steps_in_one_execution_must_divide(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(),
            [SignalAt(0, 0, signal.SIGTERM), Checkpoints(tmp_path)],
        )
    model = make_model()
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "mse", steps_per_execution=2
    )
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(model) == 0
    with pytest.raises(
        ValueError, match="steps_per_execution=2, after 1 steps"
    ):
        fit(model, [checkpoints])


def test_two_steps_in_one_execution(tmp_path):
    def model():
        made = make_model(dropout=1)
        made.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            "mse",
            steps_per_execution=2,
        )
        return made

    straight, again = model(), model()
    fit(straight, [], epochs=2)
    with pytest.raises(KeyboardInterrupt):
        fit(
            model(),
            [SignalAt(1, 0, signal.SIGTERM), Checkpoints(tmp_path)],
            epochs=2,
        )
    checkpoints = Checkpoints(tmp_path)
    done = checkpoints.restore(again)
    assert (done, checkpoints.step) == (1, 2)
    fit(again, [checkpoints], initial_epoch=done, epochs=2)
    for here, there in zip(state(again), state(straight), strict=True):
        np.testing.assert_array_equal(here, there)


def test_both_callbacks_hear_one_signal(tmp_path):
    for callbacks in (
        [StopOnInterrupt(), Checkpoints(tmp_path / "a")],
        [Checkpoints(tmp_path / "b"), StopOnInterrupt()],
    ):
        with pytest.raises(KeyboardInterrupt):
            fit(make_model(), [SignalAt(0, 1, signal.SIGINT), *callbacks])
    assert Checkpoints(tmp_path / "b").positions() == [(0, 0), (0, 2)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"every_steps": 0}, ValueError),
        ({"every_steps": 1.5}, TypeError),
        ({"every_minutes": 0}, ValueError),
        ({"every_minutes": float("nan")}, ValueError),
        ({"every_minutes": "10"}, TypeError),
        ({"mode": "best"}, ValueError),
    ],
)
def test_wrong_arguments(arguments, error, tmp_path):
    with pytest.raises(error, match=next(iter(arguments))):
        Checkpoints(tmp_path, **arguments)


@pytest.mark.parametrize("asks", [True, False])
def test_the_same_model_goes_on_in_the_same_process(asks, tmp_path):
    """As in a notebook whose cell is stopped, or fails, and is run again."""
    straight, model = make_model(dropout=1), make_model(dropout=1)
    expected = fit(straight, [], epochs=3).history["loss"]
    checkpoints = Checkpoints(tmp_path)

    def fail(batch, logs=None):
        raise KeyboardInterrupt

    if asks:
        ends = SignalAt(1, 1, signal.SIGINT)
    else:
        ends = SignalAt(9, 9, signal.SIGINT)
        fails_at = 5  # The second step of the second epoch has begun.
        count = []
        ends.on_train_batch_begin = lambda batch, logs=None: (
            count.append(batch),
            len(count) > fails_at and fail(batch),
        )
    with pytest.raises(KeyboardInterrupt):
        fit(model, [ends, checkpoints], epochs=3)
    fit(model, [checkpoints], initial_epoch=1, epochs=3)
    found = checkpoints.history["loss"]
    if asks:
        assert found == expected
    else:
        assert found[0] == expected[0]
        assert found[2] == expected[2]
    for here, there in zip(state(model), state(straight), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.slow
def test_stopped_again_and_again(tmp_path):
    straight = make_model(dropout=1)
    expected = fit(straight, [], epochs=3).history["loss"]
    for at in ((0, 1), (0, 3), (1, 0), (1, 2), (2, 2), (9, 9)):
        model, checkpoints = make_model(dropout=1), Checkpoints(tmp_path)
        done = checkpoints.restore(model)
        try:
            fit(
                model,
                [SignalAt(*at, signal.SIGTERM), checkpoints],
                initial_epoch=done,
                epochs=3,
            )
        except KeyboardInterrupt:
            assert Checkpoints(tmp_path).positions()[-1] == (at[0], at[1] + 1)
    assert checkpoints.history["loss"] == expected
    for here, there in zip(state(model), state(straight), strict=True):
        np.testing.assert_array_equal(here, there)


def test_signals_are_heard_while_fit_runs_and_not_after_it(tmp_path):
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    within = []

    def look(batch, logs=None):
        within.append([signal.getsignal(number) for number in numbers])

    looks = keras.callbacks.LambdaCallback()
    looks.on_train_batch_end = look
    fit(make_model(), [Checkpoints(tmp_path), looks])
    assert [signal.getsignal(number) for number in numbers] == before
    assert not set(within[0]) & set(before)


def test_of_several_the_last_is_discarded(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    fit(make_model(), [checkpoints], epochs=3)
    checkpoints.discard_unproven()
    assert checkpoints.positions() == [(0, 0), (1, 0), (2, 0)]


def test_the_last_step_of_an_epoch_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path, every_steps=4, keep=9)
    fit(make_model(), [checkpoints], epochs=2)
    assert checkpoints.positions() == [(0, 0), (1, 0), (2, 0)]
    # It is the end of the epoch that another step may prove.
    checkpoints.discard_unproven()
    assert checkpoints.positions() == [(0, 0), (1, 0)]


def test_an_epoch_that_was_left_at_its_last_step_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(),
            [SignalAt(1, 3, signal.SIGTERM), checkpoints],
            epochs=3,
        )
    assert checkpoints.positions() == [(0, 0), (1, 0), (1, 4)]
    again, checkpoints = make_model(), Checkpoints(tmp_path, keep=9)
    fit(
        again, [checkpoints], initial_epoch=checkpoints.restore(again), epochs=2
    )
    assert checkpoints.positions() == [(0, 0), (1, 0), (2, 0)]


def test_a_new_callback_discards_nothing(tmp_path):
    fit(make_model(), [Checkpoints(tmp_path)], epochs=2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.discard_unproven()
    assert checkpoints.positions() == [(1, 0), (2, 0)]


@pytest.mark.parametrize("is_first", [True, False])
def test_stop_on_interrupt_leaves_it_to_checkpoints(is_first, tmp_path):
    callbacks = [StopOnInterrupt(), Checkpoints(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(),
            [
                SignalAt(1, 1, signal.SIGTERM),
                *callbacks[:: 1 if is_first else -1],
            ],
            epochs=3,
        )
    assert callbacks[1].positions()[-1] == (1, 2)
    # By itself it stops as ever.
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(),
            [SignalAt(0, 1, signal.SIGTERM), callbacks[0]],
            epochs=1,
        )


def test_other_steps_in_an_epoch_are_refused_within_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(),
            [SignalAt(1, 1, signal.SIGTERM), Checkpoints(tmp_path)],
            epochs=3,
        )
    again, checkpoints = make_model(), Checkpoints(tmp_path)
    done = checkpoints.restore(again)
    arguments = {"initial_epoch": done, "epochs": 3, "verbose": 0}
    with pytest.raises(
        ValueError, match=r"of an epoch of 4 steps, and data of 8"
    ):
        again.fit(X, Y, 1, callbacks=[checkpoints], **arguments)
    # Between two epochs it may be changed.
    checkpoints = Checkpoints(tmp_path / "other")
    fit(make_model(), [checkpoints], epochs=1)
    again, checkpoints = make_model(), Checkpoints(tmp_path / "other")
    arguments["initial_epoch"] = checkpoints.restore(again)
    again.fit(X, Y, 1, callbacks=[checkpoints], **arguments)
    assert checkpoints.positions()[-1] == (3, 0)


def test_what_is_still_being_written_is_discarded(tmp_path, monkeypatch):
    """An error ends `fit` while the last checkpoint is on its way."""

    class FailsInTheThird(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError

    def slow_replace(source, path):
        if "epoch_00002" in path:
            time.sleep(0.5)
        replace(source, path)

    replace = checkpoints_file.replace
    monkeypatch.setattr(checkpoints_file, "replace", slow_replace)
    checkpoints = Checkpoints(tmp_path, keep=9)
    with pytest.raises(RuntimeError):
        fit(make_model(), [FailsInTheThird(), checkpoints], epochs=3)
    assert checkpoints.positions() == [(0, 0), (1, 0)]
    checkpoints.discard_unproven()
    assert checkpoints.positions() == [(0, 0), (1, 0)]


def test_a_checkpoint_that_failed_is_told_of_within_the_epoch(
    tmp_path, monkeypatch
):
    class Looks(keras.callbacks.Callback):
        told = ()

        def on_train_batch_end(self, batch, logs=None):
            time.sleep(0.2)  # The writing is over before the last step.
            texts = [str(each.message) for each in found]
            self.told = (*self.told, ["The disk is bad." in t for t in texts])

    def failing_replace(source, path):
        if "epoch_00001" in path:
            raise OSError("The disk is bad.")
        replace(source, path)

    replace = checkpoints_file.replace
    monkeypatch.setattr(checkpoints_file, "replace", failing_replace)
    looks = Looks()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fit(make_model(), [Checkpoints(tmp_path), looks], epochs=2)
    assert [sum(told) for told in looks.told][3::4] == [0, 1]
