"""Handwritten digits that come with scikit-learn: real, small, no download."""

import numpy as np

from simclr_keras.data.array_image_set import ArrayImageSet
from simclr_keras.data.image_set import ImageData, split_indices
from simclr_keras.optional_imports import import_optional


def load_digits(test_fraction=0.25, seed=0):
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels, ten classes.

    Their 17 levels 0 .. 16 are spread over 0 .. 255 and rounded, so
    `round(image * 16 / 255)` gives the levels back.

    Args:
        test_fraction: Float in [0, 1), the part of every class to hold out.
            0 holds none out. Defaults to 0.25.
        seed: Integer, which images are held out. The division depends on
            nothing else.

    Returns:
        An `ImageData` of uint8 images (N, 8, 8, 1) with labels.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If `test_fraction` is out of range.

    Example:
        data = simclr_keras.data.load_digits()
        images, labels = data.train.arrays()

    Reference:
        - [Alpaydin and Kaynak, 1998](https://doi.org/10.24432/C50P49),
          Optical Recognition of Handwritten Digits.
    """
    datasets = import_optional(
        "sklearn.datasets", "scikit-learn", "examples", "`load_digits`"
    )
    digits = datasets.load_digits()
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., None]
    labels = digits.target.astype("int64")
    train, test = split_indices(len(images), labels, test_fraction, seed)
    return ImageData(
        name="digits",
        train=ArrayImageSet(images[train], labels[train]),
        test=ArrayImageSet(images[test], labels[test]) if len(test) else None,
        class_names=tuple(str(digit) for digit in range(10)),
    )
