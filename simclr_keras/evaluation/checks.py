"""What every evaluation asks of features and labels."""

import math
import numbers

import numpy as np

from simclr_keras.argument_checks import check_number, to_array, to_labels

# Rows that are looked at at a time: no copy of millions is made to do so.
_ROWS_AT_A_TIME = 16384


class NotFiniteError(ValueError):
    """Representations or logits are NaN or infinite."""


def check_features(features, name, keeps_float16=False):
    """Returns `features` as a finite float32 array (N, F).

    Args:
        features: Array-like (N, F), one row an image.
        name: String, what the message calls it.
        keeps_float16: Boolean, whether a float16 array stays one, in half the
            memory.

    Returns:
        A NumPy array (N, F), float32; no copy where it is one already.

    Raises:
        TypeError: If it does not hold numbers.
        ValueError: If it is not of rank 2, is empty or holds NaN or infinity.
    """
    features = to_array(name, features)
    is_half = features.dtype == np.float16
    features = np.asarray(
        features, dtype="float16" if is_half and keeps_float16 else "float32"
    )
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"`{name}` must have the shape (N, F), N and F at least 1. "
            f"Received: {name}.shape={features.shape}. Images are flattened "
            "by images.reshape(len(images), -1)."
        )
    num_bad = sum(
        int((~np.isfinite(features[i : i + _ROWS_AT_A_TIME])).sum())
        for i in range(0, len(features), _ROWS_AT_A_TIME)
    )
    if num_bad:
        raise ValueError(
            f"`{name}` must be finite. Received: {num_bad} values that are "
            f"NaN or infinite in an array of shape {features.shape}. The "
            "encoder that made them has diverged."
        )
    return features


def check_count(value, name):
    """Returns a positive integer as an `int`.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not a positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be a positive integer. Received: {name}={value!r} "
            f"of type {type(value).__name__}."
        )
    if not 1 <= value < math.inf or value != int(value):
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}."
        )
    return int(value)


def check_positive(value, name):
    """Raises unless a value is a positive number that is finite."""
    check_number(name, value, "be a positive number", lambda x: x > 0)


def check_seed(seed, name="seed"):
    """Raises a `TypeError` or `ValueError` unless NumPy can draw by a seed."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(
            f"`{name}` must be an integer. Received: {name}={seed!r} of type "
            f"{type(seed).__name__}."
        )
    if seed < 0:
        raise ValueError(
            f"`{name}` must be at least 0. Received: {name}={seed!r}."
        )


def num_rows(features, name):
    """The number of rows of features (N, F), whose values nobody looks at."""
    if not hasattr(features, "shape"):
        features = to_array(name, features)
    if len(features.shape) != 2:
        check_features(features, name)  # Says what is wrong.
    return features.shape[0]


def check_labels(labels, num_examples, name):
    """Returns `labels` as an integer array (num_examples,).

    Args:
        labels: Array-like of integers (N,) or (N, 1).
        num_examples: Integer, the number of rows of the features.
        name: String, what the message calls it.

    Returns:
        A NumPy array (N,) of integers.

    Raises:
        ValueError: If the length differs from `num_examples` or the rank is
            not 1.
        TypeError: If the labels are not integers.
    """
    labels = to_labels(name, labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (num_examples,):
        raise ValueError(
            f"`{name}` must hold one label for each of the {num_examples} "
            f"rows of features. Received: {name}.shape={labels.shape}. "
            "One-hot labels become integers by labels.argmax(axis=-1)."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"`{name}` must be integers. Received: {name}.dtype={labels.dtype}."
        )
    return labels


def check_same_features(
    train_features,
    test_features,
    train_name="train_features",
    test_name="test_features",
):
    """Raises ValueError if the two sets' features differ in their number."""
    if train_features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"`{train_name}` and `{test_name}` must have the same number of "
            f"features. Received: {train_name}.shape={train_features.shape}, "
            f"{test_name}.shape={test_features.shape}."
        )
