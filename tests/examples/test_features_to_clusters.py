"""From a folder of photos to neighbours, clusters and classes, without code."""

import argparse
import base64
import contextlib
import csv
import html.parser
import importlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import classify
import cluster
import contact_sheet
import encoder_and_images
import features
import features_file
import image_map
import keras
import neighbours
import numpy as np
import pytest

import simclr_keras
from simclr_keras.data.arrays import ArrayImageSet
from simclr_keras.data.image_files import find_images
from simclr_keras.evaluation.labelled_images import (
    CROP_AND_FLIP,
    training_augmentation,
)

Image = pytest.importorskip("PIL.Image", reason="Pillow writes the images")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SCRIPTS = ("features", "neighbours", "cluster", "classify")
KINDS = ("red", "stripes", "grass")
SIZE = 16


def photo(kind, rng):
    """A picture of one of three kinds, of an odd size."""
    height, width = rng.integers(20, 50, 2)
    noise = rng.normal(0, 60 if kind == "grass" else 8, (height, width, 3))
    if kind == "stripes":
        is_light = np.arange(height)[:, None, None] // 3 % 2 == 1
        image = np.where(is_light, (230, 230, 255), (20, 60, 220)) + noise
    else:
        color = (200, 40, 40) if kind == "red" else (40, 170, 60)
        image = np.array(color) + noise
    return Image.fromarray(np.clip(image, 0, 255).astype("uint8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos, labels for some of them, and an encoder."""
    root = tmp_path_factory.mktemp("from_photos")
    rng = np.random.default_rng(0)
    (root / "photos" / "older").mkdir(parents=True)
    for k in range(30):
        kind = KINDS[k % 3]
        name = f"{kind}_{k:02d}.{('png', 'jpg')[k % 2]}"
        if k == 4:  # A formula to Matplotlib, a tag to a browser.
            name = f"{kind}_Straße $x$ <b> 日本.png"
        photo(kind, rng).save(
            root / "photos" / ("older" if k > 20 else "") / name
        )
    (root / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    encoder = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(
                8,
                3,
                activation="relu",
                kernel_initializer=keras.initializers.GlorotNormal(seed=0),
            ),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    encoder.save(root / "encoder.keras")
    found = files(root / "photos")
    with open(root / "labels.csv", "w", encoding="utf-8-sig") as file:
        file.write("path,class\n")
        for kind in KINDS:  # six of each, by paths from the file's folder
            for path in [p for p in found if p.name.startswith(kind)][:6]:
                file.write(f'"{path.relative_to(root)}",{kind}\n')
                copy = root / "labelled" / kind / path.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    return root


def files(photos):
    """The readable images of a folder, in the order of the library."""
    return [
        pathlib.Path(path)
        for path in find_images(str(photos), 2**20).paths
        if not path.endswith("broken.jpg")
    ]


def load(photos):
    """Images as the encoder takes them."""
    with pytest.warns(UserWarning, match="Left out 1"):
        data = simclr_keras.data.load_image_folder(
            str(photos), SIZE, labels=None, on_error="skip"
        )
    return data.train.arrays()[0].astype("float32") / 255


@pytest.fixture(scope="module")
def expected(folder):
    """(paths, features), by the encoder itself."""
    encoder = keras.saving.load_model(folder / "encoder.keras")
    paths = [str(path) for path in files(folder / "photos")]
    return paths, encoder.predict(load(folder / "photos"), verbose=0)


@pytest.fixture(scope="module")
def written(folder):
    """A file of features, written by the script, and what it said."""
    path, told = folder / "features.npz", io.StringIO()
    with contextlib.redirect_stdout(told):
        features.main([*source(folder), f"--output={path}"])
    return path, told.getvalue()


@pytest.fixture(scope="module")
def npz(written):
    return written[0]


def source(folder, images="photos"):
    return [
        f"--encoder={folder / 'encoder.keras'}",
        f"--images={folder / images}",
    ]


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kind_of(path):
    return os.path.basename(path).split("_")[0]


def cosines(values):
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit @ unit.T


def stops(capsys, module, *arguments):
    """(exit code, the line on stderr) of a call that is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        module.main(list(map(str, arguments)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return stop.value.code, lines[0]


# --- Features ---------------------------------------------------------------
def test_features_of_each_readable_file(folder, expected, npz):
    paths, values = expected
    with np.load(npz, allow_pickle=False) as found:
        assert found["paths"].tolist() == paths
        assert len(set(paths)) == 30
        np.testing.assert_allclose(found["features"], values, atol=1e-5)


def test_what_was_left_out_is_told_with_the_reason(written):
    assert "30 images read, 1 left out." in written[1]
    assert re.search(r"broken\.jpg: .*JPEG", written[1])


def test_tables_hold_the_same_numbers(npz, tmp_path):
    found = features_file.read(npz)
    values, paths = found
    features.write(tmp_path / "f.csv", found)
    rows = read(tmp_path / "f.csv")
    assert [row["path"] for row in rows] == paths
    columns = [f"f{k}" for k in range(values.shape[1])]
    assert list(rows[0]) == ["path", *columns]
    numbers = [[np.float32(row[name]) for name in columns] for row in rows]
    np.testing.assert_allclose(numbers, values, rtol=1e-6)

    parquet = pytest.importorskip("pyarrow.parquet")
    features.write(tmp_path / "f.parquet", found)
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["path", *columns]
    assert table["path"].to_pylist() == paths
    numbers = np.stack([table[name].to_numpy() for name in columns], axis=1)
    assert numbers.dtype == "float32"
    np.testing.assert_allclose(numbers, values, rtol=1e-6)


def test_what_another_call_has_written_meanwhile_stays(written, tmp_path):
    found = features_file.read(written[0])
    path = tmp_path / "f.csv"
    path.write_text("dear")
    with pytest.raises(ValueError, match="--output is there already"):
        features.write(path, found, overwrite=False)
    assert path.read_text() == "dear"
    assert os.listdir(tmp_path) == ["f.csv"]


def test_parquet_without_its_package(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: None)
    code, line = stops(
        capsys, features, *source(folder), f"--output={tmp_path / 'f.parquet'}"
    )
    assert code == 2
    assert "pip install pyarrow" in line


@pytest.mark.slow
def test_every_kind_of_encoder(folder, expected, tmp_path):
    encoder = keras.saving.load_model(folder / "encoder.keras")
    run = tmp_path / "run"
    run.mkdir()
    # Of any size: the run's configuration has the one that it was trained on.
    inputs = keras.Input((None, None, 3))
    x = inputs
    for layer in encoder.layers:
        x = layer(x)
    keras.Model(inputs, x).save(run / "encoder.keras")
    (run / "config.json").write_text(
        json.dumps({"image_size": SIZE, "channels": 3})
    )
    model = simclr_keras.SimCLRModel(encoder, value_range=(0, 255))
    model(np.zeros((2, SIZE, SIZE, 3), "uint8"))
    model.save(tmp_path / "model.keras")
    simclr_keras.export_saved_model(encoder, tmp_path / "exported")
    images = load(folder / "photos")[:5]
    for name, image_size in (
        ("run", None),
        ("run/encoder.keras", SIZE),
        ("model.keras", None),
        ("exported", None),
    ):
        options = argparse.Namespace(
            encoder=str(tmp_path / name), image_size=image_size
        )
        encoder_and_images.check_encoder(options)
        found = encoder_and_images.load_encoder(options)
        assert found.image_size == (SIZE, SIZE)
        assert found.channels == 3
        np.testing.assert_allclose(
            found.model(images), expected[1][:5], atol=1e-5, err_msg=name
        )


def test_any_size_is_the_one_that_is_evaluated(tmp_path):
    encoder = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    crop = simclr_keras.SimCLRAugmentation(8, 8, evaluation_size=12)
    flip = simclr_keras.augmentation.RandomHorizontalFlip()
    images = np.zeros((2, 20, 20, 3), "uint8")
    classifier = simclr_keras.evaluation.ImageClassifier
    for whole in (
        simclr_keras.SimCLRModel(encoder, augmentation=crop),
        classifier(encoder, ["a", "b"], augmentation=crop),
        classifier(
            encoder, ["a", "b"], augmentation=keras.Sequential([crop, flip])
        ),
    ):
        whole(images)
        whole.save(tmp_path / "whole.keras")
        found = encoder_and_images.load_encoder(
            argparse.Namespace(
                encoder=str(tmp_path / "whole.keras"), image_size=None
            )
        )
        assert found.image_size == (12, 12)
        model = encoder_and_images.as_simclr_model(found, found.model, (0, 255))
        assert model(images).shape == (2, 4)


@pytest.mark.parametrize(("size", "proportion"), [(12, 1.0), (40, 0.875)])
def test_images_are_prepared_as_in_training(size, proportion):
    augmentation = simclr_keras.SimCLRAugmentation(8, 8, evaluation_size=size)
    encoder = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()]
    )
    whole = simclr_keras.SimCLRModel(encoder, augmentation=augmentation)
    images = np.random.default_rng(0).integers(0, 256, (3, 30, 30, 3), "uint8")
    found = encoder_and_images.Encoder(encoder, (size, size), 3, whole=whole)
    prepared = encoder_and_images.as_simclr_model(found, encoder, (0, 255))
    assert prepared.evaluation_preprocessing.crop_proportion == proportion
    np.testing.assert_array_equal(prepared(images), whole(images))
    # Training on labels crops to that size too, and not to the images'.
    crop, _ = training_augmentation(
        CROP_AND_FLIP, prepared, images.shape, (0, 255), seed=0
    ).layers
    assert (crop.height, crop.width) == (size, size)


def test_the_size_must_be_the_encoders(folder, tmp_path, capsys):
    arguments = [*source(folder), f"--output={tmp_path / 'f.npz'}"]
    code, line = stops(capsys, features, *arguments, "--image_size=32")
    assert code == 1
    assert "--image_size must be 16" in line


# --- Neighbours -------------------------------------------------------------
@pytest.mark.slow
def test_neighbours_of_all_images(folder, expected, tmp_path):
    paths, values = expected
    output = tmp_path / "alike"
    neighbours.main(
        [*source(folder), "--k=4", "--duplicates=0.995", f"--output={output}"]
    )
    cosine = cosines(values.astype("float64"))
    np.fill_diagonal(cosine, -np.inf)
    rows = read(output / "neighbours.csv")
    assert len(rows) == 4 * len(paths)
    place = {path: k for k, path in enumerate(paths)}
    for q, path in enumerate(paths):
        mine = [row for row in rows if row["query"] == path]
        assert [row["rank"] for row in mine] == ["1", "2", "3", "4"]
        best = np.sort(cosine[q])[::-1][:4]
        found = [cosine[q, place[row["neighbour"]]] for row in mine]
        np.testing.assert_allclose(found, best, atol=1e-5)
        told = [float(row["similarity"]) for row in mine]
        np.testing.assert_allclose(told, best, atol=1e-5)
        assert {kind_of(row["neighbour"]) for row in mine} == {kind_of(path)}
    pairs = [
        frozenset((row["first"], row["second"]))
        for row in read(output / "duplicates.csv")
    ]
    assert len(set(pairs)) == len(pairs) > 0
    first, second = np.nonzero(np.triu(cosine, 1) >= 0.995)
    assert set(pairs) == {
        frozenset((paths[i], paths[j])) for i, j in zip(first, second)
    }
    assert min(Image.open(output / "duplicates.png").size) > 200
    width, height = Image.open(output / "neighbours.png").size
    assert width > 500
    assert height > 1500  # twelve rows


def test_neighbours_of_queries(folder, npz, tmp_path):
    # A JPEG's pixels depend on who decodes it.
    inside = next(p for p in files(folder / "photos") if p.suffix == ".png")
    outside = tmp_path / "elsewhere.png"
    Image.open(inside).save(outside)
    neighbours.main(
        [
            f"--features={npz}",
            f"--encoder={folder / 'encoder.keras'}",
            "--query",
            str(inside),
            str(outside),
            "--k=3",
            f"--output={tmp_path / 'alike'}",
        ]
    )
    rows = read(tmp_path / "alike" / "neighbours.csv")
    assert [row["query"] for row in rows] == 3 * [str(inside)] + 3 * [
        str(outside)
    ]
    assert str(inside) not in [row["neighbour"] for row in rows[:3]]
    assert rows[3]["neighbour"] == str(inside)
    assert float(rows[3]["similarity"]) > 0.9999
    # Its copy has the same neighbours, after itself.
    told = [float(row["similarity"]) for row in rows]
    np.testing.assert_allclose(told[4:], told[:2], atol=1e-5)
    assert not (tmp_path / "alike" / "duplicates.csv").exists()


def test_a_query_that_only_an_encoder_knows(folder, npz, tmp_path, capsys):
    path = tmp_path / "elsewhere.png"
    photo("red", np.random.default_rng(1)).save(path)
    code, line = stops(
        capsys,
        neighbours,
        f"--features={npz}",
        f"--query={path}",
        f"--output={tmp_path / 'alike'}",
    )
    assert code == 2
    assert "elsewhere.png" in line
    assert "--encoder" in line
    assert not (tmp_path / "alike").exists()


def test_of_too_many_duplicates_the_most_similar_are_kept(monkeypatch):
    values = np.random.default_rng(0).normal(size=(40, 3)) + 1
    monkeypatch.setattr(neighbours, "BLOCK", 100)  # two rows at a time
    all_pairs = neighbours.find_duplicates(values, 0.5)
    monkeypatch.setattr(neighbours, "MAX_PAIRS", 7)
    few = neighbours.find_duplicates(values, 0.5)
    assert few[3] == all_pairs[3] == len(all_pairs[0]) > 100
    for kept, every in zip(few[:3], all_pairs[:3]):
        np.testing.assert_array_equal(kept, every[:7])


@pytest.mark.parametrize(("down", "count"), [(12, 5), (1, 2)])
def test_duplicates_stand_side_by_side(down, count, tmp_path, monkeypatch):
    """Red with red and blue with blue, the most similar pair first."""
    paths = []
    for k in range(4):
        paths.append(str(tmp_path / f"{k}.png"))
        image = np.zeros((20, 30, 3), "uint8")
        image[..., k % 3] = 60 * (k + 1)
        Image.fromarray(image).save(paths[-1])
    monkeypatch.setattr(neighbours, "PAIRS_DOWN", down)
    monkeypatch.setattr(neighbours, "PAIRS_ACROSS", 2)
    drawn = []
    monkeypatch.setattr(
        contact_sheet, "draw", lambda *arguments: drawn.append(arguments)
    )
    pairs = [(0, 3), (1, 2), (0, 1), (2, 3), (1, 3)]
    values = np.array([1, 0.99996, 0.999, 0.99, 0.98])
    neighbours.draw_duplicates("sheet", values, *np.transpose(pairs), paths)
    ((name, rows, title),) = drawn
    assert name == "sheet"
    assert title == (
        "Duplicates: 5 pairs"
        if count == 5
        else "Duplicates: the 2 most similar pairs"
    )
    # Two pairs in a row, with an empty place between them.
    assert [[cell is None for cell in row] for row in rows] == [
        [False, False, True, False, False],
        [False, False, True, False, False],
        [False, False],
    ][: len(rows)]
    cells = [cell for row in rows for cell in row if cell]
    assert len(cells) == 2 * count
    told = ["1.0000", "1.0000", "0.9990", "0.9900", "0.9800"]
    for k, cell in enumerate(cells):
        image = pairs[k // 2][k % 2]
        assert cell.caption == f"{told[k // 2]}\n{image}.png"
        color = np.zeros(3)
        color[image % 3] = 60 * (image + 1)
        np.testing.assert_array_equal(cell.image.mean(axis=(0, 1)), color)


def test_a_sheet_leaves_places_empty(tmp_path):
    red = np.zeros((8, 8, 3), "uint8")
    red[..., 0] = 255
    cell = contact_sheet.Cell(red, "")
    contact_sheet.draw(tmp_path / "sheet.png", [[cell, None, cell]])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    is_red = (sheet == (255, 0, 0)).all(axis=-1).any(axis=0)
    third = len(is_red) // 3
    assert is_red[third // 2]
    assert not is_red[third : 2 * third].any()
    assert is_red[-third // 2]


def test_without_duplicates_no_sheet_stays(folder, npz, tmp_path):
    for name in ("duplicates.csv", "duplicates.png", "mine.png"):
        (tmp_path / name).write_text("of an earlier call")
    arguments = [f"--features={npz}", f"--output={tmp_path}", "--overwrite"]
    values = np.eye(30)
    paths = [str(path) for path in files(folder / "photos")]
    np.savez(tmp_path / "f.npz", features=values, paths=paths)
    neighbours.main(
        [
            *arguments,
            f"--features={tmp_path / 'f.npz'}",
            "--duplicates=0.5",
        ]
    )
    assert sorted(os.listdir(tmp_path)) == [
        "duplicates.csv",
        "f.npz",
        "mine.png",
        "neighbours.csv",
        "neighbours.png",
    ]
    assert read(tmp_path / "duplicates.csv") == []


def test_an_image_alone_has_no_neighbours(folder, tmp_path, capsys):
    path = files(folder / "photos")[0]
    np.savez(tmp_path / "f.npz", features=np.ones((1, 4)), paths=[str(path)])
    arguments = [
        f"--features={tmp_path / 'f.npz'}",
        f"--output={tmp_path / 'out'}",
    ]
    code, line = stops(capsys, neighbours, *arguments)
    assert code == 1
    assert "--features must have at least two" in line
    assert str(path) in line
    assert os.listdir(tmp_path) == ["f.npz"]


# --- Clusters ---------------------------------------------------------------
class Page(html.parser.HTMLParser):
    """The text of the page's data, and what its tags refer to."""

    def __init__(self):
        super().__init__()
        self.scripts, self.references, self.current = {}, [], None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.references += [
            (name, value) for name, value in attrs.items() if name in REFERENCES
        ]
        self.current = attrs.get("id", tag) if tag == "script" else None

    def handle_endtag(self, tag):
        self.current = None

    def handle_data(self, data):
        if self.current:
            self.scripts[self.current] = self.scripts.get(self.current, "")
            self.scripts[self.current] += data


REFERENCES = ("src", "href", "srcset", "action")


@pytest.fixture(scope="module")
def clusters(folder, npz):
    output = folder / "clusters"
    output.mkdir()
    (output / "thesis.tex").write_text("not of this script")
    (output / "cluster_07.png").write_text("of an earlier call")
    cluster.main(
        [
            f"--features={npz}",
            "--clusters=3",
            f"--output={output}",
            "--overwrite",
        ]
    )
    return output


def test_three_kinds_are_three_clusters(clusters, expected):
    rows = read(clusters / "clusters.csv")
    assert [row["path"] for row in rows] == expected[0]
    by_kind = {kind: set() for kind in KINDS}
    for row in rows:
        by_kind[kind_of(row["path"])].add(row["cluster"])
    assert sorted(min(found) for found in by_kind.values()) == ["0", "1", "2"]
    assert all(len(found) == 1 for found in by_kind.values())
    unit = expected[1] / np.linalg.norm(expected[1], axis=1, keepdims=True)
    for number in "012":
        is_in = np.array([row["cluster"] == number for row in rows])
        centre = unit[is_in].mean(axis=0)
        told = [float(row["similarity"]) for row in rows]
        np.testing.assert_allclose(
            np.array(told)[is_in],
            unit[is_in] @ centre / np.linalg.norm(centre),
            atol=1e-5,
        )
    for name in ("cluster_00", "cluster_01", "cluster_02", "map"):
        assert min(Image.open(clusters / f"{name}.png").size) > 300


def test_the_page_is_whole_and_needs_no_network(clusters, expected):
    paths, values = expected
    text = (clusters / "index.html").read_text(encoding="utf-8")
    text_alone = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search("https?://", text_alone)
    assert "@@" not in text
    page = Page()
    page.feed(text)
    assert page.references == []
    assert list(page.scripts) == ["data", "script"]
    data = json.loads(page.scripts["data"])
    assert [point["path"] for point in data["points"]] == paths
    assert text.count("data:image/jpeg;base64,") == len(paths)
    assert [each["size"] for each in data["clusters"]] == [10, 10, 10]
    cosine = cosines(values.astype("float64"))
    np.fill_diagonal(cosine, -np.inf)
    for k, (point, row) in enumerate(
        zip(data["points"], read(clusters / "clusters.csv"))
    ):
        assert point["cluster"] == int(row["cluster"])
        assert 0 <= point["x"] <= 1
        assert 0 <= point["y"] <= 1
        assert len(point["near"]) == 8
        np.testing.assert_allclose(
            cosine[k, point["near"]], np.sort(cosine[k])[::-1][:8], atol=1e-5
        )
        uri = point["image"].partition(",")[2]
        decoded = keras.utils.img_to_array(_open(uri)).mean(axis=(0, 1))
        assert (
            decoded.argmax()
            == {"red": 0, "stripes": 2, "grass": 1}[kind_of(point["path"])]
        )


def _open(base64_text):
    return Image.open(io.BytesIO(base64.b64decode(base64_text)))


def test_the_page_is_headed_by_the_folder_of_the_images(clusters):
    text = (clusters / "index.html").read_text(encoding="utf-8")
    assert "<title>photos: 30 images</title>" in text


@pytest.mark.parametrize(
    ("images", "paths", "name"),
    [
        ("a/photos/", ["a/photos/b/c.png"], "photos"),
        (None, ["/x/photos/a.png", "/x/photos/older/b.png"], "photos"),
        (None, ["../photos/a.png"], "photos"),
        (None, ["/x/a.png", "/y/b.png"], "f.npz"),
        (None, ["/x/a.png", "b.png"], "f.npz"),
        (None, ["a.png", "older/b.png"], "here"),
        (".", ["./a.png"], "here"),
    ],
)
def test_what_a_page_is_headed_by(images, paths, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    options = argparse.Namespace(
        images=images, features=None if images else "../f.npz"
    )
    assert cluster.name_of_source(options, paths) == name


def test_overwriting_leaves_other_files_alone(clusters):
    assert sorted(os.listdir(clusters)) == [
        "cluster_00.png",
        "cluster_01.png",
        "cluster_02.png",
        "clusters.csv",
        "index.html",
        "map.png",
        "thesis.tex",
    ]


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (30, 4)])
def test_maps_of_few_and_of_many(method, shape):
    values = np.random.default_rng(0).normal(size=shape)
    points, name = image_map.layout(values, method, seed=0)
    assert points.shape == (len(values), 2)
    assert points.min() >= 0
    assert points.max() <= 1
    assert name == ("t-SNE" if method == "tsne" and len(values) > 10 else "PCA")


def test_pictures_of_a_map_do_not_overlap():
    points = np.random.default_rng(0).uniform(size=(300, 2))
    shown = image_map.without_overlap(points, 0.1, 400, seed=0)
    apart = np.abs(points[shown, None] - points[shown]).max(axis=-1)
    np.fill_diagonal(apart, 1)
    assert len(shown) > 30
    assert apart.min() >= 0.1


# --- Classes ----------------------------------------------------------------
@pytest.fixture(scope="module")
def classes(folder):
    output = folder / "classes"
    classify.main(
        [
            f"--encoder={folder / 'encoder.keras'}",
            f"--labels={folder / 'labels.csv'}",
            f"--apply={folder / 'photos'}",
            f"--output={output}",
        ]
    )
    return output


def test_predictions_are_those_of_the_saved_classifier(
    folder, classes, expected
):
    rows = read(classes / "predictions.csv")
    assert [row["path"] for row in rows] == expected[0]
    assert [row["class"] for row in rows] == [
        kind_of(path) for path in expected[0]
    ]
    classifier = keras.saving.load_model(classes / "classifier.keras")
    images = np.round(load(folder / "photos") * 255).astype("uint8")
    assert classifier.name_classes(images).tolist() == [
        row["class"] for row in rows
    ]
    found = keras.ops.softmax(classifier.predict(images, verbose=0))
    np.testing.assert_allclose(
        [float(row["probability"]) for row in rows],
        keras.ops.convert_to_numpy(found).max(axis=1),
        atol=1e-4,
    )


def test_results_of_held_out_files(classes):
    results = json.loads((classes / "results.json").read_text())
    assert results["accuracy"] == 1.0
    assert results["num_train_images"] == 15
    assert results["num_test_images"] == 3
    assert results["confusion"] == np.eye(3, dtype=int).tolist()
    assert list(results["classes"]) == sorted(KINDS)
    assert results["arguments"]["output"] == str(classes)
    assert results["versions"]["keras"] == keras.__version__
    assert min(Image.open(classes / "confusion.png").size) > 200


def test_a_file_under_several_names_is_one_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    for name in "ab":
        (tmp_path / "train" / f"{name}.png").touch()
    (tmp_path / "link").symlink_to("train")
    names = ["train/a.png", "./train/a.png", f"{tmp_path}/train/a.png"]
    names += ["link/a.png", "link/../train/a.png"]
    labels = tmp_path / "labels.csv"
    labels.write_text("".join(f"{name},red\n" for name in names))
    assert classify.read_labels("labels.csv") == {"train/a.png": "red"}
    for name in names[1:]:
        labels.write_text(f"train/a.png,red\ntrain/b.png,red\n{name},blue\n")
        with pytest.raises(ValueError, match="two classes, red and blue") as e:
            classify.read_labels("labels.csv")
        assert f"on line 3 of labels.csv: {name}" in str(e.value)


def test_where_labelled_files_are_looked_for(tmp_path, monkeypatch):
    """Here, then beside the labels, then in --apply."""
    here, beside, applied = (tmp_path / n for n in ("here", "beside", "apply"))
    for k, path in enumerate((here, beside, applied)):
        path.mkdir()
        for name in "abc"[: k + 1]:
            (path / name).touch()
    # No file to read, and so no reason not to look on.
    (here / "c").mkdir()
    monkeypatch.chdir(here)
    labels = beside / "labels.csv"
    labels.write_text("a,red\nb,red\nc,blue\n")
    assert list(classify.read_labels(str(labels), str(applied))) == [
        "a",
        str(beside / "b"),
        str(applied / "c"),
    ]
    with pytest.raises(ValueError, match="nor in --apply, on line 3 of"):
        classify.read_labels(str(labels))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_dense_layer_is_the_logistic_regression(num_classes):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = np.arange(60) % num_classes
    values = rng.normal(size=(60, 5)) * 3 + 7
    values[:, 0] += labels
    kernel, bias = classify.fit_linear(values.astype("float32"), labels)
    logits = values @ kernel + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))

    standard = simclr_keras.evaluation.standardize(values)[0]
    l2 = simclr_keras.evaluation.linear_evaluation(
        values, labels, values, labels, l2_values=classify.L2_VALUES
    ).l2
    regression = LogisticRegression(C=1 / (l2 * 60), max_iter=1000)
    regression.fit(standard, labels)
    np.testing.assert_allclose(
        powers / powers.sum(axis=1, keepdims=True),
        regression.predict_proba(standard),
        atol=1e-3,
    )


@pytest.mark.slow
def test_fine_tuning_on_a_folder_for_each_class(folder, tmp_path):
    output = tmp_path / "tuned"
    classify.main(
        [
            f"--encoder={folder / 'encoder.keras'}",
            f"--train={folder / 'labelled'}",
            "--test_fraction=0",
            "--fine_tune",
            "--epochs=2",
            f"--output={output}",
        ]
    )
    results = json.loads((output / "results.json").read_text())
    assert results["method"] == "fine_tune"
    assert results["accuracy"] is None
    assert results["num_train_images"] == 18
    assert sorted(os.listdir(output)) == ["classifier.keras", "results.json"]
    classifier = keras.saving.load_model(output / "classifier.keras")
    before = keras.saving.load_model(folder / "encoder.keras")
    assert classifier.class_names == sorted(KINDS)
    assert np.any(
        classifier.encoder.get_weights()[0] != before.get_weights()[0]
    )


def test_a_linear_classifier_knows_the_size_of_its_images(tmp_path):
    encoder = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, strides=2),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 12, 12, 3), "uint8")
    labels = np.arange(8) % 2
    classifier = classify.train_linear(
        encoder_and_images.Encoder(encoder, (12, 12), 3),
        classify.Labelled(ArrayImageSet(images, labels), labels, ["a", "b"]),
        np.arange(8),
        batch_size=4,
    )
    classifier.save(tmp_path / "classifier.keras")
    options = argparse.Namespace(
        encoder=str(tmp_path / "classifier.keras"), image_size=None
    )
    found = encoder_and_images.load_encoder(options)
    assert found.image_size == (12, 12)
    # Images of any other size are brought to it, and those of it stay.
    large = rng.integers(0, 256, (2, 40, 30, 3), "uint8")
    resized = simclr_keras.augmentation.CenterCropAndResize(
        12, 12, crop_proportion=1.0
    )(large)
    for given, taken in ((large, resized), (images, images)):
        h = encoder(keras.ops.cast(taken, "float32") / 255)
        np.testing.assert_allclose(
            found.whole(given), classifier.classifier(h), atol=1e-5
        )


@pytest.mark.slow
def test_a_saved_classifier_is_applied_later(folder, classes, tmp_path):
    classify.main(
        [
            f"--classifier={classes / 'classifier.keras'}",
            f"--apply={folder / 'photos'}",
            f"--output={tmp_path / 'later'}",
        ]
    )
    assert os.listdir(tmp_path / "later") == ["predictions.csv"]
    assert read(tmp_path / "later" / "predictions.csv") == read(
        classes / "predictions.csv"
    )


# --- Mistakes ---------------------------------------------------------------
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_quick_and_has_the_defaults(script):
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{script}.py"), "--help"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert time.monotonic() - started < 3
    parser = importlib.import_module(script).make_parser()
    told = " ".join(process.stdout.split())
    for action in parser._actions:
        if not action.required and action.default not in (None, "==SUPPRESS=="):
            assert action.option_strings[-1] in told
            assert f"(default: {action.default})" in told
        elif not action.required and action.default is None:
            # What there is without it is said in words.
            assert "Default: " in action.help
    assert "default: None" not in told


def arguments_of(script, folder, output):
    if script == "classify":
        return [
            f"--encoder={folder / 'encoder.keras'}",
            f"--labels={folder / 'labels.csv'}",
            f"--output={output}",
        ]
    return [*source(folder), f"--output={output}"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_mistakes_are_one_line_and_write_nothing(
    script, folder, tmp_path, capsys
):
    module = importlib.import_module(script)
    output = tmp_path / "made" / ("f.npz" if script == "features" else "out")
    right = arguments_of(script, folder, output)
    nowhere = tmp_path / "nowhere"
    flag = "--apply" if script == "classify" else "--images"
    for wrong, message in (
        (["stray"], "stray"),
        (["--clustres=3"], "--clustres"),
        (["--batch_size=0"], "positive integer"),
        ([f"--encoder={nowhere}"], "nowhere"),
        ([f"--encoder={folder / 'photos'}"], "--encoder must be"),
        ([f"{flag}={nowhere}"], "nowhere"),
    ):
        code, line = stops(capsys, module, *right, *wrong)
        assert code == 2
        assert message in line
        assert line.startswith(f"{os.path.basename(sys.argv[0])}: error: ")
    code, line = stops(capsys, module, *right[:-1])
    assert code == 2
    assert "--output" in line
    # A file that is no encoder, and a folder without images.
    (tmp_path / "no.keras").write_text("no encoder")
    (tmp_path / "empty").mkdir()
    for wrong in (
        [f"--encoder={tmp_path / 'no.keras'}"],
        [f"{flag}={tmp_path / 'empty'}"],
    ):
        code, line = stops(capsys, module, *right, *wrong)
        assert code == 1
    assert f"{flag} must contain images" in line
    assert "`" not in line
    assert sorted(os.listdir(tmp_path)) == ["empty", "no.keras"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_there_is_not_overwritten(script, folder, tmp_path, capsys):
    module = importlib.import_module(script)
    output = tmp_path / "f.npz" if script == "features" else tmp_path
    (tmp_path / "f.npz").write_text("dear")
    code, line = stops(capsys, module, *arguments_of(script, folder, output))
    assert code == 2
    assert "--overwrite" in line
    assert os.listdir(tmp_path) == ["f.npz"]
    assert (tmp_path / "f.npz").read_text() == "dear"


@pytest.mark.parametrize("script", ["neighbours", "cluster", "classify"])
def test_a_run_of_pretrain_is_left_alone(script, folder, tmp_path, capsys):
    module = importlib.import_module(script)
    names = ["config.json", "made_of.json", "results.json"]
    for name in names:
        (tmp_path / name).write_text("dear")
    code, line = stops(
        capsys, module, *arguments_of(script, folder, tmp_path), "--overwrite"
    )
    assert code == 2
    assert "--output must not be the folder of a run" in line
    assert sorted(os.listdir(tmp_path)) == names
    assert (tmp_path / "results.json").read_text() == "dear"


@pytest.mark.parametrize("script", ["neighbours", "cluster"])
@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        (np.full((2, 3), "1"), 2, "its features must be floats"),
        (np.array([[1, 2.0], [np.nan, 1]]), 1, "for 1 of 2 images, such as b"),
        (np.array([[1, np.inf], [1, 1]]), 1, "for 1 of 2 images, such as a"),
    ],
)
def test_features_that_are_no_numbers(
    script, values, code, message, tmp_path, capsys
):
    path = tmp_path / "f.npz"
    np.savez(path, features=values, paths=["a", "b"])
    found, line = stops(
        capsys,
        importlib.import_module(script),
        f"--features={path}",
        f"--output={tmp_path / 'out'}",
    )
    assert found == code
    assert "--features" in line
    assert message in line
    assert str(path) in line
    assert os.listdir(tmp_path) == ["f.npz"]


@pytest.mark.parametrize("script", ["neighbours", "cluster"])
def test_pictures_do_not_go_among_the_photos(script, folder, capsys):
    module = importlib.import_module(script)
    output = folder / "photos" / "out"
    code, line = stops(capsys, module, *arguments_of(script, folder, output))
    assert code == 2
    assert "next time" in line
    assert not output.exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("photos/nowhere.jpg,cat", "on line 1"),
        ("{0},red\n{0},blue", "two classes"),
        ("{0},red,blue", "a path and a class"),
        ("{0},red", "at least two classes"),
        ("path,class\n", "no lines"),
    ],
)
def test_wrong_labels(lines, message, folder, tmp_path, capsys):
    path = files(folder / "photos")[0]
    labels = tmp_path / "labels.csv"
    labels.write_text(lines.format(path), encoding="utf-8")
    code, line = stops(
        capsys,
        classify,
        f"--encoder={folder / 'encoder.keras'}",
        f"--labels={labels}",
        f"--output={tmp_path / 'out'}",
    )
    assert code == 2
    assert message in line
    assert os.listdir(tmp_path) == ["labels.csv"]


def test_the_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    options = features.make_parser().parse_args(
        ["--encoder=~/e.keras", "--images=~/photos", "--output=~/f.npz"]
    )
    assert options.encoder == str(folder / "e.keras")
    assert options.images == str(folder / "photos")
    assert options.output == str(folder / "f.npz")
