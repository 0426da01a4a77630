"""What runs of `train.py` gave, and how far apart two of them are."""

import os
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = pathlib.Path(__file__).parent / "train.py"


def environment():
    """That of a process which finds the package and the tests."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start(replicas, path, runs, **variables):
    """Starts `train.py` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, SCRIPT, str(replicas), path, *runs],
        env={**environment(), **variables},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout=900):
    """Waits for a process that must succeed."""
    _, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors[-3000:]


def message(function):
    """The error of a call."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def load(path, runs):
    """A dictionary of arrays for each run in a file."""
    with np.load(path) as arrays:
        return {
            run: {
                key.removeprefix(f"{run}/"): arrays[key]
                for key in arrays.files
                if key.startswith(f"{run}/")
            }
            for run in runs
        }


def of_kind(arrays, kind):
    """The arrays of one kind, without what counts steps."""
    return {
        key: value
        for key, value in arrays.items()
        if key.startswith(f"{kind}/")
        and not key.endswith(("iteration", "learning_rate"))
    }


def distance(kind, a, b):
    """|a - b| / |b| in the norm over all variables of a kind."""
    a, b = of_kind(a, kind), of_kind(b, kind)
    assert list(a) == list(b)
    assert len(b) > 0
    flat_a, flat_b = (
        np.concatenate([v.astype("float64").ravel() for v in x.values()])
        for x in (a, b)
    )
    return np.linalg.norm(flat_a - flat_b) / np.linalg.norm(flat_b)


def assert_equal_logs(result, expected, rtol):
    result, expected = of_kind(result, "log"), of_kind(expected, "log")
    assert set(result) == set(expected)
    for name in expected:
        np.testing.assert_allclose(
            result[name], expected[name], rtol=rtol, err_msg=name
        )


def assert_float64_equal(result, expected):
    """Every log, weight, statistic and slot is the same."""
    # The metrics and their logs are float32.
    assert_equal_logs(result, expected, rtol=1e-6)
    compared = 0
    for kind in ("weight", "statistic", "slot"):
        b = of_kind(expected, kind)
        for key, value in of_kind(result, kind).items():
            assert value.dtype == "float64", key
            # Of the largest value: float64's 1e-16, amplified by five steps.
            np.testing.assert_allclose(
                value,
                b[key],
                rtol=0,
                atol=1e-10 * max(np.abs(b[key]).max(), 1e-12),
                err_msg=key,
            )
            compared += 1
    assert compared > 150
