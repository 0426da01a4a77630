"""Values that cannot be meant are told, on every path and under XLA."""

import tracemalloc
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.augmentation import RandomHorizontalFlip
from simclr_keras.model import checks
from tests.model.models import (
    BATCH,
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    Batches,
    dataset,
    fit,
    tiny_encoder,
    tiny_model,
    weights,
)

GRAPH, XLA = {}, {"jit_compile": True}
# Seconds to compile; that values are seen under XLA is tested without.
SLOW_XLA = pytest.param(XLA, marks=pytest.mark.slow)
FLOATS = IMAGES.astype("float32")
OUTSIDE = r"Images must be numbers within value_range=\(0, 255\)"
RAISED = ValueError, tf.errors.InvalidArgumentError


def generator(images):
    return ((images[k : k + BATCH],) for k in range(0, len(images), BATCH))


def py_dataset(images):
    return Batches(*generator(images))


# --- What the dtype says -----------------------------------------------------
@pytest.mark.parametrize("source", [np.asarray, dataset, py_dataset, generator])
def test_uint16_in_a_range_of_8_bits(source):
    # Without reading values, so that it matters little how a step would run.
    model = tiny_model(compiling=XLA)
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
        augmentation=RandomHorizontalFlip(value_range=(0, 4095), seed=7),
        compiling=EAGER,
    )
    fit(model, dataset(IMAGES.astype("uint16") * 16), epochs=1)
    model.predict(IMAGES.astype("uint16") * 16, verbose=0)
    with pytest.raises(ValueError, match="value_range"):
        model.predict(IMAGES.astype("uint16") * 17, verbose=0)


# --- What the values say -----------------------------------------------------
def with_one(value):
    """Images of which one in the second batch has a value of its own."""
    images = FLOATS.copy()
    images[12, 3, 4, 1] = value
    return images


@pytest.mark.parametrize("value", [300.0, -1.0, np.nan])
def test_arrays_outside_the_range(value):
    model = tiny_model()
    for use in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=f"{OUTSIDE}.*Found .*values from"):
            use(with_one(value), verbose=0)


@pytest.mark.parametrize(
    ("compiling", "source", "value"),
    [
        (GRAPH, dataset, np.nan),
        pytest.param(GRAPH, generator, -1.0, marks=pytest.mark.slow),
        (EAGER, py_dataset, 300.0),
    ],
)
def test_a_batch_outside_the_range_stops_its_step(compiling, source, value):
    model = tiny_model(compiling=compiling)
    with pytest.raises(tf.errors.InvalidArgumentError, match=OUTSIDE):
        fit(model, source(with_one(value)), epochs=1)
    # Nothing is learned from it, and the next data may be right.
    assert all(np.isfinite(array).all() for array in weights(model))
    fit(model, source(FLOATS), epochs=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=OUTSIDE):
        model.evaluate(source(with_one(value)), verbose=0)
    with pytest.raises(ValueError, match=OUTSIDE):
        model.predict(source(with_one(value)), verbose=0)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (dataset, np.inf),
        pytest.param(generator, -1.0, marks=pytest.mark.slow),
    ],
)
def test_a_batch_outside_the_range_under_xla(source, value):
    model = tiny_model(compiling=XLA)
    for use in (model.fit, model.predict):
        with pytest.raises(ValueError, match=OUTSIDE):
            use(source(with_one(value)), verbose=0)


@pytest.mark.parametrize("compiling", [GRAPH, SLOW_XLA])
def test_labels_that_are_not_classes(compiling):
    model = tiny_model(num_classes=NUM_CLASSES, compiling=compiling)
    labels = LABELS.copy()
    labels[12] = 4
    message = r"Labels must be integers in \[0, num_classes\).*num_classes=4"
    with pytest.raises(RAISED, match=message):
        fit(model, dataset((IMAGES, labels)), epochs=1)
    with pytest.raises(ValueError, match="Found labels from 0 to 4"):
        fit(model, IMAGES, labels)


@pytest.mark.parametrize("compiling", [GRAPH, SLOW_XLA])
def test_one_batch_at_a_time(compiling):
    model = tiny_model(compiling=compiling)
    for use in (
        model.train_on_batch,
        model.test_on_batch,
        model.predict_on_batch,
    ):
        with pytest.raises(RAISED, match=OUTSIDE):
            use(with_one(np.nan))
    with pytest.warns(UserWarning, match="all but black"):
        model.predict_on_batch(FLOATS / 255)


@pytest.mark.parametrize(
    ("compiling", "source"),
    [
        (EAGER, np.asarray),
        (GRAPH, generator),
        pytest.param(XLA, dataset, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("use", ["fit", "evaluate", "predict"])
def test_floats_in_0_to_1_are_told_once(compiling, source, use):
    model = tiny_model(compiling=compiling)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(model, use)(source(FLOATS / 255), verbose=0)
    (told,) = [w for w in caught if "all but black" in str(w.message)]
    assert "floats that lie in [0, 1], but value_range is (0, 255)" in str(
        told.message
    )
    assert told.filename == __file__  # However deep within Keras.


def test_floats_in_0_to_1_are_told_after_others_were_right():
    model = tiny_model(compiling=EAGER)
    fit(model, dataset(FLOATS), epochs=1)
    with pytest.warns(UserWarning, match="all but black"):
        model.predict(dataset(FLOATS / 255), verbose=0)
    model = tiny_model(compiling=EAGER)
    with pytest.warns(UserWarning, match="all but black"):
        fit(model, dataset(FLOATS), validation_data=dataset(FLOATS / 255))


@pytest.mark.parametrize(
    ("compiling", "source"),
    [
        (GRAPH, np.asarray),
        pytest.param(XLA, dataset, marks=pytest.mark.slow),
    ],
)
def test_an_augmentation_that_scales_is_told_of(compiling, source):
    augmentation = keras.Sequential(
        [RandomHorizontalFlip(seed=7), keras.layers.Rescaling(1 / 255)]
    )
    model = tiny_model(augmentation=augmentation, compiling=compiling)
    with pytest.warns(UserWarning, match=r"views lie in \[0, 1\].*Rescaling"):
        model.fit(source(IMAGES), verbose=0)


def test_images_in_their_range_are_not_told_of():
    model = tiny_model(compiling=EAGER)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for images in (IMAGES, FLOATS, dataset(FLOATS)):
            fit(model, images, epochs=1)
            model.evaluate(images, verbose=0)
            model.predict(images, verbose=0)


# --- Nothing twice, nothing copied -------------------------------------------
def test_a_generator_loses_no_batch():
    for images in (IMAGES, FLOATS):
        steps = []
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, steps=steps: steps.append(
                batch
            )
        )
        model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
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
    model = tiny_model(encoder=encoder, compiling=EAGER)
    fit(model, images.shuffle(16).batch(BATCH), epochs=2)
    assert int(count) == 2 * len(FLOATS)
    model.evaluate(images.batch(BATCH), verbose=0)
    model.predict(images.batch(BATCH), verbose=0)
    assert int(count) == 4 * len(FLOATS)


@pytest.mark.parametrize(
    ("dtype", "share"), [("uint8", 0.01), ("float32", 0.5)]
)
def test_arrays_are_checked_without_a_copy(dtype, share):
    images = np.full((2**17 * 6, 4, 4, 3), 7, dtype)
    tracemalloc.start()
    checks.check_arrays({"image": images}, (0, 255))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < share * images.nbytes


ONE_HOT = np.eye(NUM_CLASSES)[LABELS]
TWO = ONE_HOT.copy()
TWO[3, :2] = 1


@pytest.mark.parametrize(
    "labels", [TWO, 0 * ONE_HOT, ONE_HOT + 0.5, np.ones((16, NUM_CLASSES))]
)
@pytest.mark.parametrize(
    "source", [None, pytest.param(dataset, marks=pytest.mark.slow)]
)
def test_rows_that_are_not_one_hot(labels, source):
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    data = (IMAGES, labels) if source is None else (source((IMAGES, labels)),)
    with pytest.raises(RAISED, match="rows with a single 1"):
        fit(model, *data, epochs=1)
    fit(model, IMAGES, ONE_HOT, epochs=1)
