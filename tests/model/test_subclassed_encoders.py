"""Encoders that are raw subclasses, which know no shape of their own."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import LARS, NTXentLoss, ProjectionHead, SimCLRModel
from simclr_keras.augmentation import RandomHorizontalFlip
from tests import checks
from tests.model.models import IMAGES, LABELS, NUM_CLASSES, fit, tiny_model


def parts(encoder):
    encoder.conv = keras.layers.Conv2D(8, 3, strides=2)
    encoder.norm = keras.layers.BatchNormalization()
    encoder.pool = keras.layers.GlobalAveragePooling2D()


@keras.saving.register_keras_serializable(package="tests")
class RawModel(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        parts(self)

    def call(self, images, training=None):
        return self.pool(self.norm(self.conv(images), training=training))


@keras.saving.register_keras_serializable(package="tests")
class RawLayer(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        parts(self)

    def call(self, images, training=None):
        return self.pool(self.norm(self.conv(images), training=training))


@keras.saving.register_keras_serializable(package="tests")
class RawHead(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(4)

    def call(self, representations):
        return self.dense(representations)


RAW = pytest.mark.parametrize("encoder", [RawModel, RawLayer])


def raw_model(encoder, **kwargs):
    keras.utils.set_random_seed(0)  # of the initializers in the encoder
    kwargs.setdefault("projection_head", RawHead())
    return tiny_model(
        LARS(0.3, weight_decay=1e-3),
        encoder=encoder(),
        augmentation=RandomHorizontalFlip(seed=3),
        num_classes=NUM_CLASSES,
        **kwargs,
    )


def batches(images):
    return tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(8)


def data(kind):
    if kind == "arrays":
        return IMAGES, LABELS
    if kind == "dataset":
        return (batches(IMAGES),)
    return ((({"image": x, "label": y},) for x, y in batches(IMAGES)),)


@RAW
@pytest.mark.parametrize("kind", ["arrays", "dataset", "generator"])
def test_saved_loaded_and_trained_on(encoder, kind, tmp_path):
    model = raw_model(encoder)
    fit(model, *data(kind), epochs=1)
    model.optimizer.iterations.assign(2)  # A generator's end counts as a step.
    loaded = checks.save_and_load(model, tmp_path)
    assert int(loaded.optimizer.iterations) == 2
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    for each in (model, loaded):
        fit(each, IMAGES, LABELS, epochs=1)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        # float32; threads may add up in another order.
        np.testing.assert_allclose(a, b, atol=1e-6)


@RAW
def test_backup_and_restore(encoder, tmp_path):
    def run(callbacks, epochs=3):
        model = raw_model(encoder)
        fit(model, IMAGES, LABELS, epochs=epochs, callbacks=callbacks)
        return model

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(
            tmp_path / "backup", delete_checkpoint=False
        )

    with pytest.raises(KeyboardInterrupt):
        run([backup(), Interrupt()])
    resumed, whole = run([backup()]), run([])
    assert int(resumed.optimizer.iterations) == 6
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        # float32; threads may add up in another order.
        np.testing.assert_allclose(a, b, atol=1e-6)


@RAW
def test_keras_export_after_fit(encoder, tmp_path):
    model = raw_model(encoder)
    fit(model, IMAGES, LABELS, epochs=1)
    path = str(tmp_path / "exported")
    model.export(path, verbose=False)
    expected = model.predict(IMAGES, verbose=0)
    np.save(tmp_path / "images.npy", IMAGES.astype("float32"))
    # In a process that knows neither Keras nor the classes.
    code = (
        "import numpy as np, tensorflow as tf\n"
        f"images = np.load({str(tmp_path / 'images.npy')!r})\n"
        f"module = tf.saved_model.load({path!r})\n"
        "served = module.serve(images)\n"
        f"np.save({str(tmp_path / 'served.npy')!r}, served)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
    # float32 in a graph of another process
    np.testing.assert_allclose(
        np.load(tmp_path / "served.npy"), expected, atol=1e-6
    )


@RAW
def test_a_model_that_saw_no_data_says_so(encoder, tmp_path):
    model = SimCLRModel(encoder(), ProjectionHead(4))
    model.compile("sgd", NTXentLoss())
    with pytest.raises(ValueError, match="built"):
        model.export(tmp_path / "exported", verbose=False)
