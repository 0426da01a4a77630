import csv
import json
import os
import pathlib
import subprocess
import sys

import evaluate
import keras
import numpy as np
import pytest
import recipes

import simclr_keras

ROOT = pathlib.Path(__file__).parents[2]


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_a_run_is_evaluated_by_every_protocol(tmp_path):
    folder = tmp_path / "run"
    found = run(
        "pretrain.py",
        "--recipe=digits",
        "--epochs=2",
        "--label_draws=1",
        f"--run_dir={folder}",
    )
    assert found.returncode == 0, found.stderr[-3000:]
    found = run(
        "evaluate.py",
        f"--encoder={folder}",
        "--protocols",
        *evaluate.PROTOCOLS,
        "--linear_epochs=2",
        "--learning_rates",
        "0.3",
        "--fractions=0.1",
        "--fine_tune_epochs=2",
    )
    assert found.returncode == 0, found.stderr[-3000:]
    results = json.loads((folder / "evaluation/results.json").read_text())
    table = {row["what"]: row["accuracy"] for row in results["accuracy"]}
    names = [name.split(",")[0] for name in table]
    assert names == [
        "knn",
        "knn",
        "linear",
        "linear",
        "10% of the labels (130)",
        "10% of the labels (130)",
    ]
    # The run's own report has the same neighbours and features.
    report = json.loads((folder / "results.json").read_text())["accuracy"]
    linear = next(v for k, v in table.items() if "L-BFGS" in k)
    assert abs(linear - report["trained encoder"]["all"]["mean"]) < 0.05
    with open(folder / "evaluation/classes.csv") as file:
        rows = list(csv.DictReader(file))
    images = np.array([int(row["images"]) for row in rows])
    accuracies = np.array([float(row["accuracy"]) for row in rows])
    assert images.sum() == results["num_test_images"] == 450
    assert (images * accuracies).sum() / 450 == pytest.approx(linear)
    for name in ("confusion.png", "map.png"):
        assert (folder / "evaluation" / name).stat().st_size > 10_000
    # With and without the crops there are two classifiers.
    assert "linear, SGD on crops, rate 0.3" in table
    found = run(
        "evaluate.py",
        f"--encoder={folder}",
        "--protocols=linear_on_images",
        "--nocrops",
        "--linear_epochs=20",
        "--learning_rates=0.3",
        f"--output={tmp_path}/whole",
    )
    assert found.returncode == 0, found.stderr[-3000:]
    results = json.loads((tmp_path / "whole/results.json").read_text())
    (row,) = results["accuracy"]
    assert row["what"] == "linear, SGD on images, rate 0.3"
    assert row["accuracy"] > 0.5  # of ten digits
    # What is there is not written over.
    found = run("evaluate.py", f"--encoder={folder}")
    assert found.returncode == 2
    assert "is there already" in found.stderr


@pytest.fixture
def finished(tmp_path):
    for name in ("config.json", "encoder.keras"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stray"], "unrecognized arguments: stray"),
        (["--protocols=all"], "invalid choice: 'all'"),
        (["--fractions=2"], r"must lie in (0, 1]. Received: 2"),
        (
            ["--protocols=fine_tune", "--fine_tune_epochs", "9"],
            "a number for each of --fractions",
        ),
        (["--output=here"], "is there already: here"),
        (["--nocrops"], "needs linear_on_images"),
        (["--protocols=linear", "--k=3"], "--k needs knn among"),
        (["--fine_tune_rate=1"], "--fine_tune_rate needs fine_tune"),
        (["--images=here", "--test_folder=./here"], "must hold other images"),
    ],
)
def test_mistakes_are_one_line(
    arguments, message, finished, capsys, monkeypatch
):
    monkeypatch.chdir(finished)
    os.mkdir("here")
    pathlib.Path("here/a").write_text("")
    before = sorted(finished.rglob("*"))
    with pytest.raises(SystemExit) as error:
        evaluate.main([f"--encoder={finished}", *arguments])
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert sorted(finished.rglob("*")) == before


def small_encoder():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
        ]
    )


def test_any_encoder_on_any_labelled_images(tmp_path):
    data = simclr_keras.data.load_digits()
    parts = data.train.arrays(), data.test.arrays()
    labels = parts[0][1] + 5, parts[1][1] + 5  # not their own places
    np.savez(
        tmp_path / "digits.npz",
        images=parts[0][0][:400],
        labels=labels[0][:400],
        test_images=parts[1][0][:100],
        test_labels=labels[1][:100],
    )
    encoder = small_encoder()
    encoder.save(tmp_path / "encoder.keras")
    evaluate.main(
        [
            f"--encoder={tmp_path / 'encoder.keras'}",
            f"--arrays={tmp_path / 'digits.npz'}",
            f"--output={tmp_path / 'out'}",
            "--k=3",
        ]
    )
    results = json.loads((tmp_path / "out/results.json").read_text())
    table = {row["what"]: row["accuracy"] for row in results["accuracy"]}
    h, test_h = (
        encoder.predict(images / np.float32(255), verbose=0)
        for images in (parts[0][0][:400], parts[1][0][:100])
    )
    # float32: an image with two neighbours equally near may go either way.
    assert table["knn, k 3"] == pytest.approx(
        simclr_keras.evaluation.knn_accuracy(
            h, labels[0][:400], test_h, labels[1][:100], k=3
        ),
        abs=0.011,
    )
    assert table["knn, k 3, among the first 5"] >= table["knn, k 3"] > 0.8
    with open(tmp_path / "out/classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [str(k) for k in range(5, 15)]
    assert sum(int(row["images"]) for row in rows) == 100
    # What another call has drawn does not stay beside new results.
    (tmp_path / "out" / "notes.txt").touch()
    evaluate.main(
        [
            f"--encoder={tmp_path / 'encoder.keras'}",
            f"--arrays={tmp_path / 'digits.npz'}",
            f"--output={tmp_path / 'out'}",
            "--protocols=knn",
            "--overwrite",
        ]
    )
    assert sorted(os.listdir(tmp_path / "out")) == ["notes.txt", "results.json"]
    # Of a folder of somebody's own nothing goes.
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "classes.csv").touch()
    assert evaluate.stale_in(tmp_path / "own") == ()
    linear = next(v for k, v in table.items() if "L-BFGS" in k)
    right = sum(int(r["images"]) * float(r["accuracy"] or 0) for r in rows)
    assert right / 100 == pytest.approx(linear)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 2] * 4, "test_labels": [0, 1]}, "Received: [1]"),
        ({"labels": [0, 1] * 4, "test_labels": [0, 9]}, "Received: [9]"),
        ({"labels": [3] * 8, "test_labels": [3, 3]}, "at least two classes"),
        ({"labels": np.ones((8, 1), int)}, "labels (N,)"),
        ({"images": np.zeros((8, 8, 8, 1), "int64")}, "images of int64"),
    ],
)
def test_arrays_that_cannot_be_meant(change, message, tmp_path, capsys):
    arrays = {
        "images": np.zeros((8, 8, 8, 1), "uint8"),
        "labels": [0, 1] * 4,
        "test_images": np.zeros((2, 8, 8, 1), "uint8"),
        "test_labels": [0, 1],
        **change,
    }
    np.savez(tmp_path / "data.npz", **arrays)
    small_encoder().save(tmp_path / "encoder.keras")
    with pytest.raises(SystemExit) as error:
        evaluate.main(
            [
                f"--encoder={tmp_path / 'encoder.keras'}",
                f"--arrays={tmp_path / 'data.npz'}",
                f"--output={tmp_path / 'out'}",
            ]
        )
    assert error.value.code == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder=nowhere"], "--encoder must be an existing run folder"),
        (["--encoder=here"], "--encoder must be a run folder"),
        (["--encoder=model.keras"], "what to measure on"),
        (["--encoder=model.keras", "--dataset=digits"], "--output"),
        (
            [
                "--encoder=hub",
                "--dataset=digits",
                "--protocols=fine_tune",
                "--output=out",
            ],
            "a SavedModel is fine-tuned as",
        ),
    ],
)
def test_mistakes_with_other_encoders(
    arguments, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    os.mkdir("here")
    os.mkdir("hub")
    pathlib.Path("hub/saved_model.pb").touch()
    pathlib.Path("model.keras").touch()
    with pytest.raises(SystemExit) as error:
        evaluate.main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not pathlib.Path("out").exists()


def test_the_data_of_a_run_that_is_older_than_some_keys(tmp_path):
    config = recipes.resolve("digits", {"seed": 3})
    for key in recipes.OLDER_RUNS:
        del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "encoder.keras").write_text("")
    options = evaluate.make_parser().parse_args([f"--encoder={tmp_path}"])
    data = evaluate.load_data(options, encoder=None)
    assert data.name == "digits"
    assert len(data.train[1]) + len(data.test[1]) == 1797
