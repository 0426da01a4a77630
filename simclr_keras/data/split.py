"""Which images to hold out."""

import numpy as np


def check_test_fraction(test_fraction):
    """Raises ValueError unless it lies in [0, 1)."""
    if not 0 <= test_fraction < 1:
        raise ValueError(
            "`test_fraction` must lie in [0, 1). Received: "
            f"test_fraction={test_fraction!r}."
        )


def split_indices(num_images, labels, test_fraction, seed):
    """Divides a set into a part to train on and a part to hold out.

    With labels every class is divided in the same proportion and keeps at
    least one image to train on.

    Args:
        num_images: Integer, N.
        labels: Integer array (N,), or None.
        test_fraction: Float in [0, 1), the part to hold out.
        seed: Integer; the same seed always gives the same division.

    Returns:
        (train, test): two increasing integer arrays, together 0 .. N - 1.
    """
    check_test_fraction(test_fraction)
    # RandomState, as NumPy promises that its numbers never change.
    order = np.random.RandomState(seed).permutation(num_images)
    groups = np.zeros(num_images, int) if labels is None else labels
    is_test = np.zeros(num_images, bool)
    for group in np.unique(groups):
        members = order[groups[order] == group]
        count = min(round(test_fraction * len(members)), len(members) - 1)
        is_test[members[:count]] = True
    if test_fraction > 0 and not is_test.any():
        raise ValueError(
            "`test_fraction` must be large enough to hold out one image. "
            f"Received: test_fraction={test_fraction!r}, with {num_images} "
            "images."
        )
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
