"""The scripts on images whose 16 bits, or channels, 8 bits would not show."""

import csv
import json

import classify
import distill
import evaluate
import features
import fine_tune
import keras
import neighbours
import numpy as np
import pytest
import tifffile
from PIL import Image

import simclr_keras

SIZE = 16
COUNT = 12  # of each class


def write_grey(path, pixels):
    Image.fromarray(pixels[..., 0]).save(path.with_suffix(".png"))


def write_bands(path, pixels):
    tifffile.imwrite(
        path.with_suffix(".tif"),
        pixels,
        photometric="minisblack",
        planarconfig="contig",
    )


@pytest.fixture(scope="module", params=[(1, write_grey), (13, write_bands)])
def written(request, tmp_path_factory):
    """Two classes that are black in 8 bits, and a run on such images."""
    channels, write = request.param
    folder = tmp_path_factory.mktemp("bits")
    rng = np.random.default_rng(0)
    for kind in "ab":
        (folder / "images" / kind).mkdir(parents=True)
        for k in range(COUNT):
            pixels = rng.integers(0, 80, (SIZE, SIZE, channels))
            if kind == "b":
                pixels[:, ::4] += 100
            write(folder / "images" / kind / str(k), pixels.astype("uint16"))
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, channels)),
            keras.layers.Conv2D(8, 3, activation="relu", use_bias=False),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model = simclr_keras.SimCLRModel(
        encoder, simclr_keras.ProjectionHead(4), value_range=(0, 65535)
    )
    model.build((None, SIZE, SIZE, channels))
    run = folder / "run"
    run.mkdir()
    encoder.save(run / "encoder.keras")
    model.save(run / "model.keras")
    # As `pretrain.py --as_stored` writes it.
    config = {"image_size": SIZE, "channels": 3, "as_stored": True}
    (run / "config.json").write_text(json.dumps(config))
    return folder


def query(written, kind):
    """One of the images, by another path."""
    (image,) = (written / "images" / kind).glob("0.*")
    other = written / f"query_{kind}{image.suffix}"
    other.write_bytes(image.read_bytes())
    return image, other


@pytest.mark.parametrize("kind", "ab")
def test_neighbours_of_a_query(written, kind, tmp_path):
    image, other = query(written, kind)
    neighbours.main(
        [
            f"--encoder={written / 'run'}",
            f"--images={written / 'images'}",
            "--query",
            str(other),
            "--k=5",
            f"--output={tmp_path / 'alike'}",
        ]
    )
    (table,) = (tmp_path / "alike").glob("*.csv")
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["neighbour"] == str(image)
    assert float(rows[0]["similarity"]) == pytest.approx(1, abs=1e-5)
    assert {row["neighbour"].split("/")[-2] for row in rows} == {kind}


def test_features_are_those_of_the_model(written, tmp_path):
    features.main(
        [
            f"--encoder={written / 'run'}",
            f"--images={written / 'images'}",
            f"--output={tmp_path / 'features.npz'}",
        ]
    )
    with np.load(tmp_path / "features.npz") as file:
        found = file["features"]
    data = simclr_keras.data.load_image_folder(
        written / "images", SIZE, channels="auto"
    )
    model = keras.saving.load_model(written / "run" / "model.keras")
    images, _ = data.train.arrays()
    assert images.dtype == "uint16"
    expected = keras.ops.convert_to_numpy(model.encoder(images / 65535))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_evaluation_sees_them(written, tmp_path):
    evaluate.main(
        [
            f"--encoder={written / 'run'}",
            f"--images={written / 'images'}",
            f"--output={tmp_path / 'worth'}",
        ]
    )
    results = json.loads((tmp_path / "worth" / "results.json").read_text())
    assert [row["accuracy"] for row in results["accuracy"]] == [1.0, 1.0]


def test_classifiers_see_them(written, tmp_path, capsys):
    train = tmp_path / "linear"
    classify.main(
        [
            f"--encoder={written / 'run'}",
            f"--train={written / 'images'}",
            f"--output={train}",
        ]
    )
    assert json.loads((train / "results.json").read_text())["accuracy"] == 1.0
    # From the file alone, which knows what it takes by itself.
    classify.main(
        [
            f"--classifier={train / 'classifier.keras'}",
            f"--apply={written / 'images'}",
            f"--output={tmp_path / 'applied'}",
        ]
    )
    with open(tmp_path / "applied" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * COUNT
    assert all(row["path"].split("/")[-2] == row["class"] for row in rows)
    distill.main(
        [
            f"--teacher={train / 'classifier.keras'}",
            f"--student={written / 'run' / 'encoder.keras'}",
            f"--images={written / 'images'}",
            "--epochs=1",
            f"--output={tmp_path / 'student'}",
        ]
    )
    results = json.loads((tmp_path / "student" / "results.json").read_text())
    assert results["accuracy"]["teacher"] == 1.0


def test_labelled_files_see_them(written, tmp_path):
    lines = [
        f"{path},{path.parent.name}"
        for path in (written / "images").rglob("*.*")
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    classify.main(
        [
            f"--encoder={written / 'run'}",
            f"--labels={tmp_path / 'labels.csv'}",
            f"--output={tmp_path / 'classes'}",
        ]
    )
    results = json.loads((tmp_path / "classes" / "results.json").read_text())
    assert results["accuracy"] == 1.0


def test_fine_tuning_takes_them(written, tmp_path):
    fine_tune.main(
        [
            f"--encoder={written / 'run'}",
            f"--images={written / 'images'}",
            "--epochs=1",
            f"--output={tmp_path / 'tuned'}",
        ]
    )
    tuned = keras.saving.load_model(tmp_path / "tuned" / "classifier.keras")
    assert tuple(tuned.value_range) == (0, 65535)
