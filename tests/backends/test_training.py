"""The main job on whatever backend Keras runs."""

import keras
import numpy as np
import pytest

import simclr_keras
from tests.backends import scenarios

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="tests/model has it on TensorFlow",
)
IMAGES = scenarios.images((scenarios.BATCH_SIZE, 8, 8, 3))
LABELS = np.arange(scenarios.BATCH_SIZE) % 4


@pytest.fixture(scope="module")
def trained():
    """A model after five steps, what they logged, its representations."""
    model = scenarios.make_model(num_classes=4)
    logs = scenarios.fit(model, IMAGES, LABELS)
    return model, logs, model.predict(IMAGES, verbose=0)


@pytest.mark.parametrize(
    "name",
    ["loss", "contrastive_accuracy", "contrastive_entropy", "probe_loss"],
)
def test_steps_equal_tensorflows(trained, name, tensorflow_values):
    expected = tensorflow_values[f"training/{name}"]
    # float32: the backends add up in other orders, and batch norm over few
    # values enlarges that from step to step.
    np.testing.assert_allclose(trained[1][name], expected, atol=1e-4)


def test_representations_equal_tensorflows(trained, tensorflow_values):
    expected = tensorflow_values["training/representations"]
    np.testing.assert_allclose(trained[2], expected, atol=1e-4)


def test_a_probe_on_images_equals_tensorflows(trained, tensorflow_values):
    found = scenarios.training("images")
    for name in ("loss", "probe_loss", "representations"):
        np.testing.assert_allclose(
            found[name], tensorflow_values[f"on_images/{name}"], atol=1e-4
        )
    np.testing.assert_allclose(found["loss"], trained[1]["loss"], atol=1e-4)
    assert found["probe_loss"][-1] != trained[1]["probe_loss"][-1]


def test_first_loss_is_that_of_the_first_two_views(trained):
    model = scenarios.make_model()
    views = [model.augmentation(IMAGES) for _ in range(2)]
    batch = keras.ops.concatenate(views, axis=0) / 255
    h = model.encoder(batch, training=True)
    z = keras.ops.convert_to_numpy(model.projection_head(h, training=True))
    z = z.astype("float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    logits = z @ z.T / 0.5
    positive = np.roll(np.arange(len(z)), len(z) // 2)
    np.fill_diagonal(logits, -np.inf)
    log_sums = np.log(np.exp(logits).sum(axis=1))
    expected = (log_sums - logits[np.arange(len(z)), positive]).mean()
    # float32 through the network, once as a whole and once in parts
    np.testing.assert_allclose(trained[1]["loss"][0], expected, rtol=1e-5)


def test_weights_move(trained):
    model, fresh = trained[0], scenarios.make_model(num_classes=4)
    for part in ("encoder", "projection_head", "linear_probe"):
        before = getattr(fresh, part).trainable_weights
        after = getattr(model, part).trainable_weights
        for a, b in zip(before, after):
            assert np.any(keras.ops.convert_to_numpy(a != b)), a.path


def test_saved_model_goes_on_as_the_model(trained, tmp_path):
    model, _, representations = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(IMAGES, verbose=0), representations
    )
    first, second = (
        m.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
        for m in (model, loaded)
    )
    assert set(first) == set(second) > {"loss", "probe_accuracy"}
    again = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    for name in first:
        # Threads may add up in another order.
        assert first[name] == pytest.approx(second[name], rel=1e-6)
        assert first[name] == pytest.approx(again[name], rel=1e-6)
    logs = [scenarios.fit(m, IMAGES, LABELS)["loss"] for m in (loaded, model)]
    # The same draws and momentum; float32 through five steps of batch norm.
    np.testing.assert_allclose(*logs, atol=1e-4)
    # From draw to draw the loss differs by more than that.
    assert np.ptp(logs[0]) > 1e-2


@pytest.mark.parametrize("form", ["dictionary", "views", "unlabelled"])
def test_other_forms_of_batches(form):
    view = IMAGES.astype("float32")
    batch = {
        "dictionary": {"image": IMAGES, "label": LABELS},
        "views": {"view_1": view, "view_2": 255 - view},
        "unlabelled": IMAGES,
    }[form]
    model = simclr_keras.SimCLRModel(
        keras.Sequential(
            [
                keras.layers.Conv2D(4, 3),
                keras.layers.GlobalAveragePooling2D(),
            ]
        ),
        augmentation=None
        if form == "views"
        else keras.Sequential([keras.layers.RandomFlip("horizontal")]),
        num_classes=4 if form == "dictionary" else None,
    )
    model.compile("sgd")
    history = model.fit(
        batch, batch_size=16, epochs=2, validation_data=batch, verbose=0
    )
    assert np.all(np.isfinite(history.history["val_loss"]))
    assert model.predict(IMAGES, verbose=0).shape == (len(IMAGES), 4)
