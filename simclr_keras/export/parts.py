"""The parts of a model that are exported, and the images that they take."""

import typing

import keras

from simclr_keras import distribution, keras_private
from simclr_keras.model import SimCLRModel

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class Parts(typing.NamedTuple):
    """The parts of a model, and the images that they take.

    Attributes:
        encoder: Built `keras.layers.Layer`, images in [0, 1] to (B, F).
        projection_head: Built layer, (B, F) to (B, D), or None.
        prepare: Function from images (B, H, W, C), floats in [0, 1], to the
            encoder's images.
        image_shape: Tuple (H, W, C) of the images that `prepare` takes. None
            for H or W is any size.
        encoder_shape: Tuple (H, W, C) of the images that the encoder gets.
        crops: Whether `prepare` crops and resizes images unless they have the
            encoder's size.
    """

    encoder: typing.Any
    projection_head: typing.Any
    prepare: typing.Any
    image_shape: tuple
    encoder_shape: tuple
    crops: bool = False

    def layers(self):
        """Returns the encoder and, if there is one, the head."""
        layers = (self.encoder, self.projection_head)
        return [layer for layer in layers if layer is not None]

    def call(self, images, training):
        """Runs the Keras layers; returns a dictionary of outputs."""
        h = self.encoder(self.prepare(images), training=training)
        outputs = {"representation": h}
        if self.projection_head is not None:
            outputs["projection"] = self.projection_head(h, training=training)
        return outputs


def find_parts(model, include_head=True, preprocessing=True, image_shape=None):
    """Returns the parts of a model that an export needs.

    Args:
        model: As in `export_saved_model`.
        include_head: As in `export_saved_model`.
        preprocessing: As in `export_saved_model`.
        image_shape: As in `export_saved_model`.

    Returns:
        `Parts`.

    Raises:
        TypeError, ValueError: As in `export_saved_model`.
    """
    _check_model(model)
    encoder, head, crop = model, None, None
    if isinstance(model, SimCLRModel):
        encoder, crop = model.encoder, model.evaluation_preprocessing
        head = model.projection_head if include_head else None
    view_size, shape = _find_shapes(model, encoder, crop, image_shape)
    any_size = (None, None, shape[-1])
    parts = Parts(encoder, head, lambda images: images, shape, shape)
    if isinstance(preprocessing, keras.layers.Layer):
        if preprocessing.variables:
            raise ValueError(
                "`preprocessing` must be a layer without weights. Received: "
                f"preprocessing={preprocessing!r}, which has "
                f"{len(preprocessing.variables)}; make it a part of the "
                "encoder."
            )
        prepare = _with_shape(preprocessing, shape)
        return parts._replace(prepare=prepare, image_shape=any_size)
    if not isinstance(preprocessing, bool):
        raise TypeError(
            "`preprocessing` must be a boolean or a keras.layers.Layer. "
            f"Received: preprocessing={preprocessing!r}."
        )
    if not preprocessing or crop is None:
        return parts
    crop = _in_unit_range(crop, model.value_range)
    if view_size is None:
        return parts._replace(prepare=_with_shape(crop, shape))
    if any(n not in (None, m) for n, m in zip(shape, view_size)):
        raise ValueError(
            "`image_shape` must have the height and width of what the model "
            f"evaluates, {view_size}, to which `preprocessing=True` crops and "
            f"resizes every image. Received: image_shape={shape!r}; leave it "
            "out, or pass `preprocessing=False` or a layer."
        )
    shape = (*view_size, shape[-1])
    prepare = _with_shape(crop, shape)
    return Parts(encoder, head, prepare, any_size, shape, crops=True)


def computes_in_float32(layer):
    """Whether no layer in `layer` computes in 16 bits."""
    dtypes = {
        each.compute_dtype for each in keras_private.flatten_layers(layer)
    }
    return not dtypes & {"float16", "bfloat16"}


def check_backend(name):
    """Raises unless Keras runs on TensorFlow, as `name` needs it."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"`{name}` needs Keras on TensorFlow. Received: the backend "
            f"{keras.backend.backend()!r}. Save the encoder with "
            "`encoder.save('encoder.keras')`, then load and export it in a "
            "process with KERAS_BACKEND=tensorflow."
        )


def _check_model(model):
    """Raises unless a model is a built layer, outside of any scope."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a SimCLRModel, a keras.Model or a "
            f"keras.layers.Layer. Received: model={model!r} of type "
            f"{type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received {model.name!r}, which has not "
            "been built; call it on a batch first."
        )
    if distribution.in_scope():
        raise ValueError(
            "A model must be exported outside of `strategy.scope()`, even if "
            "it was built inside. Received a call inside of the scope."
        )


def _find_shapes(model, encoder, crop, given):
    """Returns the views' size and the shape of the encoder's images.

    The size (H, W) is None if the model does not crop and resize.
    """
    shape = given or _known_shape(encoder)
    # A model was built on images before they are cropped.
    images = shape or _known_shape(model)
    view_size = None
    if crop is not None and images is not None:
        view_size = _size_after(crop, images[-1])
    if shape is None and images is not None:
        shape = (*(view_size or images[:2]), images[-1])
    if not shape or len(shape) != 3 or not isinstance(shape[-1], int):
        known = f", and the encoder {encoder.name!r} was built on {shape}"
        raise ValueError(
            "`image_shape` must be a tuple (H, W, C), where H and W may be "
            f"None. Received: image_shape={given!r}{'' if given else known}."
        )
    return view_size, tuple(shape)


def _known_shape(layer):
    """Returns the shape (H, W, C) that a layer was built on, or None."""
    # Functional models have the former, other layers the latter.
    shape = getattr(layer, "input_shape", None)
    if shape is None:
        shape = (layer.get_build_config() or {}).get("input_shape")
    return shape and tuple(shape)[1:]


def _size_after(crop, channels):
    """Returns the size (H, W) that all images get, or None."""
    spec = tf.TensorSpec((None, None, None, channels), tf.float32)
    function = tf.function(crop, autograph=False)
    size = tuple(function.get_concrete_function(spec).output_shapes[1:3])
    return None if None in size else size


def _in_unit_range(function, value_range):
    """Makes a function of images in `value_range` one of images in [0, 1]."""
    low, high = value_range
    return lambda images: (
        (function(images * (high - low) + low) - low) / (high - low)
    )


def _with_shape(function, image_shape):
    """Adds to a function what is known of its result's shape."""
    return lambda images: tf.ensure_shape(
        tf.cast(function(images), tf.float32), (None, *image_shape)
    )
