"""What the command lines of the examples say to mistakes."""

import os
import pathlib
import subprocess
import sys

import custom_training_loop
import pretrain
import pytest
import recipes
import run_folder
import transfer
from absl import app, flags
from absl.testing import flagsaver

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(*arguments):
    """Runs in this process until `sys.exit`, whose message it returns."""
    with flagsaver.flagsaver():
        flags.FLAGS(["pretrain.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            pretrain.main(["pretrain.py"])
    return str(stop.value)


@pytest.fixture
def other_run(tmp_path):
    """The folder of a run of the digits recipe."""
    path = str(tmp_path / "other")
    config = recipes.resolve("digits", {"temperature": 0.3})
    run_folder.RunFolder(path).write_json("config.json", config)
    return path


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--image_folder=nowhere"], ["nowhere", "existing folder"]),
        (["--batch_size=5000"], ["5000", "1347 images"]),
        (["--batch_size=1"], ["no negatives", "Received: 1"]),
        (["--optimizer=adagrad"], ["adagrad", '"lars", "sgd" or "adamw"']),
        (["--temperature=0"], ["temperature=0"]),
        (["--depth=19"], ["depth=19"]),
        (["--epochs=3", "--steps=9"], ["exclude each other"]),
        (["--mixed_precision=float17"], ["float17"]),
        (["--cache_dir=cache"], ["--cache_dir", "in memory"]),
        (
            ["--cache_dir=cache", "--crop_while_decoding"],
            ["--nocrop_while_decoding"],
        ),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    arguments, messages, tmp_path
):
    message = run(f"--run_dir={tmp_path / 'run'}", *arguments)
    for expected in ["Error: ", *messages]:
        assert expected in message
    assert not (tmp_path / "run").exists()


def test_a_data_set_that_is_not_there(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def no_network(self, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", no_network
    )
    message = run(
        "--recipe=cifar10",
        f"--data_dir={tmp_path}",
        f"--run_dir={tmp_path / 'run'}",
    )
    assert "cifar10' is not prepared" in message
    assert "no network" in message


def test_an_unknown_recipe():
    error_type = flags.IllegalFlagValueError
    with flagsaver.flagsaver(), pytest.raises(error_type) as error:
        flags.FLAGS(["pretrain.py", "--recipe=mnist"])
    assert "mnist" in str(error.value)
    assert "digits|cifar10|cifar10_paper|imagenet" in str(error.value)


def test_another_run_is_not_overwritten(other_run):
    message = run(f"--run_dir={other_run}")
    assert "holds another run, of recipe 'digits'" in message
    assert "--resume" in message


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    message = run(f"--run_dir={tmp_path}")
    assert "a folder with other files in it" in message


def test_a_run_goes_on_with_its_own_configuration_alone(other_run):
    message = run(
        f"--run_dir={other_run}",
        "--resume",
        "--temperature=0.7",
        "--seed=0",
        "--label_draws=2",
    )
    assert "--temperature=0.7 (the run has 0.3)" in message
    assert "--seed" not in message
    assert "--label_draws" not in message


@pytest.mark.parametrize("script", [custom_training_loop, pretrain, transfer])
def test_arguments_that_are_not_flags_are_refused(script):
    with pytest.raises(app.UsageError, match="Unexpected arguments: 3 x"):
        script.main(["script.py", "3", "x"])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("custom_training_loop.py", "in four ways"),
        ("few_labels.py", "hub_module"),
    ],
)
def test_help(script, message):
    if script == "few_labels.py":
        for package in ("tensorflow_hub", "tf_keras", "pkg_resources"):
            pytest.importorskip(package)
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / script), "--help"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        text=True,
    )
    assert message in process.stdout
    assert "kNN" not in process.stdout  # It does not train.
