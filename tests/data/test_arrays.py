import importlib

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

from simclr_keras import data


def images(n=6, dtype="uint8", channels=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 4, 5, channels)).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("dtype", "value_range"), [("uint8", (0, 255)), ("uint16", (0, 65535))]
)
def test_unlabelled_integers(dtype, value_range, channels):
    source = data.from_arrays(images(dtype=dtype, channels=channels))
    assert source.value_range == value_range
    assert source.image_shape == (4, 5, channels)
    assert source.train.dtype == dtype
    assert source.test is None
    assert source.class_names is None
    assert source.num_classes is None
    got, labels = source.train.arrays()
    np.testing.assert_array_equal(got, images(dtype=dtype, channels=channels))
    assert labels is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_with_a_value_range(dtype):
    values = images().astype(dtype) / 255
    source = data.from_arrays(values, value_range=(0, 1))
    assert source.value_range == (0, 1)
    assert source.train.dtype == (
        "float16" if dtype == "float16" else "float32"
    )
    (batch,) = source.train.batches(6)
    np.testing.assert_array_equal(batch, values.astype(source.train.dtype))


def test_labels_and_test_part():
    source = data.from_arrays(
        images(),
        np.array([[0], [1], [2], [0], [1], [2]], "uint8"),
        test_images=images(2),
        test_labels=[3, 0],
    )
    assert source.class_names == ("0", "1", "2", "3")
    assert source.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert source.test.labels.dtype == "int64"
    named = data.from_arrays(images(1), [1], class_names=["cat", "dog"])
    assert named.class_names == ("cat", "dog")


def test_batches_come_in_order_with_labels():
    labels = np.arange(6)
    train = data.from_arrays(images(), labels).train
    dataset = train.batches(4, with_labels=True)
    assert dataset.cardinality() == 2
    batches = list(dataset)
    assert [len(batch) for batch, _ in batches] == [4, 2]
    np.testing.assert_array_equal(
        np.concatenate([b for b, _ in batches]), images()
    )
    np.testing.assert_array_equal(
        np.concatenate([y for _, y in batches]), labels
    )


def test_subset():
    train = data.from_arrays(images(), np.arange(6)).train
    subset = train.subset([4, 1])
    assert subset.labels.tolist() == [4, 1]
    np.testing.assert_array_equal(subset.arrays()[0], images()[[4, 1]])
    unlabelled = data.from_arrays(images()).train.subset([3])
    assert unlabelled.labels is None


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (
            {"images": images()[0]},
            ValueError,
            r"\(4, 5, 3\).*images\[\.\.\., N",
        ),
        ({"images": images(0)}, ValueError, r"\(0, 4, 5, 3\)"),
        ({"images": images(dtype="int64")}, TypeError, "images.dtype=int64"),
        ({"images": images(dtype="float32")}, ValueError, "`value_range` must"),
        (
            {"images": images(), "value_range": (0, 1)},
            ValueError,
            r"value_range=\(0.0, 1.0\), and values from",
        ),
        (
            {"images": np.full((1, 2, 2, 1), np.nan), "value_range": (0, 1)},
            ValueError,
            "not contain NaN.*from nan to nan",
        ),
        ({"labels": [1, 2]}, ValueError, r"labels.shape=\(2,\), with 6 images"),
        ({"labels": [0.5] * 6}, TypeError, "labels.dtype=float64"),
        ({"labels": [0] * 5 + [-1]}, ValueError, "the label -1"),
        (
            {"labels": [0] * 5 + [2], "class_names": ["a", "b"]},
            ValueError,
            "2 names, and the label 2",
        ),
        ({"test_labels": [0]}, ValueError, "needs `test_images`"),
        (
            {"test_images": images(channels=1)},
            ValueError,
            r"\(6, 4, 5, 3\) uint8, test_images \(6, 4, 5, 1\)",
        ),
    ],
)
def test_errors(kwargs, error, message):
    with pytest.raises(error, match=message):
        data.from_arrays(**{"images": images(), **kwargs})


def test_unit_floats_under_a_byte_range_warn():
    with pytest.warns(UserWarning, match=r"lies in \[0, 1\].*\(0.0, 255.0\)"):
        data.from_arrays(images() / 255.0, value_range=(0, 255))


def test_labels_asked_of_an_unlabelled_set():
    train = data.from_arrays(images()).train
    with pytest.raises(ValueError, match=r"with_labels=True.*has_labels=False"):
        train.batches(2, with_labels=True)
    with pytest.raises(ValueError, match=r"with_labels=True.*has_labels=False"):
        data.training_dataset(train, 2, with_labels=True)


@pytest.mark.parametrize(
    ("batch_size", "error", "message"),
    [
        (0, ValueError, "batch_size=0"),
        (2.0, TypeError, r"batch_size=2\.0"),
        (True, TypeError, "batch_size=True"),
    ],
)
def test_bad_batch_size(batch_size, error, message):
    train = data.from_arrays(images()).train
    with pytest.raises(error, match=message):
        train.batches(batch_size)
    with pytest.raises(error, match=message):
        train.steps_per_epoch(batch_size)


def test_digits_are_those_of_scikit_learn():
    digits = sklearn_digits()
    images, labels = data.load_digits(test_fraction=0).train.arrays()
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == "uint8"
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(
        np.round(images[..., 0] * (16 / 255)), digits.images
    )
    np.testing.assert_array_equal(labels, digits.target)


def test_split_of_digits_is_fixed_stratified_and_complete():
    first, again = data.load_digits(), data.load_digits()
    assert first.train.num_images + first.test.num_images == 1797
    np.testing.assert_array_equal(
        first.test.arrays()[0], again.test.arrays()[0]
    )
    total = np.bincount(sklearn_digits().target)
    held_out = np.bincount(first.test.labels)
    np.testing.assert_array_equal(held_out, np.round(total * 0.25))

    # Nothing is in both parts: together they are the whole set, reordered.
    rows = np.concatenate(
        [part.arrays()[0].reshape(-1, 64) for part in (first.train, first.test)]
    )
    everything = data.load_digits(test_fraction=0).train.arrays()[0]
    np.testing.assert_array_equal(
        np.sort(rows.view("S64"), axis=0),
        np.sort(everything.reshape(-1, 64).view("S64"), axis=0),
    )


def test_another_seed_holds_out_other_images():
    a, b = (data.load_digits(seed=seed).test.arrays()[0] for seed in (0, 1))
    assert not np.array_equal(a, b)


def test_description_of_digits():
    digits = data.load_digits()
    assert digits.name == "digits"
    assert digits.value_range == (0, 255)
    assert digits.class_names == tuple("0123456789")
    assert digits.num_classes == 10
    assert digits.image_shape == (8, 8, 1)
    assert digits.num_skipped == 0
    assert data.load_digits(test_fraction=0).test is None


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_bad_fraction(fraction):
    with pytest.raises(ValueError, match=rf"\[0, 1\).*{fraction}"):
        data.load_digits(test_fraction=fraction)


def test_fraction_too_small_for_one_image():
    with pytest.raises(ValueError, match=r"hold out one image.*0\.0001"):
        data.load_digits(test_fraction=0.0001)


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    def fail(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(
        ImportError,
        match=r"`load_digits` needs scikit-learn.*keras\[examples\]",
    ):
        data.load_digits()


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        # A name for each of them would fill the memory.
        ({"labels": np.full(6, 2**40)}, ValueError, "at most 10,000,000"),
        ({"labels": np.full(6, 2**63, "uint64")}, ValueError, "at most"),
        ({"labels": [[1, 2], [3]]}, TypeError, "`labels` must be an array"),
        ({"value_range": 255}, ValueError, "`value_range` must be a pair"),
        ({"value_range": (0, 1, 2)}, ValueError, "`value_range` must be"),
        ({"value_range": ("a", "b")}, ValueError, "`value_range` must be"),
        ({"class_names": "abc"}, TypeError, "sequence of strings"),
        ({"class_names": 3}, TypeError, "sequence of strings"),
        ({"test_images": [[1, 2], [3]]}, TypeError, "`test_images` must be"),
    ],
)
def test_what_is_no_argument(kwargs, error, message):
    kwargs = {"labels": np.arange(6), **kwargs}
    with pytest.raises(error, match=message):
        data.from_arrays(images(), **kwargs)
