"""The range that the values of images are in."""

import warnings

import keras
import numpy as np

from simclr_keras import user_code
from simclr_keras.argument_checks import pair_of_numbers

# The least normal number of float32, by which images are divided.
_LEAST = float(np.finfo("float32").tiny)


def standardize_value_range(value_range):
    """Returns `value_range` as a pair of numbers (low, high), low < high."""
    pair = pair_of_numbers(value_range)
    if not pair or not pair[1] - pair[0] >= _LEAST:
        raise ValueError(
            "`value_range` must be a pair (low, high) with low < high, such as "
            f"(0, 255) or (0, 1). Received: value_range={value_range!r}."
        )
    return pair


def check_dtype(dtype, value_range):
    """Raises if images of a dtype cannot be meant to have a range.

    Args:
        dtype: String, the dtype of images.
        value_range: Pair (low, high).

    Raises:
        TypeError: If the dtype is not of numbers.
        ValueError: If what the dtype holds is far beyond the range, or the
            range far beyond what it holds.
    """
    try:
        dtype = keras.backend.standardize_dtype(dtype)
    except ValueError:  # Text, objects: none that a tensor of Keras has.
        dtype = getattr(dtype, "name", str(dtype))
    if dtype == "bool" or not ("int" in dtype or "float" in dtype):
        raise TypeError(
            "Images must be integers or floats. Received images of dtype "
            f"{dtype}; cast them."
        )
    if dtype not in ("uint8", "uint16"):
        return
    low, high = value_range
    largest = np.iinfo(dtype).max
    # 12 bits in 16 are usual, 8 in 16 are not.
    too_bright = high < (2 if dtype == "uint8" else 256)
    if not (too_bright or high > largest):
        return
    raise ValueError(
        f"{dtype} images, from 0 to {largest}, do not go with value_range="
        f"({low}, {high}): to the encoder they would be all but "
        f"{'white' if too_bright else 'black'}. State their range with "
        f"value_range=(0, {largest}), in the augmentation too, or convert them."
    )


def looks_scaled(value_range):
    """Whether floats in [0, 1] would be a mistake in such a range."""
    low, high = value_range
    return low <= 0 and high > 1


def warn_of_scaled_images(value_range):
    """Warns that floats in [0, 1] are all but black in a wider range."""
    warnings.warn(
        "The images are floats that lie in [0, 1], but value_range is "
        f"{tuple(value_range)}: to the encoder they are all but black. "
        "If they are scaled already, say so with value_range=(0, 1).",
        stacklevel=user_code.stacklevel(),
    )
