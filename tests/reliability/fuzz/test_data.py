"""`data.from_arrays` and `data.training_dataset`: any array, any argument."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from simclr_keras import augmentation, data
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import (
    BAD_DTYPES,
    DTYPES,
    Refused,
    attempt,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`(test_)?images` lies in"),
]

RANGES = st.sampled_from([(0, 1), (0, 255), [-1.0, 1.0], (0, 65535)])
SIDES = st.integers(1, 5)


@st.composite
def image_arrays(draw, dtypes=("uint8", "uint16", "float32"), shape=None):
    if shape is None:
        shape = tuple(draw(SIDES) for _ in range(3))
    shape = (draw(st.integers(1, 12)), *shape)
    dtype = draw(st.sampled_from(dtypes))
    high = 200 if dtype == "uint8" else 60_000
    high = draw(st.sampled_from([1, high]))
    values = draw(properties.values_in(shape, 0, high))
    return properties.array_of(dtype, values)


@st.composite
def anything(draw):
    dtype = draw(st.sampled_from((*DTYPES, *BAD_DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
    array = properties.array_of(dtype, np.ones(shape))
    return draw(st.one_of(properties.odd(), st.just(array)))


@st.composite
def label_arrays(draw, count):
    seed = draw(st.integers(0, 2**32 - 1))
    labels = np.random.default_rng(seed).integers(0, 7, count)
    labels = labels.astype(draw(st.sampled_from(["int64", "uint8", "uint64"])))
    return labels[:, None] if draw(st.booleans()) else labels


@properties.fuzz()
@hypothesis.given(drawn=st.data())
def test_from_arrays(drawn):
    images = drawn.draw(image_arrays())
    test = drawn.draw(image_arrays([images.dtype.name], images.shape[1:]))
    right = {
        "images": st.just(images),
        "labels": label_arrays(len(images)),
        "test_images": st.just(test),
        "test_labels": label_arrays(len(test)),
        "value_range": RANGES,
        "class_names": st.just(tuple("abcdefgh")),
        "name": st.just("mine"),
    }
    kwargs, bad = drawn.draw(
        properties.arguments(
            wrong=anything,
            optional=["labels", "value_range", "class_names", "name"],
            **right,
        )
    )
    found = attempt(data.from_arrays, **kwargs)
    if found is Refused:
        if bad is not None:
            return
        high = {"uint8": 255, "uint16": 65535}.get(images.dtype.name, -1)
        high = kwargs["value_range"][1] if "value_range" in kwargs else high
        assert max(images.max(), test.max()) > high
        return
    low, high = found.value_range
    assert low < high
    for part in (found.train, found.test):
        if part is None:
            continue
        array, labels = part.arrays()
        assert low <= properties.check_finite(array).min()
        assert array.max() <= high
        if labels is not None:
            assert labels.shape == (len(array),)
            assert labels.min() >= 0
            assert labels.max() < found.num_classes


TRAINING = {
    "batch_size": st.integers(1, 12),
    "shuffle": st.booleans(),
    "seed": st.integers(0, 2**40),
    "initial_epoch": st.integers(0, 2**40),
    "initial_step": st.integers(0, 2),
    "with_labels": st.sampled_from([True, True, False]),
    "num_parallel_calls": st.one_of(st.none(), st.integers(1, 3)),
}


@properties.fuzz(0.3)
@hypothesis.given(drawn=st.data())
def test_training_dataset(drawn):
    # Each image holds its own number, so that none can pass for another.
    dtype = drawn.draw(st.sampled_from(["uint8", "uint16", "float32"]))
    images = np.empty((drawn.draw(st.integers(1, 12)), 2, 3, 1), dtype)
    images[:] = np.arange(len(images)).reshape(-1, 1, 1, 1)
    is_labelled = drawn.draw(st.sampled_from([True, True, False]))
    labels = np.arange(len(images)) if is_labelled else None
    images_set = data.from_arrays(images, labels, value_range=(0, 255)).train
    kwargs, bad = drawn.draw(
        properties.arguments(
            optional=set(TRAINING) - {"batch_size"}, **TRAINING
        )
    )
    size = kwargs["batch_size"]
    make = data.training_dataset
    dataset = attempt(make, images_set, **kwargs)
    if dataset is Refused:
        assert (
            bad is not None
            or size > len(images)
            or kwargs.get("initial_step", 0) > len(images) // size
            or (kwargs.get("with_labels") and labels is None)
        )
        return
    steps = len(images) // size
    assert len(dataset) == steps
    epochs = [list(dataset.as_numpy_iterator()) for _ in range(2)]
    assert [len(epoch) for epoch in epochs] == [steps] * 2
    again = list(make(images_set, **kwargs).as_numpy_iterator())
    for batch, same in zip(epochs[0], again):
        pairs = (
            zip(batch, same) if isinstance(batch, tuple) else [(batch, same)]
        )
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
            assert len(a) == size
    if kwargs.get("with_labels"):
        # No image twice in an epoch, and each with its own label.
        seen = np.concatenate([labels for _, labels in epochs[1]])
        assert len(np.unique(seen)) == len(seen)
        for batch, numbers in epochs[1]:
            np.testing.assert_array_equal(batch, images[numbers])


@properties.fuzz()
@hypothesis.given(value=anything(), crop=anything())
def test_what_is_no_set(value, crop):
    assert attempt(data.training_dataset, value, 2) is Refused
    images = data.from_arrays(np.zeros((4, 2, 2, 1), "uint8")).train
    dataset = attempt(data.training_dataset, images, 2, crop=crop)
    assert dataset is Refused or crop is None
    dataset = attempt(data.augment, value, augmentation.RandomCutout(seed=1))
    assert dataset is Refused
