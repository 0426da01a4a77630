"""README's way from a folder of photos to something useful, as it stands."""

import csv
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.browser import chromium

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]
NUM_CLASSES, PER_CLASS, LABELLED = 10, 40, 5
# The recipe's length teaches more, in a quarter of an hour.
SHORT = ["--steps=400"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the examples and 400 photos, of which 50 are labelled."""
    tfds = pytest.importorskip("tensorflow_datasets")
    shared = os.environ.get("SIMCLR_KERAS_TEST_DATA", ROOT / "../shared/data")
    data_dir = pathlib.Path(shared) / "tfds"
    if not (data_dir / "cifar10").is_dir():
        pytest.skip(f"CIFAR-10 is not prepared in {data_dir}.")
    place = tmp_path_factory.mktemp("story")
    (place / "photos").mkdir()
    (place / "examples").symlink_to(ROOT / "examples")
    found = tfds.load("cifar10", data_dir=data_dir, split="test", batch_size=-1)
    images, labels = np.array(found["image"]), np.array(found["label"])
    lines, classes = [], {}
    for label in range(NUM_CLASSES):
        of_class = np.flatnonzero(labels == label)[:PER_CLASS]
        for k, index in enumerate(of_class):
            name = f"photos/{index:05}.png"
            Image.fromarray(images[index]).save(place / name)
            classes[name] = str(label)
            if k < LABELLED:
                lines.append(f"{name},{label}\n")
    (place / "labels.csv").write_text("".join(lines))
    (place / "classes.json").write_text(json.dumps(classes))
    return place


@pytest.fixture(scope="module")
def commands(place):
    """Runs README's commands; what each is called, and its seconds."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## Without writing code\n")[1].split("\n## ")[0]
    block = "\n".join(re.findall(r"^    (.*)$", section, flags=re.MULTILINE))
    lines = block.replace("\\\n", " ").splitlines()
    seconds = {}
    for line in lines:
        program, script, *arguments = shlex.split(line)
        assert program == "python"
        name = pathlib.Path(script).stem
        started = time.monotonic()
        process = subprocess.run(
            [sys.executable, script, *arguments]
            + (SHORT if name == "pretrain" else []),
            cwd=place,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.returncode == 0, process.stderr
        seconds[name] = time.monotonic() - started
        print(f"{name}: {seconds[name]:.0f} s")
    return seconds


def test_each_command_does_its_part(place, commands):
    assert list(commands) == [
        "pretrain",
        "features",
        "neighbours",
        "cluster",
        "classify",
    ]
    with np.load(place / "features.npz") as file:
        assert len(file["features"]) == NUM_CLASSES * PER_CLASS
        assert sorted(file["paths"]) == sorted(classes(place))


def classes(place):
    """Dictionary from each photo's path to its class."""
    return json.loads((place / "classes.json").read_text())


def test_neighbours_are_of_a_kind(place, commands):
    truth = classes(place)
    with open(place / "alike/neighbours.csv") as file:
        rows = list(csv.DictReader(file))
    same = [truth[row["query"]] == truth[row["neighbour"]] for row in rows]
    assert np.mean(same) > 1.5 / NUM_CLASSES


def test_five_labels_a_class_tell_the_others(place, commands):
    truth = classes(place)
    labelled = (place / "labels.csv").read_text()
    with open(place / "classes/predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(truth)
    right = [
        truth[row["path"]] == row["class"]
        for row in rows
        if row["path"] not in labelled
    ]
    assert len(right) == NUM_CLASSES * (PER_CLASS - LABELLED)
    assert np.mean(right) > 1.5 / NUM_CLASSES


def test_the_map_in_a_browser(place, commands):
    chromium.check_map(place / "clusters/index.html", NUM_CLASSES * PER_CLASS)
