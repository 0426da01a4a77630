"""Callbacks in a `fit` of Keras's other backends."""

import io

import numpy as np
import pytest

from simclr_keras import callbacks
from tests.backends.conftest import BACKEND, ROOT
from tests.callbacks.small import fit, make_model


@pytest.mark.skipif(BACKEND == "tensorflow", reason="tests/callbacks has it")
def test_resumed_it_equals_the_uninterrupted_run(run_python, tmp_path):
    script = ROOT / "tests" / "callbacks" / "exact_resume.py"
    for command in ("begin", "resume"):
        run_python(script, command, tmp_path, PYTHONPATH=str(ROOT))
    for path in tmp_path.iterdir():
        expected = np.load(path / "whole" / "end.npz")
        for kind, steps in (("broken", 0), ("stopped", 2)):
            found = np.load(path / kind / "end.npz")
            assert (found["done"], found["steps"]) == (2, steps)
            for key in set(expected) - {"done", "steps"}:
                np.testing.assert_array_equal(
                    found[key], expected[key], err_msg=f"{path} {kind} {key}"
                )


def test_all_of_them_in_one_fit(tmp_path):
    stream = io.StringIO()
    checkpoints = callbacks.Checkpoints(tmp_path / "checkpoints")
    history = callbacks.HistoryCSV(tmp_path / "history.csv")
    model = make_model()
    fit(
        model,
        [
            callbacks.StopOnNaN(),
            history,
            callbacks.RunProgress(stream=stream),
            checkpoints,
        ],
        epochs=2,
        initial_epoch=checkpoints.restore(model),
    )
    assert checkpoints.positions() == [(1, 0), (2, 0)]
    assert history.history["step"] == [4, 8]
    assert history.history["loss"] == checkpoints.history["loss"]
    assert stream.getvalue().count(" left\n") == 2
