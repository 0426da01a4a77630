"""Checks of arguments, whose errors say what was expected and what came."""

import numbers

import numpy as np

# Beyond it a number, or twice it, is infinite in float32.
LARGEST = 1e38


def check_number(name, value, expected, accepts):
    """Returns an argument that is a number of some range, as Python has it.

    A NumPy scalar would decide on the dtype of what is computed with it, and
    is none that a configuration holds.

    Args:
        name: String, of the argument.
        value: What it is.
        expected: String, what the message says that it must do or be, such as
            "lie in [0, 1]".
        accepts: Function that says whether a number is one of these. It is to
            be written so that NaN is not: `0 <= x`, and not `not x < 0`.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is another one, or too large for float32.
    """
    message = f"`{name}` must {expected}. Received: {name}={value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{message} of type {type(value).__name__}.")
    if not (-LARGEST <= value <= LARGEST and accepts(value)):
        raise ValueError(f"{message}.")
    return plain(value)


def plain(value):
    """A NumPy scalar as Python's number; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def check_boolean(name, value):
    """Returns True or False; raises a `TypeError` for anything else."""
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True or False. Received: {name}={value!r}."
        )
    return value


def check_positive_integer(name, value):
    """Raises a `TypeError` or `ValueError` unless it is a positive integer."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be an integer. Received: "
            f"{name}={value!r} of type {type(value)}."
        )
    if value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value}."
        )


def pair_of_numbers(values):
    """A pair of Python's numbers that float32 can hold; () for all else."""
    is_row = isinstance(values, np.ndarray) and values.ndim == 1
    if not (is_row or isinstance(values, (list, tuple))) or len(values) != 2:
        return ()
    pair = tuple(map(plain, values))
    is_good = all(
        isinstance(x, numbers.Real) and -LARGEST <= x <= LARGEST for x in pair
    )
    return pair if is_good else ()


def check_names(name, values):
    """Raises a `TypeError` unless an argument is a sequence of strings."""
    is_row = isinstance(values, np.ndarray) and values.ndim == 1
    if not (is_row or isinstance(values, (list, tuple))) or not all(
        isinstance(each, str) for each in values
    ):
        raise TypeError(
            f"`{name}` must be a sequence of strings. Received: "
            f"{name}={values!r}."
        )


def to_array(name, values, dtype=None):
    """A NumPy array of numbers; raises a `TypeError` for anything else.

    Args:
        name: String, of the argument.
        values: Array-like of integers, floats or booleans.
        dtype: Of the array. None is that of the values.
    """
    message = f"`{name}` must be an array of numbers."
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        # Of lists of several lengths, and of what cannot be an array.
        raise TypeError(
            f"{message} Received: {name} of type {type(values).__name__}, of "
            f"which NumPy makes none: {error}"
        ) from error
    if not _holds_numbers(array.dtype):
        raise TypeError(
            f"{message} Received: {name} of type {type(values).__name__}, "
            f"dtype {array.dtype}."
        )
    return array if dtype is None else array.astype(dtype, copy=False)


def to_labels(name, values):
    """A NumPy array of labels: integers, or names of classes.

    Args:
        name: String, of the argument.
        values: Array-like.

    Raises:
        TypeError: If NumPy makes no array of it, as of lists of several
            lengths.
    """
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be integers or names of classes. Received: {name} "
            f"of type {type(values).__name__}, of which NumPy makes no array: "
            f"{error}"
        ) from error


def to_numbers(name, values):
    """A tensor as it is, anything else as `to_array` makes it.

    Args:
        name: String, of the argument.
        values: Tensor, symbolic ones too, or array-like.

    Raises:
        TypeError: If it does not hold numbers.
    """
    is_array = isinstance(values, (np.ndarray, np.generic))
    if is_array or not (hasattr(values, "shape") and hasattr(values, "dtype")):
        return to_array(name, values)
    if not _holds_numbers(values.dtype):
        raise TypeError(
            f"`{name}` must be a tensor of numbers. Received: {name} of dtype "
            f"{getattr(values.dtype, 'name', values.dtype)}."
        )
    return values


def _holds_numbers(dtype):
    name = getattr(dtype, "name", str(dtype))
    return any(kind in name for kind in ("int", "float", "bool"))
