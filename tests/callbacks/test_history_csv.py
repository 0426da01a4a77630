import csv

import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras.callbacks import HistoryCSV
from tests.callbacks.small import X, Y, fit, make_model


def test_a_row_per_epoch(tmp_path):
    path = tmp_path / "new" / "history.csv"
    history = HistoryCSV(path)
    logs = fit(make_model(), [history], epochs=3).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "epoch",
        "step",
        "seconds",
        "learning_rate",
        "loss",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert [float(row["loss"]) for row in rows] == logs["loss"]
    assert history.history["loss"] == logs["loss"]
    assert history.history["learning_rate"] == pytest.approx([0.1] * 3)
    assert all(float(row["seconds"]) >= 0 for row in rows)
    assert [p.name for p in path.parent.iterdir()] == ["history.csv"]


def test_epochs_that_run_again_have_one_row(tmp_path):
    path = tmp_path / "history.csv"
    model = make_model()
    fit(model, [HistoryCSV(path)], epochs=3)
    # The third epoch's checkpoint was lost, say.
    history = HistoryCSV(path)
    fit(model, [history], initial_epoch=2, epochs=4)
    assert history.history["epoch"] == [1, 2, 3, 4]
    assert history.history["step"] == [4, 8, 16, 20]
    # The same callback in a new run.
    fit(model, [history], epochs=1)
    assert history.history["epoch"] == [1]


def test_the_rate_is_that_of_the_schedule(tmp_path):
    schedule = simclr_keras.WarmupCosineDecay(
        1.0, total_steps=8, warmup_steps=4
    )
    history = HistoryCSV(tmp_path / "history.csv")
    fit(make_model(keras.optimizers.SGD(schedule)), [history], epochs=2)
    expected = [float(schedule(step)) for step in (4, 8)]
    np.testing.assert_allclose(
        history.history["learning_rate"], expected, atol=1e-6
    )


def test_values_that_not_every_epoch_has(tmp_path):
    history = HistoryCSV(tmp_path / "history.csv")
    fit(
        make_model(),
        [history],
        epochs=4,
        validation_data=(X, Y),
        validation_freq=2,
    )
    assert len(history.history["loss"]) == 4
    assert len(history.history["val_loss"]) == 2


def test_without_a_file_there_is_no_history(tmp_path):
    assert HistoryCSV(tmp_path / "history.csv").history == {}


def test_only_the_chief_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        simclr_keras.distribution, "is_chief", lambda strategy: False
    )
    fit(make_model(), [HistoryCSV(tmp_path / "history.csv")])
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    path = tmp_path / "history.csv"
    history, model = HistoryCSV(path), make_model()
    fit(model, [history])
    before = path.read_text()

    def fail(source, target):
        raise OSError("No space left on device")

    monkeypatch.setattr(simclr_keras.callbacks.history_csv, "replace", fail)
    with pytest.warns(UserWarning, match=r"history.csv'.*No space"):
        fit(model, [history], initial_epoch=1, epochs=2)
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]
    monkeypatch.undo()
    fit(model, [history], initial_epoch=2, epochs=3)
    # The epoch that was not written is known to no file.
    assert history.history["epoch"] == [1.0, 3.0]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    fit(make_model(), [keras.callbacks.CSVLogger(path)])
    before = path.read_text()
    with pytest.raises(ValueError, match=r"log\.csv'.*'seconds'"):
        fit(make_model(), [HistoryCSV(path)])
    assert path.read_text() == before
