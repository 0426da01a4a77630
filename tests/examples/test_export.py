import json
import os

import export
import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras import evaluation

SIZE = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder, as `pretrain.py` leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "photos"
    folder.mkdir()
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        simclr_keras.encoders.ResNet18(
            width_multiplier=1 / 16, stem="cifar", input_shape=(SIZE, SIZE, 3)
        ),
        simclr_keras.ProjectionHead(4),
        simclr_keras.SimCLRAugmentation(SIZE, SIZE),
    )
    model.build((None, SIZE, SIZE, 3))
    model.encoder.save(folder / "encoder.keras")
    model.save(folder / "model.keras")
    config = {"image_size": SIZE, "temperature": 0.25}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "made_of.json").write_text("{}")
    (folder / "results.json").write_text(json.dumps({"dataset": "photos"}))
    return folder


@pytest.fixture(scope="module")
def expected(run):
    """Photos of another size, uint8, and what the run's model makes of them."""
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), "uint8")
    model = keras.saving.load_model(run / "model.keras")
    return images, model.predict(images, verbose=0)


def call(encoder, output, *more):
    export.main([f"--encoder={encoder}", f"--output={output}", *more])


def test_a_saved_model_has_the_runs_model_and_card(run, expected, tmp_path):
    call(run, tmp_path / "hub_module")
    module = tf.saved_model.load(tmp_path / "hub_module")
    images, representations = expected
    np.testing.assert_allclose(module(images), representations, atol=1e-5)
    assert module.endpoints(images)["projection"].shape == (3, 4)
    card = (tmp_path / "hub_module" / "README.md").read_text()
    assert "| temperature | 0.25 |" in card
    assert "| dataset | photos |" in card


@pytest.mark.parametrize(
    ("name", "package"),
    [("encoder.onnx", "onnxruntime"), ("encoder.TFLITE", "ai_edge_litert")],
)
def test_a_file_is_told_by_its_name(name, package, run, tmp_path, monkeypatch):
    pytest.importorskip(package)
    calls = {}
    function = export.FORMATS[os.path.splitext(name)[1].lower()]

    def instead(model, path):
        calls[path] = type(model).__name__

    # What they write is compared in tests/export.
    monkeypatch.setattr(simclr_keras.export, function, instead)
    call(run, tmp_path / name)
    assert calls == {str(tmp_path / name): "SimCLRModel"}


@pytest.mark.slow
def test_of_a_classifier_the_encoder_leaves(run, tmp_path):
    encoder = keras.saving.load_model(run / "encoder.keras")
    classifier = evaluation.ImageClassifier(encoder, ["a", "b"])
    images = np.zeros((2, SIZE, SIZE, 3), "uint8")
    classifier(images)
    classifier.save(tmp_path / "classifier.keras")
    call(tmp_path / "classifier.keras", tmp_path / "hub_module")
    module = tf.saved_model.load(tmp_path / "hub_module")
    h = keras.ops.convert_to_numpy(encoder(images))
    np.testing.assert_allclose(module(images), h, atol=1e-5)


def test_an_encoder_of_any_size_may_be_given_one(tmp_path):
    encoder = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, strides=2),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    encoder.save(tmp_path / "encoder.keras")
    images = np.random.default_rng(0).random((2, 30, 40, 3), "float32")
    crop = simclr_keras.augmentation.CenterCropAndResize(
        12, 12, value_range=(0, 1)
    )
    for name, more, taken in (
        ("any", [], images),
        ("12", ["--image_size=12"], crop(images)),
    ):
        call(tmp_path / "encoder.keras", tmp_path / name, *more)
        module = tf.saved_model.load(tmp_path / name)
        np.testing.assert_allclose(module(images), encoder(taken), atol=1e-5)


def test_mistakes(run, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("dear")
    (tmp_path / "there.onnx").write_text("dear")
    call(run, tmp_path / "hub_module")
    capsys.readouterr()
    for arguments, message in (
        ((run, tmp_path / "there"), "--output is there already"),
        ((run, tmp_path / "there.onnx"), "--output is there already"),
        ((run, run, "--overwrite"), "--output must not be the folder of a run"),
        ((tmp_path / "hub_module", tmp_path / "x"), "is exported already"),
        ((tmp_path / "none", tmp_path / "x"), "--encoder must be an existing"),
    ):
        with pytest.raises(SystemExit) as stop:
            call(*arguments)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "there" / "notes.txt").read_text() == "dear"
