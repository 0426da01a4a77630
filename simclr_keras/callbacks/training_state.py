"""Everything that training continues from, in one file."""

import io
import json

import h5py
import keras
import numpy as np
from keras import ops

from simclr_keras import distribution, keras_private

# Beside the groups that Keras writes for the model's attributes.
GROUP = "simclr_keras"


def training_state(model, notes, metrics):
    """What a compiled model needs to continue its training exactly.

    `model.save_weights` writes the weights and the optimizer with its
    iterations, on which a schedule depends. It leaves out the state of the
    `keras.random.SeedGenerator`s that layers draw with, such as dropout's, and
    the metrics, which count in the midst of an epoch. They are added to the
    same file, which `model.load_weights` still reads.

    Args:
        model: `keras.Model`, built and compiled.
        notes: Dictionary that JSON can hold, returned when it is loaded.
        metrics: List of arrays, the values of the metrics' variables; empty
            between two epochs.

    Returns:
        Bytes-like, the content of a ".weights.h5" file. In memory: after a
        write that fails, as on a full disk, HDF5 ends the process.
    """
    _build_optimizer(model)
    memory = _InMemory()
    model.save_weights(memory, overwrite=True)
    keras_private.remember_what_is_not_saved()
    with h5py.File(memory, "a") as file:
        group = file.create_group(GROUP)
        group["notes"] = _encode(notes)
        group["optimizer"] = _encode(_describe(model.optimizer))
        for number, state in enumerate(_random_states(model)):
            group[f"random_states/{number}"] = ops.convert_to_numpy(state)
        for number, value in enumerate(metrics):
            group[f"metrics/{number}"] = value
    return memory.getbuffer()


class _InMemory(io.BytesIO):
    """A file in memory, under a name that `save_weights` takes."""

    def __str__(self):
        return "memory.weights.h5"


def load_training_state(model, path):
    """Loads a file of what `training_state` gave.

    Args:
        model: `keras.Model`, built and compiled as the one that was saved.
        path: String.

    Returns:
        The notes, a dictionary, and the values of the metrics' variables, a
        list of arrays: `fit` sets the metrics back when an epoch begins.

    Raises:
        ValueError: If the file is not of such a model.
    """
    notes, optimizer, random_states, metrics = _read(path)
    _build_optimizer(model)
    # Keras only warns if the numbers of variables differ, and cannot tell the
    # momentum of one optimizer from that of another.
    if _describe(model.optimizer) != optimizer:
        raise ValueError(
            "The optimizer must be the one that the checkpoint was saved with, "
            f"{_in_words(optimizer)}. Received: {path!r}, for a model with "
            f"{_in_words(_describe(model.optimizer))}."
        )
    states = _random_states(model)
    if [tuple(s.shape) for s in states] != [s.shape for s in random_states]:
        raise ValueError(
            "The model must have the layers that it was saved with. Received: "
            f"{path!r}, with {len(random_states)} random generators, for a "
            f"model with {len(states)}."
        )
    with distribution.scope(distribution.strategy_of(model)):
        model.load_weights(path)
        for state, value in zip(states, random_states):
            state.assign(value)
    return notes, metrics


def compiled_numbers(model):
    """The numbers of `compile` that are variables, which a file replaces.

    Args:
        model: `keras.Model`, compiled.

    Returns:
        Dictionary from "learning rate" and "temperature" to a float; without
        what is a schedule, is learned or does not exist.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    loss = model.loss
    found = {
        "learning rate": optimizer.get_config().get("learning_rate"),
        "temperature": loss.get_config().get("temperature")
        if isinstance(loss, keras.losses.Loss)
        else None,
    }
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, (int, float, np.number))
    }


def _build_optimizer(model):
    """Makes the slots, without which Keras skips the optimizer's state."""
    if not model.optimizer.built:
        with distribution.scope(distribution.strategy_of(model)):
            model.optimizer.build(model.trainable_variables)


def _read(path):
    with h5py.File(path) as file:
        group = file[GROUP]
        return (
            _decode(group["notes"][()]),
            _decode(group["optimizer"][()]),
            _arrays(group, "random_states"),
            _arrays(group, "metrics"),
        )


def _arrays(group, name):
    arrays = group.get(name, {})
    return [arrays[str(number)][()] for number in range(len(arrays))]


def _encode(content):
    """JSON as bytes: all that the file holds is numbers, as in Keras's."""
    return np.frombuffer(json.dumps(content).encode(), "uint8")


def _decode(array):
    return json.loads(array.tobytes())


def _random_states(model):
    """What a model's state holds besides weights, in a fixed order."""
    weights = {id(weight) for weight in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def _describe(optimizer):
    # mixed_float16 wraps the user's optimizer in another.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return [type(inner).__name__, len(optimizer.variables)]


def _in_words(description):
    name, num_variables = description
    return f"{name} with {num_variables} variables"
