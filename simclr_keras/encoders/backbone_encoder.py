"""Any backbone as an encoder."""

import keras
from keras import ops

from simclr_keras.encoders.image_dtype import (
    check_image_dtype,
    to_unit_range,
)
from simclr_keras.encoders.input_scaling import Scaling

_POOLINGS = ("avg", "max", "token")


@keras.saving.register_keras_serializable(package="simclr_keras")
class BackboneEncoder(keras.Model):
    """Turns a backbone into an encoder: scales images and pools features.

    The backbone is any model or layer that maps images to a feature map, a
    sequence of tokens, or a vector: from `keras.applications`, KerasHub,
    KerasCV, or your own. It is trained, saved and loaded with the encoder.

    Args:
        backbone: `keras.layers.Layer`, often a `keras.Model`, that takes
            images (B, H, W, C), channels last, and returns (B, H', W', F),
            (B, T, F) or (B, F); or a dictionary of these.
        endpoint: String or `None`, which features to use: a key of the
            dictionary that the backbone returns; a key of its
            `pyramid_outputs` (KerasHub) or `pyramid_level_inputs` (KerasCV),
            such as `"P4"`; or, in a functional model, the name of a layer.
            Layers after that one are saved but not trained. `None` is the
            backbone's output. Defaults to `None`.
        pooling: `"avg"` or `"max"` over positions or tokens; or `"token"`, the
            first token of a sequence, where that is a class token, as in ViT.
            Ignored if the backbone returns (B, F). Defaults to `"avg"`, which
            treats a class token like any other.
        input_scaling: The input range of the backbone, to which the encoder
            scales images in [0, 1]. Defaults to (0, 1). One of

            - a pair (low, high), to which [0, 1] is mapped: `(0, 255)` for a
              backbone with its own rescaling layer, as EfficientNet, ConvNeXt
              and MobileNetV3 of `keras.applications` have by default and
              KerasCV's with `include_rescaling=True`; `(-1, 1)`;
            - a dictionary with `"mean"` and `"deviation"` of images in [0, 1],
              each a number or one number per channel;
            - `"tf"`, `"torch"` or `"caffe"`, as
              `keras.applications.imagenet_utils.preprocess_input` calls them:
              (-1, 1); ImageNet's mean and deviation; and, for the weights of
              ResNet50 and VGG in `keras.applications`, blue, green, red in
              [0, 255] minus the mean.
        **kwargs: Arguments of `keras.Model`. The `dtype` is that of scaling
            and pooling and defaults to float32 under every global policy; the
            backbone has its own.

    Attributes:
        feature_dim: F, or `None` before the encoder is built.
        value_range: (0, 1), the range of the images that it takes.

    Call arguments:
        images: Float tensor (B, H, W, C) in [0, 1], or uint8; see `ResNet`.
        training: Boolean, whether the backbone is in training mode.

    Returns:
        Representations h, float32 tensor (B, F).

    Raises:
        TypeError: If the backbone is not a layer, or images are integers
            other than uint8.
        ValueError: If an argument is out of its range, there is no such
            endpoint, or the features have another shape: in the constructor
            for a functional backbone, otherwise in `build`.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> backbone = keras.applications.MobileNetV3Small(
        ...     input_shape=(32, 32, 3), include_top=False, weights=None
        ... )
        >>> encoder = simclr_keras.encoders.BackboneEncoder(
        ...     backbone, input_scaling=(0, 255)
        ... )
        >>> tuple(encoder(keras.random.uniform((4, 32, 32, 3))).shape)
        (4, 576)

    Batch norm in a backbone keeps its own settings: it uses the statistics of
    each replica's batch, unless its layers have `synchronized=True`. On
    TensorFlow, `fuse_batch_norm(backbone)` makes training faster.
    """

    value_range = (0, 1)

    def __init__(
        self,
        backbone,
        endpoint=None,
        pooling="avg",
        input_scaling=(0, 1),
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if not isinstance(backbone, keras.layers.Layer):
            raise TypeError(
                "`backbone` must be a keras.layers.Layer or a keras.Model. "
                f"Received: backbone={backbone!r} of type "
                f"{type(backbone).__name__}."
            )
        if endpoint is not None and not isinstance(endpoint, str):
            raise TypeError(
                "`endpoint` must be the name of a layer, a key of the "
                f"backbone's outputs, or None. Received: endpoint={endpoint!r}."
            )
        if not isinstance(pooling, str) or pooling not in _POOLINGS:
            raise ValueError(
                f"`pooling` must be one of {_POOLINGS}. Received: "
                f"pooling={pooling!r}."
            )
        self.endpoint = endpoint
        self.pooling = pooling
        self.input_scaling = input_scaling
        self._scaling = Scaling.of(input_scaling)
        # Hidden from Keras, so that only the part up to the endpoint is
        # trained and no weight is counted twice.
        self._box = _Box(backbone)
        self._features = _up_to(backbone, endpoint)
        self._built_on = None
        self.feature_dim = None
        if _is_functional(self._features):
            self.build(self._features.inputs[0].shape)

    @property
    def backbone(self):
        """The whole backbone, as passed to the constructor."""
        return self._box.content

    @property
    def input_shape(self):
        """The shape that the encoder was built on, with the batch axis."""
        return self._built_on

    @property
    def output_shape(self):
        """(None, F), or None before the encoder is built."""
        return (None, self.feature_dim) if self.feature_dim else None

    def build(self, input_shape):
        if self.feature_dim is not None:
            return
        images = keras.Input(batch_shape=tuple(input_shape))
        # Builds a subclassed backbone too, layer by layer.
        h = self.call(images)
        if h.shape[-1] is None:
            raise ValueError(
                f"The backbone {self.backbone.name!r} must return features of "
                f"a known size F. Received: features that pool to {h.shape}."
            )
        self._built_on = tuple(input_shape)
        self.feature_dim = h.shape[-1]

    def call(self, images, training=None):
        images = to_unit_range(images, self.compute_dtype)
        images = self._scaling(ops.cast(images, self.compute_dtype))
        if isinstance(getattr(self._features, "input", None), dict):
            images = dict.fromkeys(self._features.input, images)
        features = self._features(images, training=training)
        features = self._choose(features)
        # In float32, even if the backbone computes in half precision.
        return self._pool(ops.cast(features, self.compute_dtype))

    def _choose(self, features):
        """The one tensor to use of what the backbone returns."""
        if isinstance(features, dict):
            if self.endpoint not in features:
                raise _no_endpoint(self.backbone, self.endpoint, features)
            return features[self.endpoint]
        if not hasattr(features, "shape"):
            raise ValueError(
                "The backbone must return one tensor, or a dictionary to "
                f"choose an `endpoint` from. Received: {len(features)} tensors "
                f"from {self.backbone.name!r}."
            )
        if self.endpoint is not None and self._features is self.backbone:
            raise ValueError(
                "`endpoint` needs a functional model, or a backbone that "
                f"returns a dictionary. Received: endpoint={self.endpoint!r}, "
                f"while {self.backbone.name!r} is neither."
            )
        return features

    def _pool(self, features):
        """(B, H, W, F) or (B, T, F) to (B, F)."""
        rank = len(features.shape)
        if rank == 2:
            return features
        if rank not in ((3,) if self.pooling == "token" else (3, 4)):
            raise ValueError(
                f"pooling={self.pooling!r} needs features (B, T, F)"
                f"{'' if self.pooling == 'token' else ' or (B, H, W, F)'}. "
                f"Received: features of shape {tuple(features.shape)} from "
                f"{self.backbone.name!r}, endpoint={self.endpoint!r}."
            )
        if self.pooling == "token":
            return features[:, 0]
        pool = ops.mean if self.pooling == "avg" else ops.max
        return pool(features, axis=tuple(range(1, rank - 1)))

    def compute_output_spec(self, images, training=None):
        check_image_dtype(images)
        return super().compute_output_spec(images, training=training)

    def compute_output_shape(self, input_shape):
        if not self.built:
            self.build(input_shape)
        return (input_shape[0], self.feature_dim)

    def get_config(self):
        config = super().get_config()
        config["backbone"] = keras.saving.serialize_keras_object(self.backbone)
        return {
            **config,
            "endpoint": self.endpoint,
            "pooling": self.pooling,
            "input_scaling": self.input_scaling,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects=custom_objects
        )
        return cls(**config)


class _Box:
    """Holds a layer without Keras tracking it."""

    def __init__(self, content):
        self.content = content


def _is_functional(layer):
    return isinstance(layer, keras.Model) and bool(
        getattr(layer, "inputs", None)
    )


def _up_to(backbone, endpoint):
    """The part of a functional backbone up to the endpoint."""
    if not _is_functional(backbone):
        return backbone  # The endpoint is checked in `build`.
    if len(backbone.inputs) != 1:
        raise ValueError(
            "A backbone must take one input, the images. Received: "
            f"{backbone.name!r} with the inputs "
            f"{[x.name for x in backbone.inputs]}."
        )
    inputs, outputs = backbone.inputs[0], backbone.outputs[0]
    if not isinstance(backbone, keras.Sequential):
        # With their names, if they have any.
        inputs, outputs = backbone.input, backbone.output
    # KerasHub has the tensor of each level, KerasCV the name of its layer.
    tensors = dict(getattr(backbone, "pyramid_outputs", {}))
    if isinstance(outputs, dict):
        tensors.update(outputs)
    elif endpoint is None:
        return backbone
    levels = dict(getattr(backbone, "pyramid_level_inputs", {}))
    layers = [layer.name for layer in backbone.layers]
    if endpoint in tensors:
        tensor = tensors[endpoint]
    elif levels.get(endpoint, endpoint) in layers:
        tensor = backbone.get_layer(levels.get(endpoint, endpoint)).output
    else:
        raise _no_endpoint(backbone, endpoint, [*tensors, *levels, *layers])
    return keras.Model(inputs, tensor)


def _no_endpoint(backbone, endpoint, choices):
    return ValueError(
        f"`endpoint` must be one of those of {backbone.name!r}: "
        f"{', '.join(choices)}. Received: endpoint={endpoint!r}."
    )
