"""What the command lines of the examples say to mistakes."""

import json
import os
import pathlib
import subprocess
import sys
import types

import pretrain
import pretraining
import pytest
import recipes
import run_folder
import tensorflow as tf
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
        (
            ["--image_folder=nowhere"],
            ["nowhere", "--image_folder must", "existing folder"],
        ),
        (["--batch_size=5000"], ["5000", "1347 images"]),
        (["--recipe=small"], ["--recipe=small", "--image_folder"]),
        (["--resume"], ["no run to resume", "run", "--recipe"]),
        (["--batch_size=1"], ["no negatives", "Received: 1"]),
        (["--optimizer=adagrad"], ["adagrad", '"lars", "sgd" or "adamw"']),
        (["--temperature=0"], ["--temperature must be positive", "0.0"]),
        (["--learning_rate=nan"], ["--learning_rate must be positive"]),
        (["--checkpoint_minutes=0"], ["--checkpoint_minutes must be"]),
        (["--warmup_epochs=-1"], ["--warmup_epochs must be 0 or more"]),
        (["--depth=19"], ["--depth must", "depth=19"]),
        (["--epochs=3", "--steps=9"], ["exclude each other"]),
        (["--epochs=0"], ["--epochs must be at least 1"]),
        (["--knn_k=0"], ["--knn_k must be at least 1"]),
        (["--label_draws=0"], ["--label_draws must be at least 1"]),
        (["--eval_examples=0"], ["--eval_examples must be at least 1"]),
        (["--mixed_precision=float17"], ["float17"]),
        (["--cache_dir=cache"], ["--cache_dir is not for --dataset=digits"]),
        (["--recipe=imagenet", "--dataset=digits"], ["in memory"]),
        (
            [
                "--recipe=cifar10",
                "--cache_dir=cache",
                "--crop_while_decoding",
            ],
            ["--nocrop_while_decoding"],
        ),
        (["--recipe=cifar10", "--channels=1"], ["--channels", "of TFDS"]),
        (
            ["--image_folder=.", "--train_split=train"],
            ["--train_split is not for --image_folder"],
        ),
        (
            ["--image_folder=.", "--test_folder=./"],
            ["--test_folder must hold other images than --image_folder"],
        ),
        (["--strategy=mirrored", "--replicas=0"], ["--replicas must be at"]),
        (["--probe_on=labels"], ["--probe_on must be", "labels"]),
        (
            [
                "--recipe=cifar10",
                "--probe_on=images",
                "--crop_while_decoding",
            ],
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


@pytest.mark.parametrize(
    ("arguments", "recipe"),
    [
        ([], "digits"),
        (["--image_folder={}"], "small"),
        (["--image_folder={}", "--recipe=cifar10"], "cifar10"),
    ],
)
def test_photos_have_the_recipe_for_photos(arguments, recipe, tmp_path, capsys):
    with flagsaver.flagsaver():
        arguments = [each.format(tmp_path) for each in arguments]
        flags.FLAGS(["pretrain.py", "--print_config", *arguments])
        pretrain.main(["pretrain.py"])
    config = json.loads(capsys.readouterr().out)
    assert config["recipe"] == recipe
    assert config["image_size"] == recipes.RECIPES[recipe]["image_size"]


def test_an_unknown_recipe():
    error_type = flags.IllegalFlagValueError
    with flagsaver.flagsaver(), pytest.raises(error_type) as error:
        flags.FLAGS(["pretrain.py", "--recipe=mnist"])
    assert "mnist" in str(error.value)
    assert "digits|small|cifar10|cifar10_paper|imagenet" in str(error.value)


def test_a_run_is_not_made_shorter_than_it_is(other_run):
    checkpoints = pathlib.Path(other_run, "checkpoints")
    checkpoints.mkdir()
    (checkpoints / "epoch_00015.weights.h5").touch()
    message = run(f"--run_dir={other_run}", "--resume", "--epochs=8")
    assert "8 epochs, and 15 that are done" in message


def test_the_configuration_of_a_run_is_printed(other_run, capsys):
    with flagsaver.flagsaver():
        flags.FLAGS(
            [
                "pretrain.py",
                f"--run_dir={other_run}",
                "--resume",
                "--print_config",
            ]
        )
        pretrain.main(["pretrain.py"])
    assert json.loads(capsys.readouterr().out)["temperature"] == 0.3


def test_another_run_is_not_overwritten(other_run):
    message = run(f"--run_dir={other_run}")
    assert "holds another run, of recipe 'digits'" in message
    assert "--resume" in message


@pytest.mark.slow  # tests/callbacks has it without the script.
def test_a_folder_in_which_another_process_writes(tmp_path):
    code = (
        "import sys, time, run_folder\n"
        f"folder = run_folder.RunFolder({str(tmp_path)!r})\nfolder.lock()\n"
        "print('locked', flush=True)\n"
        "time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{EXAMPLES.parent}",
        },
    ) as other:
        try:
            assert other.stdout.readline() == "locked\n"
            message = run(f"--run_dir={tmp_path}", "--width_multiplier=0.02")
        finally:
            other.kill()
    assert f"Error: Only one process at a time can write in {tmp_path}" in (
        message
    )
    assert f"process {other.pid} on " in message
    assert os.listdir(tmp_path) == [".lock"]


def test_what_the_library_says_is_said_in_flags():
    message = '`temperature` of `value_range`, or pass on_error="skip".'
    assert recipes.in_flags(message) == (
        "--temperature of `value_range`, or pass --skip_unreadable."
    )


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


@pytest.mark.parametrize("script", [pretrain, transfer])
def test_arguments_that_are_not_flags_are_refused(script):
    with pytest.raises(app.UsageError, match="Unexpected arguments: 3 x"):
        script.main(["script.py", "3", "x"])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("convert_published.py", "--head_output"),
        ("custom_training_loop.py", "in four ways"),
        ("few_labels.py", "hub_module"),
        ("pretrain.py", "--temperature: temperature of the loss"),
        ("transfer.py", "--temperature: temperature of the loss"),
    ],
)
def test_help_does_not_wait_for_tensorflow(script, message):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(EXAMPLES / script)!r}, run_name='__main__')\n"
        "finally:\n"
        "    print('loaded:', 'tensorflow' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        text=True,
    )
    assert message in process.stdout
    assert "loaded: False" in process.stdout


def test_a_stray_argument_of_the_loop_is_refused():
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / "custom_training_loop.py"), "3"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr == (
        "custom_training_loop.py: error: unrecognized arguments: 3\n"
    )


def test_a_file_that_cannot_be_read_outside_of_training(tmp_path, monkeypatch):
    def lead(*_):
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "{{function_node x}} ValueError: Cannot read the image file "
            "'a/b.jpg': Invalid JPEG data. Fix or remove it, or pass "
            'on_error="skip" to leave out such files.\nTraceback (most ...',
        )

    monkeypatch.setattr(pretraining, "lead", lead)
    workers = types.SimpleNamespace(is_chief=True, wait_for_all=lambda: None)
    folder = run_folder.RunFolder(str(tmp_path / "run"))
    with pytest.raises(SystemExit) as stop:
        pretraining.run((workers, folder, {}, None, 1, None, None), 0.0)
    first, second = str(stop.value).strip().splitlines()
    assert first == (
        "Error: Cannot read the image file 'a/b.jpg': Invalid JPEG data. Fix "
        "or remove it, or pass --skip_unreadable to leave out such files."
    )
    assert second.endswith("--resume.")
