"""A run that is killed again and again ends as one that was left alone.

`SIMCLR_KERAS_KILLS` says how often each run is killed; 6 if it is not set.
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from simclr_keras.callbacks.checksum import has_checksum
from tests.distribution.results import ROOT
from tests.reliability import run

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("SIMCLR_KERAS_KILLS", 6))


def start(folder, replicas):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, run.__file__, str(folder), str(replicas)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # Its sums depend on what else the machine does.
            "TF_ENABLE_ONEDNN_OPTS": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return output


def end(folder):
    with np.load(folder / "end.npz") as file:
        arrays = [file[name] for name in file]
    return arrays, json.loads((folder / "history.json").read_text())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """What runs that nobody interrupts end as, by number of replicas."""
    found = {}
    for replicas in (1, 2):
        folder = tmp_path_factory.mktemp("straight") / str(replicas)
        finish(start(folder, replicas))
        found[replicas] = end(folder)
    return found


def interrupt(process, number, line, delay):
    """Sends a signal so long after a line; the lines until then."""
    lines = []
    for text in process.stdout:
        lines.append(text.strip())
        if len(lines) > line:
            break
    time.sleep(delay)
    process.send_signal(number)
    rest, errors = process.communicate(timeout=300)
    return [*lines, *rest.split("\n")], errors


@pytest.mark.parametrize("replicas", [1, 2])
def test_killed_at_any_moment(straight, replicas, tmp_path):
    rng = np.random.default_rng(replicas)
    folder, kills = tmp_path / "run", 0
    runs = 0
    while kills < KILLS:
        process = start(folder, replicas)
        # Each start gets a little further, into the first steps after it.
        interrupt(
            process, signal.SIGKILL, rng.integers(0, 22), rng.random() / 20
        )
        kills += process.returncode == -signal.SIGKILL
        checkpoints = [
            path
            for path in (folder / "checkpoints").glob("epoch_*")
            if path.suffix == ".h5"
        ]
        assert all(map(has_checksum, checkpoints)), "a file is not whole"
        if (folder / "end.npz").exists():  # To the end before its time.
            compare(end(folder), straight[replicas], replicas)
            runs += 1
            folder = tmp_path / f"run {runs}"
    finish(start(folder, replicas))
    compare(end(folder), straight[replicas], replicas)


def compare(found, expected, replicas):
    # Replicas add up in an order that is not specified.
    rtol = 0 if replicas == 1 else 1e-4
    for here, there in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(here, there, rtol=rtol, atol=rtol / 10)
    assert found[1].keys() == expected[1].keys()
    for name, values in expected[1].items():
        np.testing.assert_allclose(
            found[1][name], values, rtol=rtol, err_msg=name
        )


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_polite_signal_loses_nothing(straight, replicas, tmp_path):
    rng = np.random.default_rng(10 + replicas)
    for k in range(max(1, KILLS // 2)):
        folder = tmp_path / str(k)
        number = (signal.SIGTERM, signal.SIGINT)[k % 2]
        process = start(folder, replicas)
        lines, errors = interrupt(
            process, number, rng.integers(2, 50), rng.random() / 50
        )
        if process.returncode:
            assert "KeyboardInterrupt" in errors
            done = [
                line.split()[1:] for line in lines if line.startswith("end")
            ]
            epoch, batch = map(int, done[-1])
            process = start(folder, replicas)
            output = finish(process)
            restored = [
                tuple(map(int, line.split()[1:]))
                for line in output.split("\n")
                if line.startswith("restored")
            ]
            over = (epoch + 1, 0) if f"over {epoch}" in lines else None
            assert restored[0] in ((epoch, batch + 1), over)
        compare(end(folder), straight[replicas], replicas)
