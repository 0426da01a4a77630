"""A part of a graph that costs nothing where it is not needed."""

import tensorflow as tf


def lazily(function, *tensors):
    """Calls a function within a branch of `tf.cond`, in `tf.data`.

    Each operation of a branch takes its time for each image, whether the
    branch is taken or not. Here they are those of a dataset of one element,
    which runs only if it is asked for it.

    Args:
        function: Function of tensors, to a tensor or a tuple of them.
        *tensors: What it is given.

    Returns:
        What it returns.
    """
    dataset = tf.data.Dataset.from_tensors(tensors).map(function)
    return dataset.get_single_element()
