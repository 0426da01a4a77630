"""Values that cannot be meant are told, on every path and under XLA."""

import tracemalloc
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import SimCLRModel
from simclr_keras.augmentation import RandomHorizontalFlip
from tests.model.models import (
    BATCH,
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    fit,
    tiny_encoder,
    tiny_model,
)

XLA = {"jit_compile": True}
MODES = pytest.mark.parametrize("compiling", [{}, XLA, EAGER])
FLOATS = IMAGES.astype("float32")


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return (self.batches[index],)


def dataset(images):
    return tf.data.Dataset.from_tensor_slices(images).batch(BATCH)


def generator(images):
    return ((images[k : k + BATCH],) for k in range(0, len(images), BATCH))


def py_dataset(images):
    return Batches(*(images for (images,) in generator(images)))


SOURCES = pytest.mark.parametrize("source", [dataset, py_dataset, generator])


# --- What the dtype says -----------------------------------------------------
@MODES
@pytest.mark.parametrize("source", [np.asarray, dataset, py_dataset])
def test_uint16_in_a_range_of_8_bits(source, compiling):
    model = tiny_model(compiling=compiling)
    images = IMAGES.astype("uint16") * 257
    with pytest.raises(ValueError, match=r"uint16.*white.*value_range"):
        fit(model, source(images), epochs=1)
    assert int(model.optimizer.iterations) == 0
    with pytest.raises(ValueError, match="uint16"):
        model.evaluate(source(images), verbose=0)
    with pytest.raises(ValueError, match="uint16"):
        model.predict(source(images), verbose=0)


@pytest.mark.parametrize("value_range", [(0, 1), (0, 65535)])
def test_uint8_in_another_range(value_range):
    model = tiny_model(
        augmentation=RandomHorizontalFlip(value_range=value_range, seed=7)
    )
    with pytest.raises(ValueError, match="uint8"):
        fit(model, dataset(IMAGES))


def test_12_bits_in_16():
    model = tiny_model(
        augmentation=RandomHorizontalFlip(value_range=(0, 4095), seed=7)
    )
    fit(model, dataset(IMAGES.astype("uint16") * 16), epochs=1)
    model.predict(IMAGES.astype("uint16") * 16, verbose=0)
    with pytest.raises(ValueError, match="value_range"):
        model.predict(IMAGES.astype("uint16") * 17, verbose=0)


# --- What the values say -----------------------------------------------------
@MODES
@SOURCES
@pytest.mark.parametrize("value", [300.0, -5.0, np.nan])
def test_values_outside_the_range(value, source, compiling):
    if compiling is EAGER and source is not dataset:
        pytest.skip("the same code as in a graph")
    images = FLOATS.copy()
    images[3, 2, 1, 0] = value
    model = tiny_model(compiling=compiling)
    kinds = ValueError, tf.errors.InvalidArgumentError
    with pytest.raises(kinds, match="value_range"):
        fit(model, source(images), epochs=1)
    with pytest.raises(kinds, match="value_range"):
        model.predict(source(images), verbose=0)


@pytest.mark.parametrize("compiling", [{}, XLA])
@pytest.mark.parametrize("source", [np.asarray, dataset, generator])
def test_floats_in_0_to_1_are_told_once(source, compiling):
    scaled = FLOATS / 255
    for use in ("fit", "evaluate", "predict"):
        model = tiny_model(compiling=compiling)
        with pytest.warns(UserWarning, match="all but black") as told:
            getattr(model, use)(source(scaled), verbose=0)
        assert len([w for w in told if "black" in str(w.message)]) == 1


def test_images_in_their_range_are_not_told_of():
    model = tiny_model(compiling=XLA)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for images in (IMAGES, FLOATS):
            for source in (np.asarray, dataset):
                fit(model, source(images), epochs=1)
                model.evaluate(source(images), verbose=0)
                model.predict(source(images), verbose=0)


@pytest.mark.parametrize("compiling", [{}, XLA])
def test_labels_that_are_no_classes(compiling):
    model = tiny_model(num_classes=NUM_CLASSES, compiling=compiling)
    kinds = ValueError, tf.errors.InvalidArgumentError
    with pytest.raises(kinds, match="num_classes=4"):
        fit(model, dataset((IMAGES, LABELS + 1)), epochs=1)


# --- Nothing twice, nothing copied -------------------------------------------
def test_a_generator_loses_no_batch():
    for images in (IMAGES, FLOATS):
        steps = []
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, steps=steps: steps.append(
                batch
            )
        )
        model = tiny_model(num_classes=NUM_CLASSES)
        batches = ((images[:8], LABELS[:8]) for _ in range(4))
        one_shot = tf.data.Dataset.from_generator(
            lambda batches=batches: batches,
            output_signature=(
                tf.TensorSpec((8, 8, 8, 3), images.dtype),
                tf.TensorSpec((8,), "int64"),
            ),
        )
        fit(model, one_shot, epochs=1, callbacks=[count])
        assert len(steps) == 4


@pytest.mark.parametrize("is_built", [True, False])
def test_a_dataset_is_read_once_an_epoch(is_built):
    count = tf.Variable(0, dtype="int64")

    def counted(image):
        with tf.control_dependencies([count.assign_add(1)]):
            return tf.identity(image)

    images = tf.data.Dataset.from_tensor_slices(FLOATS).map(counted)
    encoder = tiny_encoder()
    if not is_built:
        encoder = keras.Sequential(
            [keras.layers.Conv2D(4, 3), keras.layers.GlobalMaxPooling2D()]
        )
    model = tiny_model(encoder=encoder)
    fit(model, images.shuffle(16).batch(BATCH), epochs=2)
    assert int(count) == 2 * len(FLOATS)
    model.evaluate(images.batch(BATCH), verbose=0)
    model.predict(images.batch(BATCH), verbose=0)
    assert int(count) == 4 * len(FLOATS)


def test_arrays_are_checked_without_a_copy():
    model = tiny_model()
    for dtype, share in (("uint8", 0.01), ("float32", 0.5)):
        images = np.full((2**17 * 6, 4, 4, 3), 7, dtype)
        tracemalloc.start()
        model._check_data(images, None)  # `fit` itself copies into tf.data
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < share * images.nbytes


def test_an_empty_dataset_says_so():
    for images in (IMAGES, FLOATS):
        with pytest.raises(ValueError, match="empty"):
            tiny_model().fit(dataset(images).take(0), verbose=0)
        with pytest.raises(ValueError, match="empty"):
            tiny_model().evaluate(dataset(images).take(0), verbose=0)


# --- What is refused before the first step -----------------------------------
def test_validation_data_without_labels_for_the_probe():
    model = tiny_model(num_classes=NUM_CLASSES)
    for validation_data in (IMAGES, dataset(IMAGES), (IMAGES, None)):
        with pytest.raises(ValueError, match="validation_data"):
            fit(model, IMAGES, LABELS, validation_data=validation_data)
    assert int(model.optimizer.iterations) == 0


def test_a_remainder_that_no_step_reaches():
    images = np.concatenate([IMAGES, IMAGES[:1]])  # 17
    model = tiny_model()
    fit(model, images, epochs=1, steps_per_epoch=2)
    assert int(model.optimizer.iterations) == 2
    # Keras goes on in the second epoch where the first one ended.
    for refused in ({"steps_per_epoch": 2, "epochs": 2}, {"epochs": 1}):
        with pytest.raises(ValueError, match="leaves one over"):
            fit(model, images, **refused)


def test_labels_in_a_dictionary_without_a_probe():
    model = tiny_model()
    for labels in ({"label": LABELS}, {"other": LABELS}):
        history = fit(model, IMAGES, labels, epochs=1)
        assert np.isfinite(history["loss"]).all()
        model.evaluate(dataset((IMAGES, labels)), verbose=0)
    probed = tiny_model(num_classes=NUM_CLASSES)
    assert "probe_loss" in fit(probed, IMAGES, {"label": LABELS}, epochs=1)


@pytest.mark.parametrize(
    ("loss", "error"),
    [
        ("categorical_crossentropy", TypeError),
        ("mse", TypeError),
        (["mse"], TypeError),
        (keras.losses.CategoricalCrossentropy(), ValueError),
        (keras.losses.sparse_categorical_crossentropy, ValueError),
        (keras.losses.Hinge(), ValueError),
    ],
)
def test_losses_of_labels(loss, error):
    with pytest.raises(error, match=r"`loss` must .*two"):
        SimCLRModel(tiny_encoder()).compile("sgd", loss)


@pytest.mark.parametrize(
    ("metrics", "error"),
    [
        (["accuracy"], TypeError),
        ("accuracy", TypeError),
        ({"a": "accuracy"}, TypeError),
        ([keras.metrics.SparseCategoricalAccuracy()], ValueError),
        ([keras.metrics.AUC()], ValueError),
        ([keras.metrics.categorical_accuracy], ValueError),
    ],
)
def test_metrics_of_labels(metrics, error):
    with pytest.raises(error, match=r"num_classes=10"):
        SimCLRModel(tiny_encoder()).compile("sgd", metrics=metrics)


def test_what_compares_two_projections_is_welcome():
    model = tiny_model(
        compiling={"metrics": [keras.metrics.CosineSimilarity(name="cosine")]}
    )
    assert -1 <= fit(model, IMAGES, epochs=1)["cosine"][0] <= 1
    model.compile("sgd", keras.losses.CosineSimilarity())
    fit(model, IMAGES, epochs=1)


# --- Metrics know their direction --------------------------------------------
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("contrastive_accuracy", "max"),
        ("contrastive_entropy", "min"),
        ("probe_accuracy", "max"),
        ("probe_loss", "min"),
    ],
)
def test_callbacks_find_the_direction(name, mode, tmp_path):
    callbacks = [
        keras.callbacks.EarlyStopping(f"val_{name}"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor=f"val_{name}", save_best_only=True
        ),
        keras.callbacks.ReduceLROnPlateau(name),
    ]
    model = tiny_model(num_classes=NUM_CLASSES)
    fit(
        model,
        IMAGES,
        LABELS,
        epochs=1,
        validation_data=(IMAGES, LABELS),
        callbacks=callbacks,
    )
    for callback in callbacks:
        assert callback.mode == mode
        better, worse = (1, 0) if mode == "max" else (0, 1)
        assert callback.monitor_op(better, worse)
    kept = keras.callbacks.EarlyStopping("loss", mode="max")
    fit(model, IMAGES, LABELS, epochs=1, callbacks=kept)
    assert kept.mode == "max"
