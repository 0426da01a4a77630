"""Every kind of reader, each in a process of its own."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import simclr_keras

READERS = pathlib.Path(__file__).parent / "readers"
OLD_PACKAGES = (
    "tensorflow-cpu==2.15.1",
    "tensorflow-addons==0.23.0",
    "tensorflow-hub==0.16.1",
    "setuptools<81",  # tensorflow-hub imports pkg_resources
)


def read(name, path, python=sys.executable):
    """Runs a reader's script on a folder and on what it must hold."""
    expected = pathlib.Path(path).parent / "expected.npz"
    result = subprocess.run(
        [python, READERS / f"{name}.py", path, expected],
        capture_output=True,
        text=True,
        # Where the package under test is, installed or not.
        env={
            **os.environ,
            "PYTHONPATH": str(pathlib.Path(simclr_keras.__file__).parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
    )
    assert result.returncode == 0, result.stderr[-3000:]


def needs(*packages):
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)} not installed"
    )


@needs("tensorflow_hub", "pkg_resources")
@pytest.mark.slow
def test_hub_load(exported):
    read("hub_load", exported)


@needs("tensorflow_hub", "pkg_resources", "tf_keras")
@pytest.mark.slow
def test_hub_keras_layer(exported):
    read("hub_keras_layer", exported)


@pytest.mark.slow
def test_keras_layers(exported):
    read("keras_layers", exported)


@pytest.mark.slow
def test_signatures(exported):
    read("signatures", exported)


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    """Python with packages of 2023, kept where the variable says."""
    folder = pathlib.Path(
        os.environ.get("SIMCLR_KERAS_TEST_OLD_VENV")
        or tmp_path_factory.mktemp("old") / "venv"
    )
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        # The last that TensorFlow 2.15 and tensorflow-addons were built for.
        base = shutil.which("python3.11")
        if base is None:
            pytest.skip("TensorFlow 2.15 needs Python 3.11")
        subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *OLD_PACKAGES],
            check=True,
        )
        complete.touch()
    return python


@pytest.mark.slow
def test_old_world(exported, old_python):
    read("old_world", exported, old_python)
