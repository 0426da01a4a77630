"""Augmentations compiled by XLA, shared by models that make the same views."""

import functools
import json

import tensorflow as tf


def compiled(augmentation, of_model):
    """`augmentation.apply` as a function that XLA compiles.

    To compile one takes seconds, and tens of megabytes that TensorFlow never
    gives back. What a layer of this library makes of images, an index and a
    key follows from its configuration, so equal ones share one: the second
    model in a notebook, or the hundredth of a search, begins at once.

    Args:
        augmentation: `Augmentation`.
        of_model: Dictionary from augmentations to functions, those of a model.

    Returns:
        A `tf.function` of (images, index, key).
    """
    shared = _Shared(augmentation)
    if shared.text is not None:
        function = _compile_once(shared)
        # Not if somebody has set an attribute of the one it was made from.
        if function.made_from.is_as_it_was():
            of_model[augmentation] = function.call
    if augmentation not in of_model:
        of_model[augmentation] = _compile(augmentation)
    return of_model[augmentation]


class _Shared:
    """An augmentation that is equal to others of one description."""

    def __init__(self, augmentation):
        self.augmentation = augmentation
        self.text = _text(augmentation)

    def is_as_it_was(self):
        return _text(self.augmentation) == self.text

    def __eq__(self, other):
        return self.text == other.text

    def __hash__(self):
        return hash(self.text)


class _Function:
    def __init__(self, made_from):
        self.made_from = made_from
        self.call = _compile(made_from.augmentation)


@functools.lru_cache(maxsize=64)
def _compile_once(shared):
    return _Function(shared)


def _compile(augmentation):
    return tf.function(augmentation.apply, jit_compile=True, autograph=False)


def _text(augmentation):
    description = augmentation.description()
    if description is None:
        return None
    return json.dumps(description, sort_keys=True, default=repr)
