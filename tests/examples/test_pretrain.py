"""The main job, run as a user runs it."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import evaluate
import h5py
import keras
import numpy as np
import pytest

import simclr_keras
from tests.data.pictures import picture

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--width_multiplier=0.03125",
    "--batch_size=256",
    "--epochs=20",
    "--label_draws=2",
)
FILES = (
    "config.json",
    "encoder.keras",
    "history.csv",
    "loss.png",
    "model.keras",
    "representations.png",
    "results.json",
    "views.png",
)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "pretrain.py"), *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # oneDNN adds up in an order that depends on what else the machine
            # does; two runs can be compared to the digit without it.
            "TF_ENABLE_ONEDNN_OPTS": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments):
    process = start(*arguments)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def history(folder):
    rows = (folder / "history.csv").read_text().splitlines()
    columns = rows[0].split(",")
    return [dict(zip(columns, row.split(","), strict=True)) for row in rows[1:]]


def weights(folder):
    model = keras.saving.load_model(folder / "encoder.keras")
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def all_finite(checkpoint):
    finite = []
    with h5py.File(checkpoint) as file:
        file.visititems(
            lambda _, item: (
                finite.append(bool(np.isfinite(item[()]).all()))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return len(finite) > 10 and all(finite)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run without interruption: its folder, what it printed, and stderr."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    code, output, errors = run(f"--run_dir={folder}", *SMALL)
    assert code == 0, errors
    return folder, output, errors


@pytest.fixture
def straight(ended):
    """The folder, and what it printed."""
    return ended[:2]


@pytest.fixture
def errors(ended):
    return ended[2]


def test_it_says_nothing_of_drivers_and_warns_of_nothing(errors):
    """TensorFlow would begin with red lines on a GPU that is not there."""
    for word in ("InitializeLog", "cuda", "cuInit", "Warning", "Note:"):
        assert word not in errors


def test_the_run_folder_holds_everything(straight):
    folder, _ = straight
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "tensorboard").rglob("events.*"))
    for name in FILES:
        if name.endswith(".png"):
            assert (folder / name).read_bytes()[:4] == b"\x89PNG"


def test_the_configuration_is_resolved(straight):
    config = json.loads((straight[0] / "config.json").read_text())
    assert config["recipe"] == "digits"
    assert config["width_multiplier"] == 0.03125  # the flag
    assert config["image_size"] == 8  # the recipe


def test_history_has_a_line_for_each_epoch(straight):
    rows = history(straight[0])
    assert [row["epoch"] for row in rows] == [str(n + 1) for n in range(20)]
    assert rows[-1]["step"] == "100"
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_the_table_is_in_the_results(straight):
    folder, output = straight
    results = json.loads((folder / "results.json").read_text())
    names = ["raw pixels", "untrained encoder", "trained encoder"]
    assert list(results["accuracy"]) == names
    for name, line in zip(names, output.splitlines()[-3:], strict=True):
        cells = line.removeprefix(name).replace("± ", "±").split()
        printed = [float(cell) for cell in cells if cell[0] != "±"]
        accuracy = results["accuracy"][name]
        means = [
            accuracy[key]["mean"] for key in ("1", "2", "10", "all", "knn")
        ]
        # The table has one decimal of a percentage.
        np.testing.assert_allclose(printed, 100 * np.array(means), atol=0.051)
    assert results["num_test_images"] == 450
    assert results["steps"] == 100
    assert results["training_seconds"] > 0
    assert results["machine"]["cores"] == os.cpu_count()
    assert results["versions"]["keras"] == keras.__version__


def test_progress_and_time_left_are_of_the_whole_run(straight):
    assert re.search(
        r"epoch 10/20 \[=+\.+\] 50/100 .* \d+:\d\d left", straight[1]
    )


def test_the_encoder_is_usable(straight):
    encoder = keras.saving.load_model(straight[0] / "encoder.keras")
    images, _ = simclr_keras.data.load_digits().test.arrays()
    features = encoder.predict(images / np.float32(255), verbose=0)
    assert features.shape == (450, 16)
    assert np.isfinite(features).all()


def test_the_whole_model_knows_what_its_images_are(straight):
    encoder = keras.saving.load_model(straight[0] / "encoder.keras")
    model = keras.saving.load_model(straight[0] / "model.keras")
    images, _ = simclr_keras.data.load_digits().test.arrays()
    expected = encoder.predict(images / np.float32(255), verbose=0)
    for each in (encoder, model):
        found = each.predict(images, verbose=0)
        # float32, 17 convolutions
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.project(found[:4]).shape == (4, 64)
    assert not model.compiled


@pytest.mark.slow  # tests/callbacks has it without the script.
def test_interrupted_and_resumed_it_equals_the_straight_run(straight, tmp_path):
    folder = tmp_path / "run"
    process = start(f"--run_dir={folder}", *SMALL)
    deadline = time.monotonic() + 200
    while not (folder / "checkpoints" / "epoch_00003.weights.h5").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 130, errors
    assert "--resume" in output
    assert "Traceback" not in errors

    # Usable: the encoder of the moment, and a checkpoint that can be read.
    assert len(weights(folder)) == len(weights(straight[0]))
    last = sorted((folder / "checkpoints").iterdir())[-1]
    place = re.search(r"It was saved after (.*)\.", output)[1]
    found = re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?.weights.h5", last.name)
    epoch, step = (int(number or 0) for number in found.groups())
    assert place == (
        f"step {step} of epoch {epoch + 1} of 20"
        if step
        else f"epoch {epoch} of 20"
    )
    assert all_finite(last)
    assert not (folder / "results.json").exists()

    # The flags of the run need not be repeated.
    code, output, errors = run(f"--run_dir={folder}", "--resume")
    assert code == 0, errors
    assert f"Resuming after {place}." in output
    for here, there in zip(history(folder), history(straight[0]), strict=True):
        assert {**here, "seconds": 0} == {**there, "seconds": 0}
    for here, there in zip(weights(folder), weights(straight[0]), strict=True):
        np.testing.assert_array_equal(here, there)
    results = [
        json.loads((path / "results.json").read_text())["accuracy"]
        for path in (folder, straight[0])
    ]
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_resumed_run_of_photos_equals_the_straight_one(tmp_path):
    """The ImageNet recipe, whose views are cropped while decoding."""
    for k in range(24):
        folder = tmp_path / "photos" / f"class {k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture(40 + k, 70 - k, seed=k).save(folder / f"{k}.jpg")
    (folder / "broken.jpg").write_bytes(b"no photo")
    flags = [
        "--recipe=imagenet",
        "--skip_unreadable",
        f"--image_folder={tmp_path / 'photos'}",
        "--image_size=32",
        "--evaluation_size=40",
        "--source_size=44",
        "--depth=18",
        "--width_multiplier=0.03125",
        "--mixed_precision=float32",
        "--batch_size=8",
        "--epochs=3",
        "--label_draws=1",
        "--knn_k=3",
    ]
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    code, _, errors = run(f"--run_dir={straight}", *flags)
    assert code == 0, errors
    skipped = json.loads((straight / "skipped.json").read_text())
    assert skipped == [str(folder / "broken.jpg")]
    shutil.copytree(straight, resumed)
    (resumed / "checkpoints" / "epoch_00003.weights.h5").unlink()
    (resumed / "results.json").unlink()
    code, output, errors = run(f"--run_dir={resumed}", "--resume")
    assert code == 0, errors
    assert "Resuming after epoch 2 of 3" in output
    for here, there in zip(history(resumed), history(straight), strict=True):
        assert {**here, "seconds": 0} == {**there, "seconds": 0}
    for here, there in zip(weights(resumed), weights(straight), strict=True):
        np.testing.assert_array_equal(here, there)
    # Its images are larger than its views.
    evaluate.main([f"--encoder={straight}", "--protocols", "knn", "--k=3"])
    found, reported = (
        json.loads((straight / name).read_text())["accuracy"]
        for name in ("evaluation/results.json", "results.json")
    )
    # float32: of few images one may go either way.
    assert found[0]["accuracy"] == pytest.approx(
        reported["trained encoder"]["knn"]["mean"], abs=0.26
    )
    assert "2 folders are taken for classes (class 0, class 1)" in output


@pytest.mark.slow
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    folder = tmp_path / "run"
    code, _, errors = run(f"--run_dir={folder}", *SMALL, "--learning_rate=1e30")
    assert code == 1
    message = re.search(
        r"(loss|weight).* became .* at step \d of epoch \d \(step \d+ of the "
        r"run\)(?s:.*)The last good checkpoint is (\S+)\.\n",
        errors,
    )
    assert message, errors
    assert all_finite(message[2])
    assert not (folder / "results.json").exists()
