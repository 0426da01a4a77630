"""The linear probe, trained beside the encoder."""

import keras
import numpy as np
import pytest

from simclr_keras import SimCLRAugmentation, SimCLRModel
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    RATE,
    assert_equal,
    fit,
    tiny_encoder,
    tiny_model,
    weights,
)


def test_the_probe_leaves_encoder_and_loss_alone():
    plain = tiny_model(compiling=EAGER)
    probed = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    expected = fit(plain, IMAGES)
    before = probed.linear_probe.kernel.numpy()
    history = fit(probed, IMAGES, LABELS)
    assert set(history) - set(expected) == {"probe_loss", "probe_accuracy"}
    assert_equal({name: history[name] for name in expected}, expected)
    paths = [v.path for v in probed.weights]
    assert [p.split("/")[0] for p in paths[-2:]] == ["linear_probe"] * 2
    assert_equal(weights(probed)[:-2], weights(plain))
    assert not np.array_equal(probed.linear_probe.kernel, before)


def test_the_probe_learns():
    model = tiny_model(keras.optimizers.Adam(0.1), num_classes=NUM_CLASSES)
    images = np.zeros((16, 8, 8, 3), "uint8")
    images[np.arange(16), :, :, LABELS % 3] = 255  # colors tell the classes
    images[LABELS == 3] = 255
    views = {"view_1": images, "view_2": images}
    history = fit(model, views, LABELS, epochs=20)
    assert history["probe_accuracy"][-1] == 1


def test_of_three_views_all_are_probed():
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    views = {f"view_{k + 1}": IMAGES + np.uint8(k) for k in range(3)}
    logs = model.test_on_batch(views, LABELS, return_dict=True)
    h = model.encoder(np.concatenate(list(views.values())) / np.float32(255))
    expected = keras.losses.sparse_categorical_crossentropy(
        np.tile(LABELS, 3), model.linear_probe(h), from_logits=True
    )
    # float32
    np.testing.assert_allclose(logs["probe_loss"], np.mean(expected), rtol=1e-5)


# --- Trained on the images themselves ----------------------------------------
def small_views(seed=0):
    return SimCLRAugmentation(4, 4, evaluation_size=(8, 8), seed=seed)


@pytest.mark.parametrize("norm_is_trained", [True, False])
def test_on_images_its_gradient_is_that_of_the_encoder_as_it_is_used(
    norm_is_trained,
):
    model = tiny_model(
        num_classes=NUM_CLASSES,
        probe_on="images",
        encoder=tiny_encoder((None, None, 3)),
        augmentation=small_views(),
        compiling=EAGER,
    )
    model.encoder.get_layer("norm").trainable = norm_is_trained
    logs = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    # The first step moves the statistics, and then the weights.
    assert logs["probe_loss"] == pytest.approx(np.log(NUM_CLASSES))
    first = model.linear_probe.kernel.numpy()
    kernel = model.encoder.get_layer("conv").kernel.numpy()
    bias = model.linear_probe.bias.numpy()
    model.encoder.get_layer("norm").momentum = 1.0  # They stay as they are.
    h = model.predict(IMAGES, verbose=0)
    model.train_on_batch(IMAGES, LABELS)
    assert not np.array_equal(model.encoder.get_layer("conv").kernel, kernel)
    logits = h @ first + bias
    logits -= logits.max(-1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    gradient = h.T @ (p - np.eye(NUM_CLASSES)[LABELS]) / len(LABELS)
    # float32
    np.testing.assert_allclose(
        model.linear_probe.kernel, first - RATE * gradient, rtol=0, atol=1e-6
    )


def test_on_images_the_contrastive_part_stays_as_it_is():
    def trained(**kwargs):
        model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER, **kwargs)
        return fit(model, IMAGES, LABELS), weights(model.encoder)

    expected, expected_weights = trained()
    history, found_weights = trained(probe_on="images")
    assert history["probe_loss"] != expected["probe_loss"]
    for name in ("loss", "contrastive_accuracy"):
        assert_equal(history[name], expected[name], rtol=1e-6)  # float32
    assert_equal(found_weights, expected_weights, atol=1e-6, rtol=0)


def test_on_images_it_is_saved(tmp_path):
    model = tiny_model(num_classes=NUM_CLASSES, probe_on="images")
    fit(model, IMAGES, LABELS, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.probe_on == "images"
    assert_equal(
        fit(loaded, IMAGES, LABELS, epochs=1),
        fit(model, IMAGES, LABELS, epochs=1),
        rtol=1e-5,  # float32
    )


def test_on_images_views_are_evaluated_and_not_trained_on():
    model = tiny_model(num_classes=NUM_CLASSES, probe_on="images")
    views = {"view_1": IMAGES, "view_2": IMAGES}
    assert "probe_loss" in model.evaluate(
        views, LABELS, return_dict=True, verbose=0
    )
    with pytest.raises(ValueError, match="needs batches of images"):
        fit(model, views, LABELS)


@pytest.mark.parametrize("dtype", ["float64", "float32", "mixed_bfloat16"])
def test_its_variables_are_of_the_encoders_dtype(dtype):
    # Which adds up in `tf.distribute`, that of the container is not asked for.
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, dtype=dtype),
            keras.layers.GlobalAveragePooling2D(dtype=dtype),
        ]
    )
    model = SimCLRModel(encoder, num_classes=3)
    assert model.linear_probe.variable_dtype == encoder.weights[0].dtype


@pytest.mark.parametrize("probe_on", ["image", None, ["views"]])
def test_on_nothing_else(probe_on):
    with pytest.raises(ValueError, match='"views" or "images"'):
        tiny_model(num_classes=NUM_CLASSES, probe_on=probe_on)
