"""What the tests of the backends share."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
BACKEND = keras.backend.backend()


@pytest.fixture(scope="session")
def run_python():
    """Function that runs Python in a process of its own, on any backend."""

    def run(*arguments, backend=BACKEND, **environment):
        result = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": backend, **environment},
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    return run


@pytest.fixture(scope="session")
def tensorflow_values(run_python, tmp_path_factory):
    """What TensorFlow makes of `scenarios`, by name."""
    if BACKEND == "tensorflow":
        pytest.skip("compares another backend with TensorFlow")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    path = tmp_path_factory.mktemp("tensorflow") / "values.npz"
    run_python("-m", "tests.backends.scenarios", path, backend="tensorflow")
    return np.load(path)
