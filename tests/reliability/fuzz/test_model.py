"""`SimCLRModel` and `extract_features`: any part, any batch, one step."""

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import simclr_keras
from simclr_keras import augmentation, evaluation, losses
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import (
    BAD_DTYPES,
    DTYPES,
    Refused,
    attempt,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SIDE, CHANNELS = 4, 3


def encoder():
    return keras.Sequential(
        [
            keras.Input((None, None, CHANNELS)),
            keras.layers.Conv2D(4, 2, padding="same", activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def views(value_range=(0, 255)):
    return augmentation.RandomCutout(seed=1, value_range=value_range)


def model(loss=None, jit_compile=False, **kwargs):
    made = simclr_keras.SimCLRModel(
        encoder(),
        simclr_keras.ProjectionHead(3),
        **{"augmentation": views(), **kwargs},
    )
    made.compile(
        keras.optimizers.SGD(0.01),
        loss or simclr_keras.NTXentLoss(0.5),
        run_eagerly=True,
        jit_compile=False,
    )
    return made


def anything():
    return st.one_of(properties.odd(), arrays())


@st.composite
def arrays(draw, dtypes=(*DTYPES, *BAD_DTYPES), least=1):
    dtype = draw(st.sampled_from(dtypes))
    rank = draw(st.sampled_from([0, 1, 2, 3, 4, 4, 4, 5]))
    shape = tuple(draw(st.integers(least, 4)) for _ in range(rank))
    values = draw(properties.values_in(shape, 0, draw(st.integers(1, 255))))
    if "float" in dtype and draw(st.integers(0, 3)) == 0:
        values = values * np.nan
    return properties.array_of(dtype, values)


def weights_of(made):
    return [np.array(weight) for weight in made.trainable_weights]


def check_step(made, images, labels=None):
    """One step trains on finite numbers, or is refused and changes nothing."""
    before = weights_of(made)
    try:
        logs = attempt(made.train_on_batch, images, labels, return_dict=True)
    except tf.errors.InvalidArgumentError as error:
        # Of values within a step, with the message of this package.
        if not error.message.startswith(("Images must be", "Labels must be")):
            raise
        logs = Refused
    for old, new in zip(before, weights_of(made)):
        if logs is Refused:
            np.testing.assert_array_equal(new, old)
        else:
            assert np.isfinite(new).all()
    if logs is not Refused:
        for name, value in logs.items():
            assert np.isfinite(value).all(), name
    return logs


@properties.fuzz(0.2)
@hypothesis.given(data=st.data())
def test_images(data):
    low, high = data.draw(
        st.sampled_from([(0, 255), (0, 1), (-1, 1), (0, 65535)])
    )
    made = model(augmentation=views((low, high)))
    dtype = data.draw(
        st.sampled_from(["float32", "float64", "uint8", "int32", "bfloat16"])
    )
    count = data.draw(st.integers(2, 6))
    shape = (count, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    least = max(low, 0) if "int" in dtype else low
    most = min(high, 255) if dtype == "uint8" else high
    values = data.draw(properties.values_in((*shape, CHANNELS), least, most))
    images = properties.array_of(dtype, values)
    # Of bytes the range must be that of bytes.
    fits = dtype != "uint8" or high == 255
    logs = check_step(made, images)
    assert (logs is not Refused) == fits
    if fits:
        features = made.predict_on_batch(images)
        properties.check_finite(features, count, 4)


@properties.fuzz(0.5)
@hypothesis.given(x=arrays(), y=st.one_of(st.none(), arrays(DTYPES)))
def test_batches_of_any_array(x, y):
    logs = check_step(model(), x, y)
    if logs is not Refused:
        assert x.shape[0] >= 2
        assert x.shape[-1] == CHANNELS


@properties.fuzz(0.2)
@hypothesis.given(data=st.data())
def test_labels(data):
    count = 6
    probe = data.draw(st.booleans())
    made = model(num_classes=3 if probe else None, loss=losses.SupConLoss(0.5))
    labels = data.draw(
        st.one_of(
            arrays(DTYPES),
            st.lists(st.integers(-1, 3), min_size=count, max_size=count).map(
                np.array
            ),
        )
    )
    images = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3))
    logs = check_step(made, images.astype("uint8"), labels)
    if logs is not Refused and probe:
        numbers = np.asarray(labels)
        assert len(numbers) == count
        assert numbers.min() >= 0
        assert numbers.max() <= 2


@properties.fuzz(0.2)
@hypothesis.given(x=properties.odd())
def test_batches_that_are_no_arrays(x):
    check_step(model(), x)


@properties.fuzz(0.2)
@hypothesis.given(x=arrays(("uint8", "float32"), least=0))
def test_images_without_pixels(x):
    check_step(model(), x)


@properties.fuzz(0.2)
@hypothesis.given(y=anything())
def test_labels_that_are_no_arrays(y):
    images = np.zeros((4, SIDE, SIDE, CHANNELS), "uint8")
    check_step(model(num_classes=3), images, y)


PARTS = ("encoder", "projection_head", "augmentation", "num_classes")


@properties.fuzz(0.5)
@hypothesis.given(
    name=st.sampled_from((*PARTS, "value_range")), value=anything()
)
def test_parts(name, value):
    if name == "num_classes":
        # So many classes are so much memory, as asked for; and an array of
        # integers has the `__index__` of one.
        hypothesis.assume(not (isinstance(value, int) and value > 999))
        hypothesis.assume(not hasattr(value, "shape"))
    parts = {"encoder": encoder(), "augmentation": views(), name: value}
    made = attempt(simclr_keras.SimCLRModel, **parts)
    if made is not Refused:
        assert name not in ("encoder",)
        assert made.value_range[0] < made.value_range[1]
        type(made).from_config(made.get_config())


@properties.fuzz(0.5)
@hypothesis.given(
    loss=properties.odd(),
    size=properties.odd().filter(lambda size: not hasattr(size, "shape")),
)
def test_compile(loss, size):
    made = model()
    attempt(made.compile, "sgd", loss)
    compiled = attempt(made.compile, "sgd", micro_batch_size=size)
    if compiled is not Refused and size is not None:
        assert made.micro_batch_size >= 1


@properties.fuzz(0.3)
@hypothesis.given(data=st.data())
def test_extract_features(data):
    images = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3))
    right = {
        "images": st.just(images.astype("uint8")),
        "batch_size": st.integers(1, 9),
        "output": st.sampled_from(["representation", "projection"]),
        "dtype": st.sampled_from(["float32", "float16"]),
    }
    kwargs, bad = data.draw(
        properties.arguments(wrong=arrays, optional=list(right)[1:], **right)
    )
    features = attempt(evaluation.extract_features, model(), **kwargs)
    if features is Refused:
        assert bad is not None
        return
    found = properties.check_finite(features)
    assert found.ndim == 2
    if bad is None:
        assert len(found) == 5
        assert features.dtype == kwargs.get("dtype", "float32")


@properties.fuzz()
@hypothesis.given(value=anything())
def test_features_of_what_is_no_model(value):
    images = np.zeros((2, SIDE, SIDE, CHANNELS), "uint8")
    assert attempt(evaluation.extract_features, value, images) is Refused
