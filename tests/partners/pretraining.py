"""What a partner must stand: pretraining, saving, loading, exporting."""

import os
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from simclr_keras import (
    NTXentLoss,
    ProjectionHead,
    SimCLRModel,
    export_saved_model,
)

# Of the largest number: float32, the same operations compiled again, sums of a
# hundred layers.
TOLERANCE = 2e-5
# Loads a model and what it gave, and looks whether it gives it again.
LOAD = f"""
import sys
import keras, numpy, simclr_keras  # and nothing of the partner
loaded = keras.models.load_model(sys.argv[1])
expected = numpy.load(sys.argv[2])
given = loaded.predict(expected["images"], verbose=0)
scale = numpy.abs(expected["h"]).max()
numpy.testing.assert_allclose(given, expected["h"], 0, {TOLERANCE} * scale)
print("the same")
"""


def images(count=8, size=32):
    """Images of a colour and a texture each, uint8."""
    rng = np.random.default_rng(0)
    colors = rng.uniform(64, 192, (count, 1, 1, 3))
    noise = rng.uniform(-64, 64, (count, size, size, 3))
    return (colors + noise).astype("uint8")


def tiny_encoder():
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 3, strides=4),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def pretrained(encoder, augmentation=None, data=None):
    """A model after two steps in which the encoder has moved.

    Args:
        encoder: Layer from images (B, 32, 32, 3) to (B, F).
        augmentation: Layer, or None to train on views made beforehand.
        data: What `fit` gets. None is `images()`, or views of them.
    """
    model = SimCLRModel(
        encoder, projection_head=ProjectionHead(8), augmentation=augmentation
    )
    model.compile(keras.optimizers.SGD(1e-3), NTXentLoss(temperature=0.5))
    if data is None:
        data = images()
        if augmentation is None:
            data = {"view_1": data, "view_2": data[:, :, ::-1]}
    batch_size = None if hasattr(data, "element_spec") else 4
    kernel = encoder.trainable_variables[0]
    before = kernel.numpy()
    history = model.fit(data, batch_size=batch_size, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert np.all(np.isfinite(kernel))
    assert np.any(kernel.numpy() != before)
    assert int(model.optimizer.iterations) == 2
    return model


def check_saves_and_loads(model, directory, fresh=False):
    """A file and an export give the same representations as the model.

    The `.keras` file here and elsewhere, the SavedModel here.

    Args:
        model: `SimCLRModel` after training.
        directory: `pathlib.Path` to write to.
        fresh: Whether to load in a fresh process too, which imports the
            library but not the partner.
    """
    path, expected = directory / "model.keras", directory / "expected.npz"
    model.save(path)
    h = model.predict(images(), verbose=0)
    assert h.dtype == "float32"
    assert np.all(np.isfinite(h))
    assert np.any(h != h[0])
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(
        loaded.predict(images(), verbose=0),
        h,
        rtol=0,
        atol=TOLERANCE * np.abs(h).max(),
    )
    check_exports(model, directory)
    if not fresh:
        return
    np.savez(expected, images=images(), h=h)
    process = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), str(expected)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.strip() == "the same", process.stderr


def check_exports(model, directory):
    """A SavedModel gives what the encoder gives for images in [0, 1]."""
    unit = images() / np.float32(255)
    h = keras.ops.convert_to_numpy(model.encoder(unit, training=False))
    path = export_saved_model(model, directory / "hub_module")
    module = tf.saved_model.load(path)
    np.testing.assert_allclose(
        module(unit), h, rtol=0, atol=TOLERANCE * np.abs(h).max()
    )
