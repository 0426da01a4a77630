"""Checks that hold for every public class, whatever it computes.

A test module calls those that apply to its class; a class that passes them
can be configured, saved, compiled and run as the others can. `inputs` are
tuples of NumPy arrays, the arguments of the call; `make` is a function that
gives a new object, equal to the last one down to its seed.
"""

import contextlib
import doctest
import functools
import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": functools.partial(tf.function, jit_compile=True),
}
MIXED_POLICIES = ("mixed_float16", "mixed_bfloat16")


def constructor_arguments(cls):
    """The names of a constructor's arguments with their defaults."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {
        p.name: p.default
        for p in parameters
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def jsonable(value):
    """What is left of a value after a journey through JSON."""
    text = json.dumps(value, default=keras.saving.serialize_keras_object)
    return json.loads(text)


def check_config(obj, arguments, attributes=True, excluded=()):
    """The configuration holds every argument and makes the same object.

    Args:
        obj: Object made with `arguments`.
        arguments: Dictionary of every argument of the constructor, none at its
            default: a default would hide that the argument was dropped.
        attributes: Whether the attribute of the argument's name must hold the
            argument's value. True, False, or the names for which it must.
        excluded: Names of arguments that exclude others of these.
    """
    cls = type(obj)
    defaults = constructor_arguments(cls)
    assert {*arguments, *excluded} == set(defaults), "name every argument"
    for name, value in arguments.items():
        assert jsonable(value) != jsonable_or_none(defaults[name]), (
            f"{name}={value!r} is the default"
        )
    config = obj.get_config()
    if attributes is True:
        attributes = tuple(arguments)
    for name, value in arguments.items():
        assert name in config, f"{name} is not in the configuration"
        assert jsonable(config[name]) == jsonable(value), name
        if attributes and name in attributes:
            assert jsonable(getattr(obj, name)) == jsonable(value), name

    again = cls.from_config(jsonable(config))
    assert jsonable(again.get_config()) == jsonable(config)
    # As Keras's files do it: the class is found by its registered name.
    assert keras.saving.get_registered_name(cls) == (
        f"simclr_keras>{cls.__name__}"
    )
    serialized = jsonable(keras.saving.serialize_keras_object(obj))
    again = keras.saving.deserialize_keras_object(serialized)
    assert type(again) is cls
    assert jsonable(again.get_config()) == jsonable(config)


def jsonable_or_none(value):
    """As `jsonable`, or None for the default of a required argument."""
    return None if value is inspect.Parameter.empty else jsonable(value)


def save_and_load(model, directory):
    """A model after a journey through a `.keras` file."""
    path = directory / "saved.keras"
    model.save(path)
    return keras.saving.load_model(path)


def check_saves_and_loads(obj, inputs, directory, atol=0.0, **call_kwargs):
    """A `.keras` file gives back the class, the configuration, the numbers.

    Args:
        obj: Layer or model. A layer is put into a `keras.Sequential`.
        inputs: Tuple of arrays; a layer takes one.
        directory: `pathlib.Path` to write to.
        atol: By how much the outputs may differ.
        **call_kwargs: Of the call. With `training=True`, a random layer must
            go on with the draw that comes next.
    """
    is_model = isinstance(obj, keras.Model)
    model = obj
    if not is_model:
        spec = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype.name)
        model = keras.Sequential([spec, obj])
    model(*inputs, **call_kwargs)
    loaded = save_and_load(model, directory)
    same = loaded if is_model else loaded.layers[-1]
    assert type(same) is type(obj)
    assert jsonable(same.get_config()) == jsonable(obj.get_config())
    for _ in range(2):
        assert_same(
            loaded(*inputs, **call_kwargs),
            model(*inputs, **call_kwargs),
            atol=atol,
        )


def check_compiles(make, inputs, atol, rtol=0.0, modes=tuple(MODES), **kwargs):
    """Eager mode, a graph and XLA give the same numbers.

    Args:
        make: Function that gives a callable.
        inputs: Tuple of arrays.
        atol, rtol: By how much the results may differ from eager mode's.
        modes: The names out of `MODES` to run.
        **kwargs: Of the call.
    """
    plain = make()(*inputs, **kwargs)
    for mode in modes:
        # Made outside the function, as variables must be.
        function = functools.partial(make(), **kwargs)
        result = MODES[mode](lambda *a, f=function: f(*a))(*inputs)
        assert_same(result, plain, atol, rtol, message=mode)


def check_policies(make, inputs, atol, rtol=0.0, dtype=None, **kwargs):
    """Under the mixed policies: finite, near to plain, float32 weights.

    Args:
        make: Function that gives a callable.
        inputs: Tuple of arrays.
        atol, rtol: By how much the results may differ from float32's.
        dtype: Name of the dtype that results must have, or None for any.
        **kwargs: Of the call.
    """
    plain = make()(*inputs, **kwargs)
    for policy in MIXED_POLICIES:
        with dtype_policy(policy):
            made = make()
            result = made(*inputs, **kwargs)
        for tensor in keras.tree.flatten(result):
            found = keras.backend.standardize_dtype(tensor.dtype)
            assert dtype in (None, found), policy
        for weight in getattr(made, "weights", ()):
            if "float" in weight.dtype:
                assert weight.dtype == "float32", weight.path
        assert_same(result, plain, atol, rtol, message=policy)


def check_rejects(make, name, value, error=ValueError, received=None):
    """A bad argument raises, and the message names it and shows its value.

    Args:
        make: Function or class that takes the argument by name.
        name, value: Of the argument.
        error: Class of the exception.
        received: What the message must show. Defaults to "name=value".
    """
    with pytest.raises(error) as caught:
        make(**{name: value})
    message = str(caught.value)
    assert "Received: " in message, message
    assert (received or f"{name}={value!r}") in message, message


def check_examples(obj):
    """The examples of a docstring run as written; there is at least one.

    Args:
        obj: Class or function.
    """
    runner = doctest.DocTestRunner()
    finder = doctest.DocTestFinder(recurse=False)
    for test in finder.find(obj, obj.__name__, globs={}):
        runner.run(test)
    assert runner.tries, "no examples"
    assert not runner.failures


@contextlib.contextmanager
def dtype_policy(name):
    """Sets the global dtype policy for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def to_numpy(tensor):
    """A tensor as a NumPy array, bfloat16 as float32."""
    array = keras.ops.convert_to_numpy(tensor)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def assert_same(result, expected, atol=0.0, rtol=0.0, message=""):
    """Two structures of tensors are finite and equal within tolerances."""
    result, expected = keras.tree.flatten(result), keras.tree.flatten(expected)
    assert len(result) == len(expected)
    for a, b in zip(result, expected):
        a, b = to_numpy(a), to_numpy(b)
        assert a.shape == b.shape, message
        assert np.all(np.isfinite(a)), message
        np.testing.assert_allclose(
            a.astype("float64"), b, atol=atol, rtol=rtol, err_msg=message
        )
