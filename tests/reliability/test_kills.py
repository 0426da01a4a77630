"""A run that is killed again and again ends as one that was left alone.

`SIMCLR_KERAS_KILLS` says how often each run is killed; 4 if it is not set, and
half as often for two workers.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from simclr_keras.callbacks.checksum import has_checksum
from tests.distribution.cluster import cluster
from tests.distribution.results import ROOT
from tests.reliability import run

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("SIMCLR_KERAS_KILLS", 4))
# By kind of run.
REPLICAS = {"one device": "1", "replicas": "2", "workers": "2"}


class Run:
    """A run of `run.py` on one device, on two replicas or by two workers."""

    def __init__(self, folder, kind):
        folder.mkdir(exist_ok=True)
        configs = cluster() if kind == "workers" else [None]
        self.processes = [
            subprocess.Popen(
                [sys.executable, run.__file__, str(folder), REPLICAS[kind]],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    # Its sums depend on what else the machine does.
                    "TF_ENABLE_ONEDNN_OPTS": "0",
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    **({"TF_CONFIG": config} if config else {}),
                },
            )
            for config in configs
        ]

    def finish(self):
        """The lines of the first process, after all have ended well."""
        ends = [each.communicate(timeout=300) for each in self.processes]
        for process, (_, errors) in zip(self.processes, ends):
            assert process.returncode == 0, errors[-3000:]
        return ends[0][0].split("\n")

    def interrupt(self, number, line, delay, rng):
        """Sends a signal so long after a line of the first process.

        SIGKILL ends all of them, as a power cut does; another signal is sent
        to one of them.

        Returns:
            Pair of the lines of the first process and its errors.
        """
        lines = []
        for text in self.processes[0].stdout if line >= 0 else ():
            lines.append(text.strip())
            if len(lines) > line:
                break
        time.sleep(delay)
        is_kill = number == signal.SIGKILL
        found = [self.processes[rng.integers(len(self.processes))]]
        for process in self.processes if is_kill else found:
            process.send_signal(number)
        ends = [each.communicate(timeout=300) for each in self.processes]
        return [*lines, *ends[0][0].split("\n")], ends[0][1]

    @property
    def returncodes(self):
        return [process.returncode for process in self.processes]


def end(folder):
    with np.load(folder / "end.npz") as file:
        arrays = [file[name] for name in file]
    return arrays, json.loads((folder / "history.json").read_text())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """What runs that nobody interrupts end as, by kind."""
    found = {}
    for kind in REPLICAS:
        folder = tmp_path_factory.mktemp("straight") / kind
        Run(folder, kind).finish()
        found[kind] = end(folder)
    return found


@pytest.mark.parametrize("kind", REPLICAS)
def test_killed_at_any_moment(straight, kind, tmp_path):
    rng = np.random.default_rng(len(kind))
    folder, kills = tmp_path / "run", 0
    runs = 0
    # Workers take several times as long to start.
    while kills < (KILLS // 2 if kind == "workers" else KILLS):
        killed = Run(folder, kind)
        # Each start gets a little further, into the first steps after it; a
        # tenth of them are killed before or while they restore.
        line = rng.integers(-1, 22)
        delay = rng.random() * 6 if line < 0 else rng.random() / 20
        killed.interrupt(signal.SIGKILL, line, delay, rng)
        kills += -signal.SIGKILL in killed.returncodes
        checkpoints = [
            path
            for path in (folder / "checkpoints").glob("epoch_*")
            if path.suffix == ".h5"
        ]
        assert all(map(has_checksum, checkpoints)), "a file is not whole"
        if (folder / "end.npz").exists():  # To the end before its time.
            compare(end(folder), straight[kind], kind)
            runs += 1
            folder = tmp_path / f"run {runs}"
    Run(folder, kind).finish()
    compare(end(folder), straight[kind], kind)


def compare(found, expected, kind):
    # Replicas add up in an order that is not specified.
    rtol = 0 if kind == "one device" else 1e-4
    for here, there in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(here, there, rtol=rtol, atol=rtol / 10)
    assert found[1].keys() == expected[1].keys()
    for name, values in expected[1].items():
        np.testing.assert_allclose(
            found[1][name], values, rtol=rtol, err_msg=name
        )


@pytest.mark.parametrize("kind", REPLICAS)
def test_a_polite_signal_loses_nothing(straight, kind, tmp_path):
    rng = np.random.default_rng(10 + len(kind))
    for k in range(max(1, KILLS // 2)):
        folder = tmp_path / str(k)
        number = (signal.SIGTERM, signal.SIGINT)[k % 2]
        stopped = Run(folder, kind)
        lines, errors = stopped.interrupt(
            number, rng.integers(4, 50), rng.random() / 50, rng
        )
        if any(stopped.returncodes):
            assert "KeyboardInterrupt" in errors, errors[-3000:]
            assert all(stopped.returncodes)
            done = [
                line.split()[1:] for line in lines if line.startswith("end")
            ]
            epoch, batch = map(int, done[-1])
            restored = [
                tuple(map(int, line.split()[1:]))
                for line in Run(folder, kind).finish()
                if line.startswith("restored")
            ]
            over = (epoch + 1, 0) if f"over {epoch}" in lines else None
            assert restored[0] in ((epoch, batch + 1), over)
        compare(end(folder), straight[kind], kind)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_is_lost_ends_the_other(straight, lost, tmp_path):
    workers = Run(tmp_path, "workers")
    for line in workers.processes[0].stdout:
        if line.startswith("end 1 2"):
            break
    workers.processes[lost].kill()
    other = workers.processes[1 - lost]
    _, errors = other.communicate(timeout=120)
    assert other.returncode not in (0, None)
    assert re.search("UnavailableError|AbortedError", errors), errors[-3000:]
    assert re.search(rf"/job:worker/(replica:0/)?task:{lost}", errors)
    Run(tmp_path, "workers").finish()
    compare(end(tmp_path), straight["workers"], "workers")
