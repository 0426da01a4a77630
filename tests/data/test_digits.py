import importlib

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

from simclr_keras import data


def test_values_are_those_of_scikit_learn():
    digits = sklearn_digits()
    images, labels = data.load_digits(test_fraction=0).train.arrays()
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == "uint8"
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(
        np.round(images[..., 0] * (16 / 255)), digits.images
    )
    np.testing.assert_array_equal(labels, digits.target)


def test_split_is_fixed_stratified_and_complete():
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


def test_description():
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


@pytest.mark.parametrize(
    ("load", "package", "extra"),
    [
        (data.load_digits, "scikit-learn", "examples"),
        (lambda: data.load_tfds("cifar10"), "tensorflow-datasets", "datasets"),
    ],
)
def test_missing_package_names_the_extra(monkeypatch, load, package, extra):
    def fail(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match=rf"{package}.*keras\[{extra}\]"):
        load()
