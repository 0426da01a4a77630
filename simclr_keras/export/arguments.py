"""What every export has to know of a model, and whether it can be exported."""

import keras

from simclr_keras import keras_private

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def check_backend(name):
    """Raises unless Keras runs on TensorFlow; `name` is the function's."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"`{name}` needs Keras on TensorFlow. Received: the backend "
            f"{keras.backend.backend()!r}. Save the encoder by "
            "`encoder.save('encoder.keras')`, and load and export it in a "
            "process with KERAS_BACKEND=tensorflow."
        )


def check_model(name, model):
    """Raises unless a model is a layer with variables, of no open scope."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            f"`{name}` must be a keras.Model or a keras.layers.Layer. "
            f"Received: {name}={model!r} of type {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"`{name}` must have its variables. Received {model.name!r}, "
            "which has not been built; call it on a batch first."
        )
    if tf.distribute.in_cross_replica_context():
        raise ValueError(
            "A model is exported outside of `strategy.scope()`, though it may "
            "have been built inside. Received a call inside of the scope."
        )


def find_image_shape(encoder, image_shape):
    """The shape (H, W, C) that an encoder takes, if it is not given."""
    if image_shape is None:
        # A functional model has the one, other layers have the other.
        shape = getattr(encoder, "input_shape", None)
        if shape is None:
            shape = (encoder.get_build_config() or {}).get("input_shape")
        image_shape = shape and tuple(shape)[1:]
    if (
        not image_shape
        or len(image_shape) != 3
        or not isinstance(image_shape[-1], int)
    ):
        raise ValueError(
            "`image_shape` must be a tuple (H, W, C), of which H and W may be "
            f"None. Received: image_shape={image_shape!r}."
        )
    return tuple(image_shape)


def sublayers(layer):
    """The layer and all layers in it."""
    return keras_private.flatten_layers(layer)


def is_float32(layer):
    """Whether every layer in it computes in float32 or better."""
    dtypes = {sublayer.compute_dtype for sublayer in sublayers(layer)}
    return not dtypes & {"float16", "bfloat16"}
