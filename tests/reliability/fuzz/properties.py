"""What fuzzed calls are made of, and what must hold of each.

A call works, or is refused by a ValueError or TypeError that this package
raises and that says what came. Nothing else may come out of it.
"""

import os
import pathlib
import tempfile
import traceback

import hypothesis
import hypothesis.configuration
import keras
import numpy as np
from hypothesis import strategies as st

import simclr_keras

# Hypothesis keeps what it knows of Unicode; not in the tree.
hypothesis.configuration.set_hypothesis_home_dir(
    pathlib.Path(tempfile.gettempdir(), "hypothesis")
)

_PACKAGE = str(pathlib.Path(simclr_keras.__file__).parent)
_EXAMPLES = int(os.environ.get("SIMCLR_KERAS_EXAMPLES", "40"))

# What Keras itself says before a layer of this package is reached, of an
# argument that is no tensor, and what of one that it resolves by itself.
_SAID_BY_KERAS = (
    "Only input tensors may be passed as positional arguments",
    "Argument `seed` must be an integer. Received",
    "is incompatible with the layer",
    *("Invalid input shape for input", "Missing data for input"),
    *("Inputs to a layer should be tensors. Got", "received 0 input tensors"),
)
# All messages of this package say what came, in one of these ways.
_SAID_HERE = (
    *("Received", "Found", "do not go with value_range"),
    *("a single one has no negatives", "All are NaN"),
)

DTYPES = (
    "uint8",
    "uint16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)
BAD_DTYPES = ("bool", "complex64", "str", "object")


class Refused:
    """What `attempt` returns for a call that was refused as it should be."""


def fuzz(share=1.0):
    """Settings of a property.

    Args:
        share: Of SIMCLR_KERAS_EXAMPLES, less than 1 for what takes long.
    """
    return hypothesis.settings(
        max_examples=max(3, round(_EXAMPLES * share)),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        # Not to shrink: what is drawn is small, and it takes minutes of calls.
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )


def attempt(function, *args, **kwargs):
    """The result of a call, or `Refused`; other errors pass through.

    The traceback must end in this package: a message of TensorFlow, NumPy or
    Keras says nothing of what the user has called.
    """
    try:
        return function(*args, **kwargs)
    except (ValueError, TypeError) as error:
        if any(said in str(error) for said in _SAID_BY_KERAS):
            return Refused
        frame = traceback.extract_tb(error.__traceback__)[-1]
        is_ours = frame.filename.startswith(_PACKAGE)
        if is_ours and any(said in str(error) for said in _SAID_HERE):
            return Refused
        raise


def check_finite(result, *shape):
    """Asserts a shape and finite values; returns the array."""
    array = as_array(result)
    if shape:
        assert array.shape == shape, (array.shape, shape)
    assert np.isfinite(array).all(), array
    return array


def as_array(result):
    """A tensor as a NumPy array, in float64 where it has floats."""
    array = np.asarray(keras.ops.convert_to_numpy(result))
    is_float = "float" in array.dtype.name
    return array.astype("float64") if is_float else array


# Values that an argument was not made for, of every kind that users have.
NUMBERS = (
    *(-1, 0, 1, 2, 3, 2**31, -(2**31), 2**63, 2**64, -(2**63) - 1),
    *(0.0, -0.0, 0.5, 1.5, -0.1, 1e-320, 1e-45, 1e-30, 1e-9, 1e9, 1e38, 1e308),
    *(float("nan"), float("inf"), -float("inf")),
)
ODD = (
    *NUMBERS,
    *(None, True, False, "", "auto", "0.5", b"1", 1j, object(), print, dict),
    *([], [1], [1, 2], (), (0, 1), (1, 0), (0.5, None), ("a", "b"), {}),
    *({"a": 1}, {1, 2}, range(3), [[1, 2], [3]], (float("nan"), 1)),
    *((0, float("inf")), (0, 1, 2), ((0, 1), 2), (0, 1e-42), (-3e38, 3e38)),
    *(
        np.float32(0.5),
        np.float64(0.5),
        np.int64(2),
        np.int64(1),
        np.array(0.5),
        np.array([]),
        np.ones(2),
    ),
    *(np.array([1, 2]), np.array("a"), np.array([None, 1]), np.ones((2, 3))),
)


def odd():
    """One of the values that an argument was not made for."""
    return st.one_of(
        st.sampled_from(ODD),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
    )


def positive(smallest, largest):
    """Floats between two positive numbers, all magnitudes alike."""
    low, high = float(np.log10(smallest)), float(np.log10(largest))
    powers = st.floats(low, high).map(lambda power: 10.0**power)
    return powers.map(lambda x: min(max(x, smallest), largest))


@st.composite
def arguments(draw, wrong=odd, optional=None, **right):
    """Keyword arguments, one of which may be wrong.

    Args:
        draw: Of hypothesis.
        wrong: Function that gives the strategy of a wrong value.
        optional: Names that may be left out; None is all.
        **right: Strategy of the values that each argument is made for.

    Returns:
        Pair of a dictionary, and of the name of the wrong one or None.
    """
    optional = set(right) if optional is None else set(optional)
    names = [n for n in right if n not in optional or draw(st.booleans())]
    kwargs = {name: draw(right[name]) for name in names}
    bad = None
    if names and draw(st.booleans()):
        bad = draw(st.sampled_from(names))
        kwargs[bad] = draw(wrong())
    return kwargs, bad


@st.composite
def pairs(draw, numbers):
    """Pairs (smaller, larger) of numbers that may be equal."""
    return tuple(sorted([draw(numbers), draw(numbers)]))


def array_of(dtype, values):
    """An array of floats in a dtype of any kind, also those of no numbers."""
    if dtype == "bfloat16":
        return keras.ops.cast(np.asarray(values, "float32"), "bfloat16")
    if dtype == "object":
        return np.array([str(v) for v in values.flat], object).reshape(
            values.shape
        )
    return values.astype(dtype)


@st.composite
def values_in(draw, shape, low, high):
    """Float64 values of a shape in [low, high], of one of several kinds."""
    kind = draw(st.sampled_from(["uniform", "constant", "ends", "equal_rows"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "constant":
        return np.full(shape, rng.choice([low, high, (low + high) / 2]))
    if kind == "ends":
        return rng.choice([low, high], shape)
    values = low + (high - low) * rng.random(shape)
    if kind == "equal_rows" and shape:
        values = np.broadcast_to(values[:1], shape).copy()
    return values
