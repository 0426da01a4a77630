"""Names of Keras and TensorFlow that are not public, all in one place.

Nothing else in this package uses one. Each says what breaks without it, and
when it can go; `tests/test_keras_private.py` fails once that time has come.
All were seen in Keras 3.15.1 and TensorFlow 2.21.
"""

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


def flatten_layers(layer):
    """A layer and all layers in it, however deep: `Layer._flatten_layers`.

    `keras.Model.layers` has the direct ones alone and `keras.layers.Layer` has
    no such attribute. Without it, batch norm that sees one replica's images
    and layers that compute in 16 bits are not found in a user's encoder. It
    can go when `keras.layers.Layer` lists its sublayers.
    """
    return list(layer._flatten_layers())


def cross_device_ops(strategy):
    """What a `tf.distribute.Strategy` was given as `cross_device_ops`.

    Without it, `steps_per_execution` above 1 ends in TensorFlow's "You must
    feed a value for placeholder tensor" under the default ones, with no word
    on the cause. It can go when a strategy says what it was given.
    """
    return getattr(strategy.extended, "_cross_device_ops", None)


def in_dataset_function():
    """Whether this is traced as a function of a `tf.data.Dataset`.

    TensorFlow names such graphs after the dataset's method, `Dataset_map_...`,
    and says nothing else of where they run. Without it, a random layer in
    `Dataset.map` draws some numbers twice and others never, in silence. It can
    go when `tf.data` runs stateful functions one at a time or says that it
    does not.
    """
    if tf is None or tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if str(getattr(graph, "name", "")).startswith("Dataset_"):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False
