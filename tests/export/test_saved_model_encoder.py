import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import export_saved_model
from simclr_keras.export import SavedModelEncoder
from tests import checks
from tests.export.models import (
    TinyEncoder,
    random_images,
    scramble,
    tiny_encoder,
)

IMAGES = random_images() / 255


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    keras.utils.set_random_seed(0)
    encoder = TinyEncoder()
    scramble(encoder)
    folder = tmp_path_factory.mktemp("exported") / "module"
    return export_saved_model(encoder, folder)


def classifier(layer):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layer, keras.layers.Dense(2)]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit_and_count_moved(layer):
    before = [w.numpy() for w in layer.weights]
    classifier(layer).fit(IMAGES, np.arange(5) % 2, verbose=0)
    return sum(np.any(w.numpy() != b) for w, b in zip(layer.weights, before))


def test_frozen_keeps_its_statistics(path):
    layer = SavedModelEncoder(path)
    assert len(layer.trainable_weights) == 8
    assert len(layer.weights) == 12
    layer.trainable = False
    assert fit_and_count_moved(layer) == 0
    layer.trainable = True
    assert fit_and_count_moved(layer) == 12
    assert fit_and_count_moved(SavedModelEncoder(path, trainable=False)) == 0


def test_regularization_losses(path):
    layer = SavedModelEncoder(path)
    layer(IMAGES)
    assert len(layer.losses) == 2
    assert all(loss > 0 for loss in layer.losses)
    layer.trainable = False
    layer(IMAGES)
    assert not layer.losses
    layer.trainable = True
    layer(IMAGES)
    assert len(layer.losses) == 2


def test_endpoints(path):
    layer = SavedModelEncoder(path)
    endpoints = layer.endpoints(IMAGES)
    assert endpoints["block_group2"].shape == (5, 1, 1, 8)
    checks.assert_same(endpoints["representation"], layer(IMAGES), atol=1e-6)


def test_dtypes(path):
    layer = SavedModelEncoder(path)
    plain = layer(IMAGES)
    integers = np.round(IMAGES * 255).astype("uint8")
    # float32 rounding of the division.
    checks.assert_same(layer(integers), plain, atol=1e-6)
    checks.assert_same(layer(IMAGES.astype("float64")), plain, atol=1e-6)
    with checks.dtype_policy("mixed_float16"):
        layer = SavedModelEncoder(path)
        checks.assert_same(layer(IMAGES), plain, atol=1e-6)


def test_config(path):
    layer = SavedModelEncoder(path, trainable=False, name="frozen")
    config = layer.get_config()
    assert config["filepath"] == path
    assert config["trainable"] is False
    with pytest.raises(ValueError, match="safe_mode=False"):
        SavedModelEncoder.from_config(config)
    again = SavedModelEncoder.from_config(config, safe_mode=False)
    assert again.get_config() == config


def test_keras_file_holds_the_weights(path, tmp_path):
    layer = SavedModelEncoder(path)
    model = classifier(layer)
    model.fit(IMAGES, np.arange(5) % 2, verbose=0)
    model.save(tmp_path / "model.keras")
    with pytest.raises((TypeError, ValueError), match="safe_mode=False"):
        keras.saving.load_model(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=False)
    checks.assert_same(loaded(IMAGES), model(IMAGES))


def test_relative_path_is_found_from_elsewhere(path, tmp_path, monkeypatch):
    folder = pathlib.Path(path)
    monkeypatch.chdir(folder.parent)
    model = classifier(SavedModelEncoder(folder.name))
    expected = model(IMAGES)
    model.save(tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    loaded = keras.saving.load_model("model.keras", safe_mode=False)
    checks.assert_same(loaded(IMAGES), expected)


def test_address_is_kept(path, monkeypatch):
    load = tf.saved_model.load
    monkeypatch.setattr(tf.saved_model, "load", lambda name: load(path))
    layer = SavedModelEncoder("gs://bucket/module")
    assert layer.get_config()["filepath"] == "gs://bucket/module"


@pytest.mark.parametrize("dtype", ["uint16", "int32", "bool"])
def test_integers_that_do_not_tell_their_range(path, dtype):
    with pytest.raises(TypeError, match=f"images of dtype {dtype}"):
        SavedModelEncoder(path)(np.ones(IMAGES.shape, dtype))


def test_functional_model_of_uint8_images(path):
    inputs = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(inputs, SavedModelEncoder(path)(inputs))
    images = np.round(IMAGES * 255).astype("uint8")
    checks.assert_same(
        model.predict(images, verbose=0),
        SavedModelEncoder(path)(IMAGES),
        atol=1e-6,
    )


def test_a_layer_is_trained_by_slots_that_have_its_names(path):
    layer = SavedModelEncoder(path)
    model = classifier(layer)
    model.compile("adam", "mse")
    before = [w.numpy() for w in layer.trainable_weights]
    model.fit(IMAGES, np.zeros((5, 2)), verbose=0)
    moved = [
        np.any(w.numpy() != b) for w, b in zip(layer.trainable_weights, before)
    ]
    assert all(moved)
    # It computes with what was trained.
    checks.assert_same(
        layer.module.trainable_variables[0], layer.trainable_weights[0]
    )
    names = [v.path for v in model.optimizer.variables]
    assert any("conv1_kernel" in name for name in names)


def test_random_layers_go_on_where_they_were(tmp_path):
    """The states of their generators are saved as weights are."""
    encoder = tiny_encoder((8, 8, 3), keras.layers.Dropout(0.5, seed=1))
    layer = SavedModelEncoder(export_saved_model(encoder, tmp_path / "module"))
    model = classifier(layer)
    layer(IMAGES, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=False)
    first, second = (layer(IMAGES, training=True) for _ in range(2))
    assert np.any(first != second)
    checks.assert_same(loaded.layers[0](IMAGES, training=True), first)


def test_no_such_folder(tmp_path):
    with pytest.raises((OSError, ValueError)):
        SavedModelEncoder(tmp_path)


def test_another_kind_of_saved_model(tmp_path):
    tf.saved_model.save(tf.Module(), tmp_path / "module")
    with pytest.raises(ValueError, match=r"filepath='.*module'.*TFSMLayer"):
        SavedModelEncoder(tmp_path / "module")
