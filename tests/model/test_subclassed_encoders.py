"""Encoders that are raw subclasses, which know no shape of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import LARS, NTXentLoss, ProjectionHead, SimCLRModel
from simclr_keras.augmentation import RandomResizedCrop
from tests import checks
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    dataset,
    fit,
    tiny_encoder,
    tiny_model,
)


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


def raw_model(encoder, compiling=None):
    keras.utils.set_random_seed(0)  # of the initializers in the encoder
    return tiny_model(
        LARS(0.3, weight_decay=1e-3),
        encoder=encoder(),
        projection_head=RawHead(),
        num_classes=NUM_CLASSES,
        compiling=compiling,
    )


def generator():
    return (({"image": x, "label": y},) for x, y in dataset((IMAGES, LABELS)))


# Of arrays and datasets the shapes are known beforehand, of a generator's
# batches not.
SOURCES = {
    "arrays": (RawLayer, lambda: (IMAGES, LABELS), EAGER),
    "dataset": (RawModel, lambda: (dataset((IMAGES, LABELS)),), {}),
    "generator": (RawLayer, lambda: (generator(),), {}),
}


@pytest.mark.parametrize(
    "source",
    [
        *(
            pytest.param(s, marks=pytest.mark.slow)
            for s in ("arrays", "generator")
        ),
        "dataset",
    ],
)
def test_saved_loaded_and_trained_on(source, tmp_path):
    encoder, data, compiling = SOURCES[source]
    model = raw_model(encoder, compiling)
    fit(model, *data(), epochs=1)
    # In a graph Keras counts a generator's end as a step.
    model.optimizer.iterations.assign(2)
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
        model = raw_model(encoder, EAGER)
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
    model = raw_model(encoder, EAGER)
    fit(model, IMAGES, LABELS, epochs=1)
    path = str(tmp_path / "exported")
    model.export(path, verbose=False)
    expected = model.predict(IMAGES, verbose=0)
    module = tf.saved_model.load(path)
    served = module.serve(IMAGES.astype("float32"))
    # float32 in another graph
    np.testing.assert_allclose(served, expected, atol=1e-6)


@RAW
def test_a_model_that_saw_no_data_says_so(encoder, tmp_path):
    model = SimCLRModel(encoder(), ProjectionHead(4))
    model.compile("sgd", NTXentLoss())
    with pytest.raises(ValueError, match="built"):
        model.export(tmp_path / "exported", verbose=False)


class Flattened(RawLayer):
    """Has more features the larger its images are."""

    def call(self, images, training=None):
        h = self.norm(self.conv(images), training=training)
        return keras.ops.reshape(h, (-1, h.shape[1] * h.shape[2] * 8))


USES = pytest.mark.parametrize(
    "use",
    [
        lambda model: model(IMAGES),
        lambda model: model.predict(IMAGES, verbose=0),
        lambda model: fit(model, IMAGES, epochs=1),
    ],
    ids=["call", "predict", "fit"],
)


@USES
@pytest.mark.parametrize("encoder", [tiny_encoder, RawLayer])
def test_a_head_that_is_built_by_its_call(encoder, use, recwarn):
    model = tiny_model(
        encoder=encoder(), projection_head=RawHead(), compiling=EAGER
    )
    if encoder is tiny_encoder:
        assert len(model.projection_head.weights) == 2  # before any image
    use(model)
    assert len(model.projection_head.weights) == 2
    assert not [w for w in recwarn if "unbuilt state" in str(w.message)]


@USES
def test_views_of_another_size_than_the_images(use, recwarn):
    model = tiny_model(
        encoder=Flattened(),
        augmentation=RandomResizedCrop(5, 5, seed=1),
        compiling=EAGER,
    )
    use(model)  # on images of 8 x 8
    assert model(IMAGES).shape == (16, 2 * 2 * 8)
    assert len(model.trainable_variables) == 4 + 5
    assert not [w for w in recwarn if "unbuilt state" in str(w.message)]
