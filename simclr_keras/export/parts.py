"""What is exported of a model: its parts, and the images that they take."""

import typing

import keras

from simclr_keras import keras_private
from simclr_keras.model import SimCLRModel

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class Parts(typing.NamedTuple):
    """The parts of a model, and the images that they take.

    Attributes:
        encoder: Built `keras.layers.Layer`, images in [0, 1] to (B, F).
        projection_head: Built layer, (B, F) to (B, D), or None.
        prepare: Function from images (B, H, W, C), floats in [0, 1], to those
            that the encoder gets.
        image_shape: Tuple (H, W, C) of what `prepare` takes; H and W may be
            None, which is any.
        encoder_shape: Tuple (H, W, C) of what the encoder gets; likewise.
        crops: Whether `prepare` leaves images of the encoder's size as they
            are, and crops and resizes others.
    """

    encoder: typing.Any
    projection_head: typing.Any
    prepare: typing.Any
    image_shape: tuple
    encoder_shape: tuple
    crops: bool = False

    def layers(self):
        """The encoder, and the head if there is one."""
        layers = (self.encoder, self.projection_head)
        return [layer for layer in layers if layer is not None]

    def call(self, images, training):
        """What Keras makes of images, by the names of the endpoints."""
        h = self.encoder(self.prepare(images), training=training)
        outputs = {"representation": h}
        if self.projection_head is not None:
            outputs["projection"] = self.projection_head(h, training=training)
        return outputs


def find_parts(model, include_head=True, preprocessing=True, image_shape=None):
    """The parts of a model, by the arguments that all exports share.

    Args:
        model: `SimCLRModel`, or an encoder alone: a built layer.
        include_head: Whether a `SimCLRModel`'s projection head is a part.
        preprocessing: What happens to images first: True is what happens in
            the model, False is nothing, a layer is that layer.
        image_shape: Tuple (H, W, C) of what the encoder takes, H and W
            possibly None. None is what the model says.

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
            "`image_shape` must have the height and width of the model's "
            f"views, {view_size}, to which `preprocessing=True` crops and "
            f"resizes every image. Received: image_shape={shape!r}; leave it "
            "out, or pass `preprocessing=False` or a layer."
        )
    shape = (*view_size, shape[-1])
    prepare = _with_shape(crop, shape)
    return Parts(encoder, head, prepare, any_size, shape, crops=True)


def computes_in_float32(layer):
    """Whether all layers in it compute in float32 or better."""
    dtypes = {
        each.compute_dtype for each in keras_private.flatten_layers(layer)
    }
    return not dtypes & {"float16", "bfloat16"}


def check_backend(name):
    """Raises unless Keras runs on TensorFlow; `name` is the function's."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"`{name}` needs Keras on TensorFlow. Received: the backend "
            f"{keras.backend.backend()!r}. Save the encoder by "
            "`encoder.save('encoder.keras')`, and load and export it in a "
            "process with KERAS_BACKEND=tensorflow."
        )


def _check_model(model):
    """Raises unless a model is a layer with variables, of no open scope."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a SimCLRModel, a keras.Model or a "
            f"keras.layers.Layer. Received: model={model!r} of type "
            f"{type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"`model` must have its variables. Received {model.name!r}, which "
            "has not been built; call it on a batch first."
        )
    if tf.distribute.in_cross_replica_context():
        raise ValueError(
            "A model is exported outside of `strategy.scope()`, though it may "
            "have been built inside. Received a call inside of the scope."
        )


def _find_shapes(model, encoder, crop, given):
    """The size of the views, and the shape that the encoder takes.

    Returns:
        Tuple (H, W) or None; tuple (H, W, C).
    """
    shape = given or _known_shape(encoder)
    # What a model was built on is what comes before its crop.
    images = shape or _known_shape(model)
    view_size = None
    if crop is not None and images is not None:
        view_size = _size_after(crop, images[-1])
    if shape is None and images is not None:
        shape = (*(view_size or images[:2]), images[-1])
    if not shape or len(shape) != 3 or not isinstance(shape[-1], int):
        says = f", while the encoder {encoder.name!r} takes {shape}"
        raise ValueError(
            "`image_shape` must be a tuple (H, W, C), of which H and W may be "
            "None, where the encoder does not say what it takes. Received: "
            f"image_shape={given!r}{'' if given else says}."
        )
    return view_size, tuple(shape)


def _known_shape(layer):
    """The shape (H, W, C) that a layer was built on, if it says so."""
    # A functional model has the one, other layers have the other.
    shape = getattr(layer, "input_shape", None)
    if shape is None:
        shape = (layer.get_build_config() or {}).get("input_shape")
    return shape and tuple(shape)[1:]


def _size_after(crop, channels):
    """The one size (H, W) that images of every size get, or None."""
    spec = tf.TensorSpec((None, None, None, channels), tf.float32)
    function = tf.function(crop, autograph=False)
    size = tuple(function.get_concrete_function(spec).output_shapes[1:3])
    return None if None in size else size


def _in_unit_range(function, value_range):
    """A function of images in another range, of images in [0, 1]."""
    low, high = value_range
    return lambda images: (
        (function(images * (high - low) + low) - low) / (high - low)
    )


def _with_shape(function, image_shape):
    """The function, with what is known of its result."""
    return lambda images: tf.ensure_shape(
        tf.cast(function(images), tf.float32), (None, *image_shape)
    )
