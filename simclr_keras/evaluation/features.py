"""Representations of a whole set of images, as one NumPy array."""

import keras
import numpy as np
from keras import ops

from simclr_keras.evaluation.image_classifier import ImageClassifier
from simclr_keras.model import SimCLRModel
from simclr_keras.projection_head import ProjectionHead


class NotFiniteError(ValueError):
    """Representations are NaN or infinite."""


def extract_features(
    model,
    images,
    batch_size=256,
    output="representation",
    dtype="float32",
    verbose=0,
):
    """Representations of all `images`, in their order.

    The model runs in inference mode: no augmentation, batch normalisation by
    its moving statistics.

    Args:
        model: A `SimCLRModel`, which takes images in its `value_range`, or
            an encoder, which takes floats in [0, 1]; any Keras model that
            ends in representations (B, F). Of an `ImageClassifier` the
            encoder, with images in the classifier's `value_range`.
        images: Array (N, H, W, C); a set of `simclr_keras.data`, such as
            `data.test`, whose `labels` and, from folders, `paths` are those of
            the rows; or a `tf.data.Dataset` or `PyDataset` of batches of images
            or of `(images, labels)`. A dataset must not shuffle, or the rows
            come in an unspecified order.
        batch_size: Positive integer, images at a time; not for datasets, which
            have their own. Defaults to 256.
        output: String: `"representation"`, h; `"projection"`, z; the name of a
            layer of the projection head, such as `"dense_1"`; or that of a
            layer of a functional encoder, whose feature maps are averaged over
            space. All but the first need a `SimCLRModel`. Defaults to
            `"representation"`.
        dtype: `"float32"`, also under another precision policy, or
            `"float16"`, in half the memory. Defaults to `"float32"`.
        verbose: As in `keras.Model.predict`: 1 shows a progress bar. Defaults
            to 0.

    Returns:
        NumPy array (N, F) of `dtype`.

    Raises:
        ValueError: If the model does not give (B, F), or gives values that
            are not finite; if it has no such output; or if the images are not
            in the range that a `SimCLRModel`, or an encoder of this library,
            takes.

    Example:
        features = simclr_keras.evaluation.extract_features(model, images)
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(
            '`dtype` must be "float32" or "float16". Received: '
            f"dtype={dtype!r}."
        )
    is_set = hasattr(images, "batches") and hasattr(images, "image_shape")
    model = _watched(model, is_set and images.dtype == "uint8")
    if output != "representation":
        model = OtherOutput(model, _reader(model, output))
    if is_set:
        images = images.batches(batch_size)
    # Keras refuses a batch size beside a data set, which has its own.
    batch_size = batch_size if hasattr(images, "shape") else None
    features = model.predict(images, batch_size=batch_size, verbose=verbose)
    if not hasattr(features, "shape") or len(features.shape) != 2:
        shape = getattr(features, "shape", type(features).__name__)
        raise ValueError(
            "`model` must give representations of the shape (B, F). "
            f"Received: {shape} from {model.name!r}. The encoder must end in "
            "a pooling layer; add keras.layers.GlobalAveragePooling2D()."
        )
    features = np.asarray(features, dtype="float32")
    if not np.isfinite(features).all():
        raise NotFiniteError(
            "`model` must give finite representations. Received: NaN or "
            f"infinite values from {model.name!r}. Its weights have diverged, "
            "or the images hold values that are not finite."
        )
    if dtype == "float16" and np.abs(features).max(initial=0) > 65504:
        raise ValueError(
            '`dtype="float16"` holds numbers up to 65504. Received: '
            f'features up to {np.abs(features).max():.3g}; use "float32".'
        )
    return features.astype(dtype, copy=False)


def _watched(model, are_bytes):
    """A model of images that are looked at, whatever they come in."""
    if isinstance(model, ImageClassifier):
        watched = SimCLRModel(
            model.encoder,
            ProjectionHead(kind="none"),
            value_range=model.value_range,
        )
        watched.evaluation_preprocessing = model.evaluation_preprocessing
        return watched
    if isinstance(model, SimCLRModel) or not hasattr(model, "value_range"):
        return model
    # An encoder that says what it takes. Sets say what they hold.
    takes_bytes = are_bytes and tuple(model.value_range) == (0, 1)
    return SimCLRModel(
        model,
        ProjectionHead(kind="none"),
        value_range=(0, 255) if takes_bytes else model.value_range,
    )


def _reader(model, output):
    """A function of images in [0, 1] to an output of a model."""
    head_layers = {}
    encoder = getattr(model, "encoder", None)
    if isinstance(model, SimCLRModel):
        if output == "projection":
            return lambda images: model.project(
                model.encode(images, training=False), training=False
            )
        head = model.projection_head
        if isinstance(head, ProjectionHead):
            head_layers = {layer.name: k for k, layer in enumerate(head.layers)}
    if output in head_layers:
        layers = head.layers[: head_layers[output] + 1]

        def read(images):
            x = model.encode(images, training=False)
            for layer in layers:
                x = layer(x)
            return x

        return read
    names = [layer.name for layer in getattr(encoder, "layers", [])]
    is_functional = bool(getattr(encoder, "inputs", None))
    if output in names and is_functional:
        inner = keras.Model(encoder.inputs, encoder.get_layer(output).output)
        return lambda images: _pooled(inner(images, training=False))
    known = ["representation", "projection", *head_layers]
    if is_functional:
        known += names
    raise ValueError(
        '`output` must be "representation", or an output of a SimCLRModel: '
        f"{known}. Received: output={output!r} of {model.name!r}, a "
        f"{type(model).__name__}."
    )


def _pooled(maps):
    """Means over space of feature maps (B, H, W, C)."""
    if len(maps.shape) != 4:
        return maps
    is_last = keras.config.image_data_format() == "channels_last"
    return ops.mean(maps, axis=(1, 2) if is_last else (2, 3))


class OtherOutput(SimCLRModel):
    """A model that gives something else, in place of representations."""

    def __init__(self, model, read):
        super().__init__(
            model.encoder,
            ProjectionHead(kind="none"),
            value_range=model.value_range,
        )
        self.evaluation_preprocessing = model.evaluation_preprocessing
        self.source, self.read = model, read

    def scale(self, images):
        return self.source.scale(images)

    def encode(self, images, training=None):
        return self.read(images)
