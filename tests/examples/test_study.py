import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import own_data
import pytest
import studies
import study
import study_page
import trial
from PIL import Image

import simclr_keras

ROOT = pathlib.Path(__file__).parents[2]
SMALLEST = {"epochs": 1, "batch_size": 8, "width": 1 / 8}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 24 images, light ones and dark ones."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 100)):
        (folder / name).mkdir()
        for k in range(24):
            pixels = rng.integers(low, low + 150, (12, 12, 3), "uint8")
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def images(photos):
    data = simclr_keras.data.load_image_folder(photos, 8, test_fraction=0.25)
    return trial.Images(data, 32, 12)


@pytest.fixture
def fake_trials(monkeypatch):
    """Trials that measure nothing; a list of what was asked for."""
    asked = []

    def run(config, images, seed):
        asked.append((config, seed))
        value = (len(asked) % 37) / 37
        return {
            **dict.fromkeys(trial.measures(config), value),
            "seconds": 0.0,
        }

    monkeypatch.setattr(trial, "run", run)
    return asked


def run(photos, output, name, *arguments):
    study.main(
        [
            f"--study={name}",
            f"--image_folder={photos}",
            "--image_size=8",
            f"--output={output}",
            *arguments,
        ]
    )


# One of each kind of table and picture.
QUICK = ("augmentation_pairs", "loss", "invariance", "projection_head")


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in studies.STUDIES
    ],
)
def test_table_picture_and_page(name, photos, tmp_path, fake_trials):
    run(photos, tmp_path, name, "--seeds=2")
    each = studies.STUDIES[name]
    page = (tmp_path / name / "study.md").read_text()
    assert each.title in page
    for row, column in {(cell.row, cell.column) for cell in each.cells}:
        assert row in page
        assert column in page
    for number in each.paper.values():
        assert f"{number:.1f}" in page
    for claim, _ in each.claims:
        assert claim in page
    with Image.open(tmp_path / name / "study.png") as picture:
        assert picture.size == (840, 600)
    rows = (tmp_path / name / "study.csv").read_text().splitlines()
    places = {(cell.row, cell.column) for cell in each.cells}
    assert len(places) == len(each.cells)
    assert len(rows) == 1 + 2 * len(each.cells)
    # Every trial's values are some that there are.
    for config, _ in fake_trials:
        assert config.keys() == studies.DEFAULTS.keys()


def test_the_documented_numbers_of_trials():
    text = (ROOT / "docs" / "studies.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d or]+) \|$", text, re.MULTILINE)
    documented = dict(rows)
    assert documented.pop(own_data.NAME) == "7 or 8"
    assert documented.keys() == studies.STUDIES.keys()
    for name, count in documented.items():
        cells = studies.STUDIES[name].cells
        made_of = {
            study.as_key({**studies.DEFAULTS, **cell.changes}) for cell in cells
        }
        assert int(count) == len(made_of), name


@pytest.mark.slow
def test_makes_only_what_is_missing(photos, tmp_path, fake_trials, monkeypatch):
    fake = trial.run
    cells = studies.STUDIES["temperature"].cells
    count = len({study.as_key(cell.changes) for cell in cells})

    def interrupted(*arguments):
        if len(fake_trials) == 3:
            raise KeyboardInterrupt
        return fake(*arguments)

    monkeypatch.setattr(trial, "run", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(photos, tmp_path, "temperature")
    assert stopped.value.code == 130
    assert not (tmp_path / "temperature" / "study.md").exists()
    monkeypatch.setattr(trial, "run", fake)
    run(photos, tmp_path, "temperature")
    assert len(fake_trials) == count
    first = (tmp_path / "temperature" / "study.csv").read_text()
    # Nothing is made again, and what another study has in common is there.
    run(photos, tmp_path, "temperature")
    assert len(fake_trials) == count
    assert (tmp_path / "temperature" / "study.csv").read_text() == first
    run(photos, tmp_path, "head_layers")
    assert len(fake_trials) == count + 2  # of three; the default is there
    run(photos, tmp_path, "temperature", "--seeds=2")
    assert len(fake_trials) == 2 * count + 2
    # A trial that cannot be read is made again; other images are others.
    some = next((tmp_path / "trials").iterdir())
    some.write_text("{")
    run(photos, tmp_path, "temperature", "--seeds=2")
    run(photos, tmp_path, "head_layers")
    assert len(fake_trials) == 2 * count + 3
    for k, other in enumerate(("--images=10", "--test_images=4")):
        run(photos, tmp_path, "head_layers", other)
        assert len(fake_trials) == 2 * count + 6 + 3 * k


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_stopped_study_says_that_it_goes_on(
    number, status, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(trial, "run", lambda *_: signal.raise_signal(number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(SystemExit) as stopped:
        run(photos, tmp_path, "own_data")
    signal.signal(signal.SIGINT, before)
    assert stopped.value.code == status
    assert "The same command makes the trials" in capsys.readouterr().out


def test_a_page_says_that_its_trials_were_too_short(
    photos, tmp_path, fake_trials
):
    run(photos, tmp_path, "head_layers", "--epochs=1")
    page = (tmp_path / "head_layers" / "study.md").read_text()
    assert "fewer than 300 teach next to nothing" in page
    run(photos, tmp_path, "head_layers", "--epochs=100", "--batch_size=8")
    page = (tmp_path / "head_layers" / "study.md").read_text()
    assert "teach next to nothing" not in page


def test_own_data_chooses_by_the_training_images(
    photos, tmp_path, monkeypatch, capsys
):
    def measure(config, images, seed):
        good = (config["strength"] == 1.0) + (config["min_area"] == 0.4)
        return {
            "knn": 0.5 - 0.2 * good,
            "knn_training": 0.5 + 0.2 * good,
            "seconds": 0.0,
        }

    monkeypatch.setattr(trial, "run", measure)
    run(photos, tmp_path, "own_data")
    printed = capsys.readouterr().out
    command = next(
        line for line in printed.splitlines() if "examples/pretrain.py" in line
    )
    # What was not chosen as well: the recipe's temperature is another.
    assert "--min_area=0.4 --strength=1 --temperature=0.2" in command
    # The recipe for few photos, but for a quarter of the training images.
    assert "--recipe=small" in command
    assert "--batch_size=9" in command
    page = (tmp_path / "own_data" / "study.md").read_text()
    assert "kNN, held out" in page
    assert command in page


def test_own_data_leaves_what_noise_made_better(
    photos, tmp_path, monkeypatch, capsys
):
    def measure(config, images, seed):
        good = (config["strength"] == 1.0) + (config["min_area"] == 0.4)
        return {"knn": 0.5, "knn_training": 0.5 + 0.1 * good, "seconds": 0.0}

    monkeypatch.setattr(trial, "run", measure)
    run(photos, tmp_path, "own_data")
    printed = capsys.readouterr().out
    # Of 38 images: 100 * sqrt(2 * 0.5 * 0.5 / 38).
    assert "Nothing is better than the default by more than 11.5" in printed
    assert "--min_area=0.2 --strength=0.5 --temperature=0.2" in printed


def test_own_data_recommends_what_its_trials_had(
    photos, tmp_path, fake_trials, capsys
):
    run(photos, tmp_path, "own_data")
    as_it_is = capsys.readouterr().out
    assert "--depth" not in as_it_is
    assert "--width" not in as_it_is
    given = "--depth=34", "--width=0.25", "--batch_size=8", "--image_size=16"
    run(photos, tmp_path, "own_data", *given)
    command = next(
        line
        for line in capsys.readouterr().out.splitlines()
        if "examples/pretrain.py" in line
    )
    recommended = "--depth=34", "--width_multiplier=0.25", *given[2:]
    assert {*recommended} <= {*command.split()}


def test_own_data_of_a_data_set_recommends_what_it_was_given(
    tmp_path, fake_trials, capsys
):
    study.main(
        [
            *("--study=own_data", "--dataset=digits", f"--output={tmp_path}"),
            *("--images=40", "--test_images=20", "--depth=34"),
        ]
    )
    printed = capsys.readouterr().out
    assert "--depth=34" in printed
    assert "--width" not in printed


def test_own_data_on_a_folder_that_is_held_out(
    photos, tmp_path, fake_trials, monkeypatch, capsys
):
    seen = []
    kept = trial.Images.__init__

    def init(self, *arguments):
        kept(self, *arguments)
        seen.append((self.num_train, self.num_test))

    monkeypatch.setattr(trial.Images, "__init__", init)
    others = tmp_path / "others"
    shutil.copytree(photos, others)
    run(photos, tmp_path, "own_data", f"--test_folder={others}")
    assert seen == [(48, 48)]
    assert f"--test_folder={others}" in capsys.readouterr().out
    for arguments, message in (
        ([], "--test_folder needs --image_folder"),
        ([f"--image_folder={others}"], "must hold other images"),
    ):
        with pytest.raises(SystemExit):
            study.main(["--study=loss", f"--test_folder={others}", *arguments])
        assert message in capsys.readouterr().err


def every_value():
    """The trials that differ in what they make, each once."""
    some = {}
    for each in studies.STUDIES.values():
        for cell in each.cells:
            for key, value in cell.changes.items():
                if key in ("loss", "head", "method", "optimizer"):
                    some[key, value] = {key: value}
    # Table 3 and Table 7 in one.
    some["besides"] = {"told": "rotation", "fine_tune": True, "view_size": 0.5}
    some["few labels"] = {"method": "supervised", "label_fraction": "10 %"}
    some["views"] = {"views": [*studies.TRANSFORMATIONS], "one_branch": True}
    some["both"] = {"views": ["color", "blur"]}
    return list(some.values())


@pytest.mark.slow
@pytest.mark.parametrize("changes", every_value(), ids=str)
def test_trials(changes, images):
    config = {**studies.DEFAULTS, **SMALLEST, **changes}
    results = trial.run(config, images, seed=0)
    measured = set(results) & set(study_page.METRICS)
    assert measured == trial.measures(config) & set(study_page.METRICS)
    assert trial.measures(config) <= set(results)
    assert all(0 <= results[name] <= 1 for name in measured)
    assert "diverged" not in results


@pytest.mark.parametrize("told", studies.TOLD)
def test_what_was_done_to_an_image(told):
    images = np.random.default_rng(1).integers(0, 256, (600, 4, 4, 3), "uint8")
    found, which = trial.transformed(images, (0, 255), told, seed=0)
    if told == "rotation":
        for image, before, turns in zip(found, images, which):
            np.testing.assert_array_equal(image, np.rot90(before, turns))
        assert np.bincount(which).min() > 100
        return
    is_changed = np.abs(found - images).max(axis=(1, 2, 3)) > 0
    np.testing.assert_array_equal(is_changed, which)
    assert abs(which.mean() - studies.TOLD[told]) < 0.06
    if told == "grayscale":
        np.testing.assert_array_equal(
            (found[which == 1] == found[which == 1, ..., :1]).all(), True
        )
    # As often as the most frequent class comes.
    assert trial.guess(told) == max(studies.TOLD[told], 1 - studies.TOLD[told])


@pytest.mark.slow
def test_a_trial_follows_from_its_seed(images):
    config = {**studies.DEFAULTS, **SMALLEST}
    first, again = (trial.run(config, images, seed=3) for _ in range(2))
    other = trial.run(config, images, seed=4)
    assert first["loss"] == pytest.approx(again["loss"], rel=1e-5)
    assert other["loss"] != pytest.approx(first["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"loss": "unnormalized", "head": "linear", "told": "rotation"},
            {"linear": 0.5, "told_by_h": 0.25, "contrastive_accuracy": 1 / 8},
        ),
        ({"method": "supervised", "views": ["crop"]}, {"supervised": 0.5}),
    ],
)
def test_a_trial_that_diverges_is_a_guess(images, changes, expected):
    config = {
        **studies.DEFAULTS,
        **SMALLEST,
        "epochs": 4,
        "learning_rate": 1e30,
        **changes,
    }
    results = trial.run(config, images, seed=0)
    for key, value in expected.items():
        assert results[key] == value


def test_of_a_small_class_all_images_are_taken():
    labels = np.repeat([0, 1, 2], [5, 40, 60])
    images = np.arange(105, dtype="uint8").reshape(-1, 1, 1, 1)
    found, its_labels = trial._some_of(
        types.SimpleNamespace(arrays=lambda: (images, labels)), 30
    )
    assert np.bincount(its_labels).tolist() == [5, 10, 10]
    np.testing.assert_array_equal(labels[found.ravel()], its_labels)


def test_labels_of_unequal_classes(monkeypatch):
    images = types.SimpleNamespace(
        train=np.zeros((100, 4, 4, 3), "uint8"),
        labels=np.repeat([0, 1], [95, 5]),
        test=None,
        test_labels=None,
        num_train=100,
        num_classes=2,
        value_range=(0, 255),
    )
    given = {}

    def fine_tune(model, train, test, **kwargs):
        given.update(kwargs, labels=train[1])
        return types.SimpleNamespace(accuracy=0.75)

    monkeypatch.setattr(trial.evaluation, "fine_tune", fine_tune)
    config = {**studies.DEFAULTS, "epochs": 2, "batch_size": 10}
    for fraction, per_class in (("1 %", 1), ("10 %", 5)):
        assert (
            trial._train_on_labels(
                None, config, images, 0, fraction, augmentation=None
            )
            == 0.75
        )
        assert np.bincount(given["labels"]).tolist() == [per_class] * 2
        steps = -(-2 * per_class // given["batch_size"]) * given["epochs"]
        assert steps == 20  # The pretraining's.


def test_what_was_done_to_test_images_is_drawn_anew(monkeypatch, images):
    draws = []
    transformed = trial.transformed

    def recorded(part, value_range, told, seed):
        draws.append(seed)
        return transformed(part, value_range, told, seed)

    monkeypatch.setattr(trial, "transformed", recorded)
    monkeypatch.setattr(
        trial.evaluation,
        "extract_features",
        lambda model, part, output: part.reshape(len(part), -1),
    )
    for seed in range(2):
        found = trial._told_by(None, "projection", "rotation", images, seed)
        assert 0 <= found <= 1
    assert len(set(draws)) == 4


def test_studies_of_colours_refuse_gray_images(tmp_path, capsys):
    with pytest.raises(SystemExit):
        study.main(
            ["--study=invariance", "--dataset=digits", f"--output={tmp_path}"]
        )
    assert "needs images of three channels" in capsys.readouterr().err


@pytest.mark.slow
def test_without_labels(tmp_path):
    for k in range(10):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{k}.png")
    found = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / "study.py"),
            "--study=loss",
            f"--image_folder={tmp_path}",
            f"--output={tmp_path / 'out'}",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert found.returncode == 1
    assert "needs images with labels" in found.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_what_is_kept_says_what_it_was_made_of(photos, tmp_path, fake_trials):
    run(photos, tmp_path, "head_layers", "--epochs=7")
    for path in (tmp_path / "trials").iterdir():
        kept = json.loads(path.read_text())
        assert kept["made_of"]["epochs"] == 7
        assert kept["made_of"]["seed"] == 0
        assert 0 <= kept["results"]["linear"] <= 1
