import io
import os

import numpy as np
import pytest

import simclr_keras
from simclr_keras.callbacks import RunProgress
from simclr_keras.callbacks.run_progress import format_seconds
from tests.callbacks.small import X, Y, fit, make_model


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is five seconds on whenever it is looked at."""
    times = iter(np.arange(0, 10_000, 5.0))
    monkeypatch.setattr("time.monotonic", lambda: next(times))


def run(progress, epochs=4, initial_epoch=1, steps=5, logs=None, **params):
    """Calls a callback as `fit` does, for one epoch."""
    progress.set_model(make_model())
    progress.set_params({"epochs": epochs, "steps": steps, **params})
    progress.on_train_begin()
    progress.on_epoch_begin(initial_epoch)
    for batch in range(5):
        progress.on_train_batch_end(batch, {"loss": 2.5})
    progress.on_epoch_end(initial_epoch, logs or {"loss": 2.0})


def test_the_time_left_is_that_of_the_run(capsys, clock):
    run(RunProgress())  # steps 6 to 10 of 20, the first one not timed
    # Four steps in 25 seconds: 62.5 for the ten that are left.
    line = (
        "epoch 2/4  [============............] 10/20  loss 2.000  1:02 left\n"
    )
    assert capsys.readouterr().out == line.replace("  [", " [")


def test_a_file_tells_early_how_long_it_takes(capsys, monkeypatch):
    times = iter(np.arange(0, 10_000, 8.0))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    progress = RunProgress()
    run(progress, steps=100, epochs=3, initial_epoch=0)
    progress.on_epoch_begin(1)
    for batch in range(5):
        progress.on_train_batch_end(batch, {"loss": 2.5})
    # Four steps in 32 seconds, before the epoch's end; no more after that.
    early, end = capsys.readouterr().out.splitlines()
    assert "] 5/300  " in early
    assert early.endswith("39:20 left")  # 295 steps of 8 seconds
    assert "] 100/300  " in end


def test_one_line_of_a_terminal_is_overwritten(clock, monkeypatch):
    monkeypatch.setattr(
        "shutil.get_terminal_size", lambda: os.terminal_size((70, 20))
    )
    stream = Terminal()
    run(RunProgress(stream=stream))
    first, *lines, last = stream.getvalue().split("\r")[1:]
    assert first.rstrip() == "The first step is compiled ..."
    assert [line.split("] ")[1].split()[0] for line in lines] == [
        f"{step}/20" for step in range(6, 11)
    ]
    assert {len(line) for line in lines} == {69}
    assert last.startswith("epoch 2/4 [")
    assert last.endswith("\n")


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (82, "epoch 2/4 [============............] 10/20  loss 2.000  "
             "accuracy 0.500  1:02 left"),
        (70, "epoch 2/4 10/20  loss 2.000  accuracy 0.500  1:02 left"),
        (45, "epoch 2/4 10/20  loss 2.000  1:02 left"),
        (20, "epoch 2/4 10/20  1:"),
    ],
)  # fmt: skip
def test_what_a_narrow_terminal_leaves_out(columns, line, clock, monkeypatch):
    monkeypatch.setattr(
        "shutil.get_terminal_size", lambda: os.terminal_size((columns, 20))
    )
    stream = Terminal()
    progress = RunProgress(stream=stream)
    run(progress, logs={"loss": 2.0, "accuracy": 0.5})
    assert stream.getvalue().split("\r")[-1].rstrip() == line


def test_a_terminal_is_written_to_ten_times_a_second(monkeypatch):
    times = iter(np.arange(1, 100, 0.03))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    stream = Terminal()
    run(RunProgress(stream=stream))
    # Before the first, at the steps of 1.00 and 1.12, at the epoch's end.
    assert stream.getvalue().count("\r") == 4


def test_in_fit(capsys):
    fit(
        make_model(),
        [RunProgress()],
        epochs=3,
        initial_epoch=1,
        validation_data=(X, Y),
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["2/3", "3/3"]
    assert [line.split()[3] for line in lines] == ["8/12", "12/12"]
    assert all("loss 0." in line for line in lines)
    assert all("val_loss 0." in line for line in lines)
    assert lines[-1].endswith("0:00 left")


def test_metrics_are_chosen(capsys):
    progress = RunProgress(metrics=["val_loss", "accuracy"])
    fit(make_model(), [progress], validation_data=(X, Y))
    line = capsys.readouterr().out
    assert "val_loss 0." in line
    assert "  loss" not in line
    assert "accuracy" not in line  # which there is not


def test_a_dataset_of_unknown_size(capsys):
    def batches():
        for _ in range(3):
            yield X, Y

    model = make_model()
    stream = Terminal()
    model.fit(batches(), verbose=0, callbacks=[RunProgress(stream=stream)])
    _, first, *_, last = stream.getvalue().split("\r")[1:]
    assert first.startswith("epoch 1/1 1 steps  loss")
    assert last.startswith(f"epoch 1/1 [{24 * '='}] 3/3")


def test_only_the_chief_prints(capsys, monkeypatch):
    monkeypatch.setattr(
        simclr_keras.distribution, "is_chief", lambda strategy: False
    )
    fit(make_model(), [RunProgress()])
    assert capsys.readouterr().out == ""


def test_seconds_are_written_as_on_a_clock():
    assert [format_seconds(s) for s in (5.4, 65, 3725)] == [
        "0:05",
        "1:05",
        "1:02:05",
    ]


def test_metrics_are_a_sequence_of_names():
    with pytest.raises(TypeError, match="`metrics` must be a sequence"):
        RunProgress("loss")
