import csv
import json
import os
import pathlib
import subprocess
import sys

import evaluate
import numpy as np
import pytest

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
        f"--run_dir={folder}",
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
        "linear",
        "linear",
        "10% of the labels",
        "10% of the labels",
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
    # What is there is not written over.
    found = run("evaluate.py", f"--run_dir={folder}")
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
        (["--fine_tune_epochs", "9"], "a number for each of --fractions"),
        (["--output=here"], "is there already: here"),
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
        evaluate.main([f"--run_dir={finished}", *arguments])
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert sorted(finished.rglob("*")) == before


def test_a_folder_without_a_run(tmp_path, capsys):
    with pytest.raises(SystemExit):
        evaluate.main([f"--run_dir={tmp_path}"])
    assert "which has no config.json" in capsys.readouterr().err
