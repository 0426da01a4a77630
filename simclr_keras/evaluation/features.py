"""Representations of a whole set of images, as one NumPy array."""

import keras
import numpy as np
from keras import ops

from simclr_keras.argument_checks import to_numbers
from simclr_keras.evaluation.cached_features import (
    cached_features,
    images_key,
    model_key,
)
from simclr_keras.evaluation.checks import NotFiniteError, check_count
from simclr_keras.evaluation.image_classifier import ImageClassifier
from simclr_keras.model import SimCLRModel
from simclr_keras.model import batch as batches
from simclr_keras.projection_head import ProjectionHead


def extract_features(
    model,
    images,
    batch_size=256,
    output="representation",
    dtype="float32",
    verbose=0,
    cache_dir=None,
):
    """Representations of all `images`, in their order.

    The model runs in inference mode: no augmentation, batch normalisation by
    its moving statistics.

    Args:
        model: A `SimCLRModel`, which takes images in its `value_range`, or
            an encoder: any Keras model that ends in representations (B, F), or
            a layer such as `export.SavedModelEncoder`. An encoder takes floats
            in [0, 1], and uint8 images divided by 255, whoever made it, unless
            it begins by scaling from a wider range, as models of
            `keras.applications` do; for wider integers put a `SimCLRModel`
            around it, which has a `value_range`. Of an `ImageClassifier` the
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
        cache_dir: Path of a folder in which the features are kept, for arrays
            and sets of `simclr_keras.data`. A later call with the same images,
            weights, configuration, output and dtype finds them there. Of images
            in files, names, sizes and times stand for the contents. Of the code
            of your own layers nothing is noted: the first 16 images pass
            through the model again, and all are computed anew where these come
            out otherwise. So they are, with a warning, where the file does not
            agree with the checksum in it. Defaults to None, which keeps
            nothing.

    Returns:
        NumPy array (N, F) of `dtype`.

    Raises:
        TypeError: If `model` is neither a model nor a layer, or if an encoder
            is given integers other than uint8.
        ValueError: If the model does not give (B, F), or gives values that
            are not finite; if it has no such output; if the images are not in
            the range that a `SimCLRModel`, a layer, or an encoder of this
            library takes; or if `cache_dir` is given for a dataset, or for a
            model without a configuration.
        NotADirectoryError: If `cache_dir` is a file.

    Example:
        features = simclr_keras.evaluation.extract_features(model, images)
    """
    if not isinstance(dtype, str) or dtype not in ("float32", "float16"):
        raise ValueError(
            '`dtype` must be "float32" or "float16". Received: '
            f"dtype={dtype!r}."
        )
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a keras.Model, a SimCLRModel, an ImageClassifier "
            "or an encoder, or a layer that is an encoder. Received: "
            f"model={model!r} of type {type(model).__name__}."
        )
    if not isinstance(output, str):
        raise TypeError(
            f"`output` must be a string. Received: output={output!r} of type "
            f"{type(output).__name__}."
        )
    batch_size = check_count(batch_size, "batch_size")
    is_set = _is_set(images)
    if hasattr(images, "shape"):
        images = to_numbers("images", images)
        if not len(images.shape):
            raise ValueError(
                "`images` must have the shape (N, H, W, C). Received: "
                "images.shape=()."
            )
    if cache_dir is None:
        return _compute(model, images, batch_size, output, dtype, verbose)
    key = [images_key(images), model_key(model), output, dtype]

    def compute(count):
        shown = verbose if count is None else 0
        return _compute(model, images, batch_size, output, dtype, shown, count)

    num_images = images.num_images if is_set else len(images)
    return cached_features(cache_dir, key, num_images, compute)


def _compute(model, images, batch_size, output, dtype, verbose, count=None):
    """As `extract_features`, checked; of `count` images at the beginning."""
    watched = _watched(model, images)
    if output != "representation":
        # An encoder of the user's has no other, in whatever it is wrapped.
        source = watched if hasattr(model, "value_range") else model
        watched = OtherOutput(watched, _reader(source, output))
    if _is_set(images):
        images = images.batches(count or batch_size).take(1 if count else -1)
    elif count:
        images = images[:count]
    # Keras refuses a batch size beside a data set, which has its own.
    batch_size = batch_size if hasattr(images, "shape") else None
    features = watched.predict(images, batch_size=batch_size, verbose=verbose)
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


def _is_set(images):
    """Whether it is a set of `simclr_keras.data`."""
    return hasattr(images, "batches") and hasattr(images, "image_shape")


def _watched(model, images):
    """A model that scales images, and looks at them, as `model` needs it."""
    if isinstance(model, SimCLRModel):
        return model
    if isinstance(model, ImageClassifier):
        watched = _around(model.encoder, model.value_range)
        watched.evaluation_preprocessing = model.evaluation_preprocessing
        return watched
    value_range = tuple(getattr(model, "value_range", (0, 1)))
    dtype = _dtype_of(images)
    is_uint8 = dtype == "uint8" and value_range == (0, 1)
    if value_range == (0, 1) and dtype not in ("uint8", None):
        _check_floats(dtype)
    is_own = isinstance(model, keras.Model) and not hasattr(
        model, "value_range"
    )
    # A model of the user's own gets floats of every range.
    if is_own and (not is_uint8 or _scales_by_itself(model)):
        return model
    return _around(model, (0, 255) if is_uint8 else value_range)


def _around(encoder, value_range):
    """A `SimCLRModel` that gives an encoder images from a range."""
    return SimCLRModel(
        encoder, ProjectionHead(kind="none"), value_range=value_range
    )


def _dtype_of(images):
    """The dtype of images as a string, None if only a batch would tell."""
    if _is_set(images):
        return images.dtype
    if isinstance(images, keras.utils.PyDataset) and images.num_batches != 0:
        images = keras.utils.unpack_x_y_sample_weight(images[0])[0]
    images, _ = batches.describe(images) or (None, None)
    if isinstance(images, dict):
        images = images.get(batches.IMAGE)
    return getattr(images, "dtype", None)


def _check_floats(dtype):
    """Raises unless images that are not uint8 are floats."""
    if not keras.backend.is_float_dtype(dtype):
        raise TypeError(
            "An encoder takes images of a float dtype, with values in [0, 1], "
            "or uint8 ones, which are divided by 255. Received: images of "
            f"dtype {dtype}, which does not tell their range. State it by a "
            "model around the encoder, SimCLRModel(encoder, value_range=(0, "
            f"{65535 if dtype == 'uint16' else 255})), or convert the images."
        )


def _scales_by_itself(model):
    """Whether a model begins by scaling images from [0, 255], or the like.

    Those of `keras.applications` with `include_preprocessing` do. From [0, 1]
    they would make images that are all but black.
    """
    layer = _first_operation(model)
    if isinstance(layer, keras.layers.Rescaling):
        return np.max(np.abs(layer.scale)) < 0.1
    if isinstance(layer, keras.layers.Normalization):
        mean = 0 if layer.mean is None else ops.convert_to_numpy(layer.mean)
        return np.max(mean) > 1
    return False


def _first_operation(model):
    """What a model does first, as far as it says so.

    A subclass may do anything before its first layer. What has a `value_range`
    says what it takes.
    """
    while isinstance(model, keras.Model) and not hasattr(model, "value_range"):
        inner = []
        if isinstance(model, keras.Sequential):
            inner = model.layers
        elif getattr(model, "inputs", None):
            inner = model.operations  # Those too that are no layers.
        inner = [
            each
            for each in inner
            if not isinstance(each, keras.layers.InputLayer)
        ]
        if not inner:
            break
        model = inner[0]
    return model


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
