"""Features that are standardised when they are read, without a copy."""

import functools
import warnings

import numpy as np

from simclr_keras import user_code

# Rows that are looked at at a time, for sums over all of them.
_ROWS_AT_A_TIME = 4096
# Among so few, one may well hold most of the variance.
_FEW_ROWS = 20


class StandardizedRows:
    """Some rows of features, less a mean and divided by a number.

    Args:
        features: Float array (N, F), float16 or float32; memory-mapped ones
            are read piece by piece.
        mean: float32 array (F,), or None for 0.
        deviation: float32, what all are divided by.
        index: Integer array of the rows that are meant, or None for all.
    """

    def __init__(self, features, mean=None, deviation=1.0, index=None):
        self.features = features
        self.mean, self.deviation = mean, np.float32(deviation)
        self.index = index

    def __len__(self):
        return len(self.features if self.index is None else self.index)

    @property
    def dim(self):
        return self.features.shape[1]

    def of(self, features):
        """Other features, by the same mean and deviation."""
        return StandardizedRows(features, self.mean, self.deviation)

    def take(self, index):
        """Some of all rows, by an integer array."""
        return StandardizedRows(self.features, self.mean, self.deviation, index)

    def stored(self, start, stop):
        """Rows (n, F) as they are stored, not standardised."""
        if self.index is None:
            return np.ascontiguousarray(self.features[start:stop])
        return self.features[self.index[start:stop]]

    @functools.cached_property
    def array(self):
        """All of them in one float32 array (n, F), standardised."""
        rows = self.stored(0, len(self))
        if self.mean is None:
            return np.asarray(rows, "float32")
        return (rows - self.mean) / self.deviation


def mean_and_deviation(features):
    """The mean of each feature, and one deviation for all of them.

    If one of many rows holds more than half of the variance, it is told.

    Args:
        features: Float array (N, F).

    Returns:
        Pair of a float32 array (F,) and a float32: the root of the features'
        mean variance, or 1 where they do not vary.
    """
    # Sums of float32 over many rows drift, those in float64 do not.
    num_rows, dim = features.shape
    mean = sum(rows.sum(axis=0) for rows in _float64(features)) / num_rows
    squares = np.concatenate(
        [((rows - mean) ** 2).sum(axis=1) for rows in _float64(features)]
    )
    total = squares.sum()
    if num_rows >= _FEW_ROWS and squares.max() > total / 2:
        warnings.warn(
            f"Row {squares.argmax()} of the features holds "
            f"{squares.max() / total:.1%} of their variance: beside it all "
            "others are nearly alike, to a linear classifier too. Look at "
            "what it comes from, or leave it out.",
            stacklevel=user_code.stacklevel(),
        )
    deviation = np.sqrt(total / num_rows / dim) if total > 0 else 1.0
    return mean.astype("float32"), np.float32(deviation)


def _float64(features):
    """Some rows after the other."""
    for start in range(0, len(features), _ROWS_AT_A_TIME):
        yield np.asarray(features[start : start + _ROWS_AT_A_TIME], "float64")
