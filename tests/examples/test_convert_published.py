"""Published weights, converted as a user does it."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras  # noqa: F401, registers the classes that are loaded

ROOT = pathlib.Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "published_weights" / "resnet18_cifar"


def run(*arguments):
    script = str(ROOT / "examples" / "convert_published.py")
    return subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_converts(tmp_path):
    names = {
        "output": "new/encoder.keras",
        "head_output": "head.keras",
        "classifier_output": "classifier.keras",
    }
    paths = {flag: tmp_path / name for flag, name in names.items()}
    process = run(
        f"--path={FIXTURE}", *(f"--{f}={path}" for f, path in paths.items())
    )
    assert process.returncode == 0, process.stderr
    lines = [" ".join(line.split()) for line in process.stdout.splitlines()]
    for expected in (
        "depth 18",
        "width_multiplier 0.0625",
        "stem cifar",
        "representation 32",
        "projection head 2 layers, 32 outputs",
        "classifier 10 classes",
    ):
        assert expected in lines
    assert "a layer of the projection head, not on h" in process.stdout
    assert process.stdout.count("its outputs differ by") == len(paths)

    given = np.load(FIXTURE / "expected.npz")
    images = given["images"].astype("float32") / 255
    encoder, head, classifier = (
        keras.saving.load_model(path) for path in paths.values()
    )
    h = encoder(images, training=False)
    # float32, 20 convolutions.
    for outputs, expected in (
        (h, "representation"),
        (head(h, training=False), "projection"),
        (classifier(h), "logits"),
    ):
        np.testing.assert_allclose(
            outputs, given[expected], rtol=1e-5, atol=1e-5
        )


@pytest.mark.slow  # The export compares what it writes in every way.
def test_writes_a_saved_model(tmp_path):
    process = run(
        f"--path={FIXTURE}",
        f"--output={tmp_path / 'encoder.keras'}",
        f"--saved_model={tmp_path / 'hub_module'}",
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("its outputs differ by") == 2
    given = np.load(FIXTURE / "expected.npz")
    module = tf.saved_model.load(str(tmp_path / "hub_module"))
    outputs = module.endpoints(given["images"])  # uint8
    for key in ("representation", "projection"):
        # float32, 20 convolutions.
        np.testing.assert_allclose(
            outputs[key], given[key], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--path=nowhere"], "Error: There is no checkpoint or SavedModel"),
        ([f"--path={FIXTURE}", "--output=encoder"], "--output must end in"),
        ([f"--path={FIXTURE}", "--output=~/old.keras"], "is there already"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "old.keras").touch()
    process = run(*arguments)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr


def test_harms_nothing_before_it_refuses(tmp_path):
    encoder, folder = tmp_path / "encoder.keras", tmp_path / "mine"
    encoder.write_text("old")
    folder.mkdir()
    (folder / "thesis.txt").touch()
    process = run(
        f"--path={FIXTURE}",
        f"--output={encoder}",
        f"--saved_model={folder}",
        "--overwrite",
    )
    assert process.returncode == 1
    assert "Error: " in process.stderr
    assert (folder / "thesis.txt").exists()
    assert encoder.read_text() == "old"
