"""What classifiers of images share: data, copies, crop and flip, the steps."""

import os
import tempfile
import typing

import keras
import numpy as np
from keras import ops

from simclr_keras import keras_private
from simclr_keras.augmentation import (
    CenterCropAndResize,
    RandomHorizontalFlip,
    RandomResizedCrop,
)
from simclr_keras.evaluation.checks import (
    NotFiniteError,
    check_count,
    check_labels,
    check_positive,
)
from simclr_keras.evaluation.image_classifier import (
    ImageClassifier,
    check_images,
    standardize_class_names,
)
from simclr_keras.model import SimCLRModel
from simclr_keras.optimizers import WarmupCosineDecay, scaled_learning_rate
from simclr_keras.value_range import standardize_value_range

CROP_AND_FLIP = "crop and flip"


class LabelledImages:
    """Images and labels to train and to test a classifier on.

    Args:
        train: Pair of images (N, H, W, C) and integer labels (N,).
        test: As `train`, or None.
        class_names: Sequence of a string for each label, or None.

    Attributes:
        images, labels: Array (N, H, W, C), and (N,) of the places of their
            labels among the classes.
        test: The same of the test as a pair, or None.
        class_names: List of strings.

    Raises:
        TypeError: If `train` or `test` is not a pair, or labels are not
            integers.
        ValueError: If the shapes do not fit, there is one class only, or
            `test` has others than `train`.
    """

    def __init__(self, train, test=None, class_names=None):
        self.images, labels = self.unpack(train, "train")
        classes, self.labels = np.unique(labels, return_inverse=True)
        if class_names is None:
            class_names = classes
        elif len(standardize_class_names(class_names)) != len(classes):
            raise ValueError(
                "`class_names` must name each label that `train` has. "
                f"Received: {len(class_names)} names for {len(classes)} labels."
            )
        if len(classes) < 2:
            raise ValueError(
                "A classifier needs at least two classes. Received: labels of "
                f"`train` that are all {classes[0]}."
            )
        self.class_names = [str(name) for name in class_names]
        self.test = None
        if test is not None:
            images, labels = self.unpack(test, "test")
            unknown = np.setdiff1d(labels, classes)
            if len(unknown):
                raise ValueError(
                    "`test` must have no labels that `train` has not. "
                    f"Received: {unknown[:5].tolist()}, while `train` has "
                    f"{classes[:20].tolist()}."
                )
            self.test = images, np.searchsorted(classes, labels)

    @staticmethod
    def unpack(data, name):
        """Images and labels of a pair, checked."""
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                f"`{name}` must be a pair (images, labels). Received: "
                f"{type(data).__name__}; a set of simclr_keras.data has "
                "`set.arrays()`."
            )
        images = np.asarray(data[0])
        if images.ndim != 4 or len(images) < 1:
            raise ValueError(
                f"Images of `{name}` must have the shape (N, H, W, C), N at "
                f"least 1. Received: shape={images.shape}."
            )
        return images, check_labels(data[1], len(images), f"labels of {name}")

    def value_range(self, model, value_range=None):
        """The range that the images are in: as given, the model's, or guessed.

        Raises:
            ValueError: If there are values outside of it.
        """
        if value_range is None:
            are_floats = np.issubdtype(self.images.dtype, np.floating)
            value_range = (0, 1) if are_floats else (0, 255)
            if isinstance(model, SimCLRModel):
                value_range = model.value_range
        value_range = standardize_value_range(value_range)
        check_images(self.images, value_range, "images of `train`")
        if self.test is not None:
            check_images(self.test[0], value_range, "images of `test`")
        return value_range

    def accuracy(self, classifier):
        """Of a classifier on the test images, in [0, 1]; None without."""
        if self.test is None:
            return None
        images, labels = self.test
        logits = classifier.predict(images, verbose=0)
        check_converged(logits)
        return float(np.mean(logits.argmax(axis=-1) == labels))


class TrainedClassifier(typing.NamedTuple):
    """What `fine_tune` and `distill` return.

    Attributes:
        model: `ImageClassifier`, from images to classes.
        accuracy: Float in [0, 1], of the test images; None without.
        history: Dictionary from the names of losses and metrics to their
            values, one an epoch.
    """

    model: ImageClassifier
    accuracy: float | None
    history: dict

    def __repr__(self):
        return (
            f"TrainedClassifier(accuracy={self.accuracy}, "
            f"model={self.model.name!r})"
        )


def train_classifier(
    model,
    images,
    labels,
    *,
    epochs,
    batch_size,
    learning_rate,
    optimizer=None,
    seed=0,
    verbose=0,
    callbacks=(),
    **compile_arguments,
):
    """Compiles and fits by the paper's protocol for labelled images.

    Args:
        model: `keras.Model`.
        images: Array (N, H, W, C).
        labels: Integer array (N,).
        epochs, batch_size: Positive integers; a batch has N images at most.
        learning_rate: Float > 0, at the beginning, for 256 images.
        optimizer: In place of the paper's, or None.
        seed: Integer, draws the order of images in each epoch.
        verbose, callbacks: Of `fit`.
        **compile_arguments: Of `compile`.

    Returns:
        The history, a dictionary.
    """
    epochs = check_count(epochs, "epochs")
    batch_size = min(check_count(batch_size, "batch_size"), len(images))
    check_positive(learning_rate, "learning_rate")
    steps = -(-len(images) // batch_size)
    if optimizer is None:
        rate = scaled_learning_rate(learning_rate, batch_size)
        optimizer = keras.optimizers.SGD(
            WarmupCosineDecay(rate, epochs * steps),
            momentum=0.9,
            nesterov=True,
        )
    model.compile(optimizer, **compile_arguments)
    return model.fit(
        _batches(images, labels, batch_size, seed),
        steps_per_epoch=steps,
        epochs=epochs,
        shuffle=False,
        verbose=verbose,
        callbacks=callbacks,
    ).history


def _batches(images, labels, batch_size, seed):
    """Batches without end; all images once an epoch, in a seeded order."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(images))
        for start in range(0, len(images), batch_size):
            rows = order[start : start + batch_size]
            yield images[rows], labels[rows]


def training_augmentation(augmentation, model, image_shape, value_range, seed):
    """`augmentation`, or what `"crop and flip"` stands for.

    Crops have the size of the images that the encoder takes, or that a
    `SimCLRModel` evaluates; if that is not known, of the images. None is how
    a `SimCLRModel` brings images to that size, if it does.
    """
    resizing = None
    if isinstance(model, SimCLRModel):
        resizing = _resizing(model.evaluation_preprocessing)
    if augmentation is None and resizing is not None:
        config = {**resizing.get_config(), "value_range": value_range}
        return type(resizing).from_config(config)
    if not isinstance(augmentation, str):
        return augmentation
    if augmentation != CROP_AND_FLIP:
        raise ValueError(
            f'`augmentation` must be "{CROP_AND_FLIP}", a layer or None. '
            f"Received: augmentation={augmentation!r}."
        )
    size = image_shape[1:3]
    if resizing is not None:
        size = (resizing.height, resizing.width)
    if isinstance(model, SimCLRModel):
        model = model.encoder
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, tuple) and None not in expected[1:3]:
        size = expected[1:3]
    keywords = {"value_range": value_range, "seed": seed}
    return keras.Sequential(
        [RandomResizedCrop(*size, **keywords), RandomHorizontalFlip(**keywords)]
    )


def _resizing(preprocessing):
    """The `CenterCropAndResize` of an evaluation's preprocessing, or None."""
    found = [
        each
        for each in getattr(preprocessing, "functions", [preprocessing])
        if isinstance(each, CenterCropAndResize)
    ]
    return found[-1] if found else None


def copy_encoder(model, image_shape):
    """A copy of an encoder, or of that of a `SimCLRModel`, nothing frozen.

    Args:
        model: `SimCLRModel` or encoder.
        image_shape: Shape of images (N, H, W, C).

    Raises:
        TypeError: If it cannot be copied.
        ValueError: If it has no weights yet, or the model makes representations
            in a way of its own.
    """
    encoder = model
    if isinstance(model, SimCLRModel):
        encoder = model.encoder
        for name in ("encode", "scale", "call"):
            if getattr(type(model), name) is not getattr(SimCLRModel, name):
                raise ValueError(
                    "A copy of `model.encoder` is used, and "
                    f"{type(model).__name__} overrides `{name}`: its "
                    "representations are others. Pass an encoder that gives "
                    "them, or `model.encoder` if that is meant."
                )
    copy = copy_layer(encoder, (1, *image_shape[1:]))
    # A frozen `Sequential` would stay so, whatever its own flag says.
    for layer in keras_private.flatten_layers(copy):
        layer.trainable = True
    return copy


def copy_layer(layer, input_shape):
    """A layer of the same configuration and weights.

    Args:
        layer: `keras.layers.Layer`, built.
        input_shape: Tuple of integers, what it can be called with.
    """
    if not layer.built:
        raise ValueError(
            f"{layer.name!r}, a {type(layer).__name__}, must have weights. "
            "Received one that is not built: call it on images, train it or "
            "load it first."
        )
    copy = empty_copy(layer)
    if not copy.built or len(copy.weights) != len(layer.weights):
        copy(ops.zeros(input_shape))
    # As a file, since some layers do more than to take their weights:
    # `Normalization` makes its constants of them.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "copy.weights.h5")
        _AsModel(layer).save_weights(path)
        _AsModel(copy).load_weights(path)
    return copy


class _AsModel(keras.Model):
    """A layer with the methods of a model that write and read weights."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.built = True


def empty_copy(layer):
    """A layer of the same configuration."""
    classes = {
        type(each).__name__: type(each)
        for each in keras_private.flatten_layers(layer)
        if not type(each).__module__.startswith("keras.")
    }
    try:
        config = keras.saving.serialize_keras_object(layer)
        return keras.saving.deserialize_keras_object(
            config,
            classes,
            # It comes from this process, not from a file.
            safe_mode=False,
        )
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(
            f"A copy is trained, and {layer.name!r}, a {type(layer).__name__}, "
            "cannot be copied: give its class, or that of the layer in it that "
            "is not of Keras, a `get_config` that returns the arguments of its "
            f"constructor. Keras says: {error}"
        ) from error


def check_converged(logits):
    """Raises `NotFiniteError` if a classifier gives NaN or infinity."""
    if not np.isfinite(logits).all():
        raise NotFiniteError(
            "The classifier gives NaN or infinite logits: its training has "
            "diverged. Lower the learning rate."
        )
