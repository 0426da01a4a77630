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


class OwnWeightDecay:
    """Mixin for an optimizer that applies its `weight_decay` itself.

    Keras's `_apply_weight_decay` shrinks the weights by an attribute of that
    name, decoupled from the gradient. Without this mixin, an optimizer that
    adds the decay to the gradient would decay twice. It cannot be switched off
    by excluding every variable in `exclude_from_weight_decay`: on PyTorch,
    Keras then passes an empty list to `torch._foreach_mul_`. It can go when an
    optimizer can turn Keras's decay off in public.
    """

    def _apply_weight_decay(self, variables):
        pass


def variable_index(optimizer, variable):
    """Position of `update_step`'s variable among those given to `build`.

    `Optimizer._get_variable_index`, which Keras's own docstring on custom
    optimizers uses. Without it, `update_step` cannot find the slots of its
    variable: on TensorFlow that is a `tf.Variable` without a path, and under
    `tf.distribute` one replica's. It can go when `update_step` receives the
    `keras.Variable`, or Keras has a public name for this.
    """
    return optimizer._get_variable_index(variable)
