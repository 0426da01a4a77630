import csv
import json
import os
import shutil

import distill
import fine_tune
import keras
import labelled_data
import matplotlib.image
import numpy as np
import pytest

import simclr_keras

SIZE = 16
CLASSES = ("dark", "light", "red")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder for each class, that a glance tells apart."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, color in zip(CLASSES, ((0, 0, 0), (200, 200, 200), (200, 0, 0))):
        (folder / name).mkdir()
        for k in range(20):
            noise = rng.integers(0, 56, (SIZE, SIZE, 3))
            image = (noise + color).astype("uint8")
            matplotlib.image.imsave(folder / name / f"{k}.png", image)
    return folder


def make_encoder(units=8):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(units, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


@pytest.fixture(scope="module")
def tuned(photos, tmp_path_factory):
    """Where `fine_tune.py` has written, for a model with its head."""
    folder = tmp_path_factory.mktemp("tuned")
    model = simclr_keras.SimCLRModel(
        make_encoder(), simclr_keras.ProjectionHead(4, num_layers=2)
    )
    model(np.zeros((1, SIZE, SIZE, 3), "uint8"))
    model.build((None, SIZE, SIZE, 3))
    model.save(folder / "model.keras")
    plot = simclr_keras.plots.plot_history

    def plot_and_note(history, path):
        (folder / "drawn.json").write_text(json.dumps(history))
        return plot(history, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simclr_keras.plots, "plot_history", plot_and_note)
        fine_tune.main(
            [
                f"--encoder={folder / 'model.keras'}",
                f"--images={photos}",
                "--labels_per_class=10",
                "--head_layers=1",
                "--epochs=30",
                "--learning_rate=1.0",
                "--baseline",
                f"--output={folder / 'out'}",
            ]
        )
    return folder / "out"


def test_the_baseline_is_drawn_beside_what_is_pretrained(tuned):
    drawn = json.loads((tuned.parent / "drawn.json").read_text())
    for name in ("loss", "accuracy"):
        assert len(drawn[name]) == len(drawn[f"from_scratch_{name}"]) == 30


def test_what_fine_tune_writes(tuned):
    results = json.loads((tuned / "results.json").read_text())
    assert set(results["accuracy"]) == {"pretrained", "from scratch"}
    assert results["accuracy"]["pretrained"] > 0.9
    assert results["num_train_images"] == 30
    files = results["train_images"]
    assert len(set(files)) == 30
    assert all(os.path.isfile(file) for file in files)
    assert results["num_test_images"] == 12
    with open(tuned / "classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASSES)
    right = sum(int(r["images"]) * float(r["accuracy"]) for r in rows)
    assert right / 12 == pytest.approx(results["accuracy"]["pretrained"])
    for name in ("confusion.png", "training.png"):
        assert matplotlib.image.imread(tuned / name).std() > 0
    model = keras.saving.load_model(tuned / "classifier.keras")
    assert list(model.class_names) == list(CLASSES)
    red = np.zeros((1, SIZE, SIZE, 3), "uint8")
    red[..., 0] = 220
    assert list(model.name_classes(red)) == ["red"]


@pytest.mark.parametrize(
    "has_student", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_a_student_answers_as_its_teacher(has_student, tuned, photos, tmp_path):
    arguments = [
        f"--teacher={tuned / 'classifier.keras'}",
        f"--images={photos}",
        "--epochs=30",
        "--learning_rate=1.0",
        f"--output={tmp_path / 'out'}",
    ]
    if has_student:
        make_encoder(units=4).save(tmp_path / "student.keras")
        arguments.append(f"--student={tmp_path / 'student.keras'}")
    else:
        arguments.append("--width_multiplier=0.03125")
    distill.main(arguments)
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["accuracy"]["teacher"] > 0.9
    assert results["accuracy"]["student"] > 0.7
    assert results["parameters"]["teacher"] == 8 * 28
    assert has_student == (results["parameters"]["student"] == 4 * 28)
    student = keras.saving.load_model(tmp_path / "out/classifier.keras")
    assert list(student.class_names) == list(CLASSES)


def test_arrays(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(5, 7, 40)  # Not their own places.
    images = rng.random((40, SIZE, SIZE, 3), "float32") / 2
    images[labels == 6] += 0.5
    arrays = tmp_path / "data.npz"
    np.savez(
        arrays,
        images=images[:30],
        labels=labels[:30],
        test_images=images[30:],
        test_labels=labels[30:],
    )
    make_encoder().save(tmp_path / "encoder.keras")
    fine_tune.main(
        [
            f"--encoder={tmp_path / 'encoder.keras'}",
            f"--arrays={arrays}",
            "--optimizer=lars",
            "--epochs=2",
            f"--output={tmp_path / 'out'}",
        ]
    )
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["num_train_images"] == 30
    with open(tmp_path / "out/classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["5", "6"]
    assert sum(int(row["images"]) for row in rows) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--encoder": "nowhere.keras"}, "--encoder"),
        ({"--images": "nowhere"}, "--images"),
        ({"--test_folder": "nowhere"}, "--test_folder"),
        ({"--fraction": "2"}, "Received: 2"),
        ({"--head_layers": "1"}, "head_layers=1"),
    ],
)
def test_mistakes_are_one_line(change, message, photos, tmp_path, capsys):
    make_encoder().save(tmp_path / "encoder.keras")
    flags = {
        "--encoder": tmp_path / "encoder.keras",
        "--images": photos,
        "--output": tmp_path / "out",
        **change,
    }
    with pytest.raises(SystemExit) as stop:
        fine_tune.main([f"{name}={value}" for name, value in flags.items()])
    assert stop.value.code in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_folder_of_held_out_images(photos, tmp_path, capsys):
    parser = fine_tune.make_parser()
    given = ["--encoder=e.keras", "--output=out", f"--images={photos}"]
    shutil.copytree(photos, tmp_path / "held out")
    test_folder = f"--test_folder={tmp_path / 'held out'}"
    for arguments, share in (([], 0.2), ([test_folder], 1.0)):
        options = parser.parse_args([*given, *arguments])
        data = labelled_data.load_labelled_data(options, (SIZE, SIZE), 3)
        count = len(list(photos.rglob("*.png")))
        assert len(data.test[1]) == share * count
        assert len(data.train[1]) == (count if arguments else 0.8 * count)
    (tmp_path / "held out/red").rename(tmp_path / "held out/crimson")
    with pytest.raises(ValueError, match="--test_folder must have") as error:
        labelled_data.load_labelled_data(options, (SIZE, SIZE), 3)
    assert "path`" not in str(error.value)
    assert "--images" in str(error.value)
    make_encoder().save(tmp_path / "encoder.keras")
    arguments = [
        f"--encoder={tmp_path / 'encoder.keras'}",
        f"--output={tmp_path / 'out'}",
        "--dataset=digits",
        f"--test_folder={photos}",
    ]
    with pytest.raises(SystemExit):
        fine_tune.main(arguments)
    assert "--test_folder needs --images" in capsys.readouterr().err


def test_classes_that_the_teacher_does_not_know(tuned, tmp_path, capsys):
    arrays = tmp_path / "data.npz"
    images = np.zeros((4, SIZE, SIZE, 3), "uint8")
    labels = np.array([0, 1, 0, 1])
    np.savez(
        arrays,
        images=images,
        labels=labels,
        test_images=images,
        test_labels=labels,
    )
    with pytest.raises(SystemExit):
        distill.main(
            [
                f"--teacher={tuned / 'classifier.keras'}",
                f"--arrays={arrays}",
                f"--output={tmp_path / 'out'}",
            ]
        )
    assert "must be the teacher's" in capsys.readouterr().err
