"""An encoder with a linear classifier, from images to classes."""

import keras
import numpy as np
from keras import ops

from simclr_keras.augmentation import as_augmentation
from simclr_keras.model.building import build_layer
from simclr_keras.value_range import (
    check_dtype,
    looks_scaled,
    standardize_value_range,
    warn_of_scaled_images,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class ImageClassifier(keras.Model):
    """Classifies images by an encoder and a dense layer on top of it.

    It takes images in its `value_range` and gives logits, so that what is
    saved takes what cameras and files give. It is an ordinary Keras model, for
    `compile` and `fit` with a loss that takes logits and integer labels.

    Args:
        encoder: Layer or model from images in [0, 1] to representations (B, F).
        class_names: Sequence of strings (C,), or integer C, for names "0" to
            "C - 1".
        head: Layer or model from representations to features (B, D), between
            the encoder and the classifier. Defaults to None.
        augmentation: Layer that is applied to images in training, in
            `value_range`. Where the images of an evaluation have another size
            than it gives, a central crop is resized to it. Defaults to None.
        value_range: Pair of numbers (low, high): the range of the images.
            Defaults to (0, 255).
        train_encoder: Boolean. False freezes the encoder, which then stays in
            inference mode. Defaults to True.
        seed: Integer, of the classifier's first weights. Defaults to 0.
        **kwargs: Of `keras.Model`.

    Call arguments:
        images: Tensor (B, H, W, C), integer or float.
        training: Boolean, whether to augment, and to use and move the
            statistics of batch norm. Defaults to False outside of `fit`.

    Returns:
        Logits (B, C), float32.

    Raises:
        ValueError: If there are fewer than two classes.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> encoder = keras.Sequential(
        ...     [keras.Input((8, 8, 3)), keras.layers.Flatten()]
        ... )
        >>> classifier = simclr_keras.evaluation.ImageClassifier(
        ...     encoder, ["cat", "dog"]
        ... )
        >>> images = np.zeros((4, 8, 8, 3), "uint8")
        >>> classifier(images).shape
        TensorShape([4, 2])
        >>> classifier.name_classes(images).shape
        (4,)
    """

    def __init__(
        self,
        encoder,
        class_names,
        head=None,
        augmentation=None,
        value_range=(0, 255),
        train_encoder=True,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.class_names = standardize_class_names(class_names)
        self.encoder = encoder
        self.head = head
        self.augmentation = augmentation
        self.value_range = standardize_value_range(value_range)
        self.seed = seed
        self.evaluation_preprocessing = None
        if augmentation is not None:
            contract = as_augmentation(augmentation)
            self.evaluation_preprocessing = contract.evaluation()
            other = getattr(contract, "value_range", self.value_range)
            if tuple(other) != tuple(self.value_range):
                raise ValueError(
                    "`value_range` must be that of the augmentation. Received: "
                    f"value_range={self.value_range}, while the augmentation "
                    f"has {tuple(other)}."
                )
        self.train_encoder = bool(train_encoder)
        if not self.train_encoder:
            encoder.trainable = False
        self.classifier = keras.layers.Dense(
            len(self.class_names),
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=0.01, seed=seed
            ),
            dtype="float32",
            name="classifier",
        )

    def build(self, input_shape):
        shape = tuple(input_shape)
        if self.evaluation_preprocessing is not None:
            shape = as_augmentation(self.augmentation).compute_output_shape(
                shape
            )
        for layer in (self.encoder, self.head):
            if layer is not None:
                if not layer.built:
                    build_layer(layer, shape)
                # Asks `compute_output_shape`, where a class has one.
                x = keras.KerasTensor(shape, "float32")
                shape = layer.compute_output_spec(x).shape
        self.classifier.build(shape)
        self.built = True

    def call(self, images, training=None):
        if training and self.augmentation is not None:
            images = self.augmentation(images, training=True)
        elif self.evaluation_preprocessing is not None:
            images = self.evaluation_preprocessing(images)
        return self.classify_views(images, training)

    def classify_views(self, views, training=None):
        """Logits (B, C) of images that are augmented and resized already."""
        check_dtype(views.dtype, self.value_range)
        low, high = self.value_range
        x = (ops.cast(views, "float32") - low) / (high - low)
        x = self.encoder(x, training=training and self.train_encoder)
        if self.head is not None:
            x = self.head(x, training=training)
        return self.classifier(x)

    def name_classes(self, images, batch_size=256):
        """The name of the most likely class of each image.

        Args:
            images: Array (N, H, W, C) in `value_range`, or a dataset of batches
                of such images.
            batch_size: Positive integer, images at a time; not for datasets.
                Defaults to 256.

        Returns:
            NumPy array (N,) of strings.

        Raises:
            ValueError: If an array is not of images, or is out of range.
        """
        if hasattr(images, "shape"):
            check_images(images, self.value_range, "images")
        else:
            batch_size = None
        logits = self.predict(images, batch_size=batch_size, verbose=0)
        return np.array(self.class_names)[np.argmax(logits, axis=-1)]

    def get_config(self):
        parts = {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in ("encoder", "head", "augmentation")
        }
        return {
            **super().get_config(),
            **parts,
            "class_names": self.class_names,
            "value_range": self.value_range,
            "train_encoder": self.train_encoder,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("encoder", "head", "augmentation"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)


def standardize_class_names(class_names):
    """A list of different strings, of names or of a number of classes."""
    if isinstance(class_names, (int, np.integer)):
        class_names = range(class_names)
    if isinstance(class_names, (str, dict)) or not hasattr(
        class_names, "__len__"
    ):
        raise TypeError(
            "`class_names` must be a sequence of strings. Received: "
            f"class_names={class_names!r}."
        )
    names = [str(name) for name in class_names]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            "A classifier needs at least two classes, each with a name of its "
            f"own. Received: class_names={names[:20]}."
        )
    return names


def check_images(images, value_range, name):
    """Raises, or warns, if an array of images cannot be in a range.

    Args:
        images: Array.
        value_range: Pair (low, high).
        name: String, what the message calls them.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If the shape is not (N, H, W, C), N at least 1, or values
            are out of the range or not finite.
    """
    if len(images.shape) != 4 or not images.shape[0]:
        raise ValueError(
            f"`{name}` must have the shape (N, H, W, C), N at least 1. "
            f"Received: shape={tuple(images.shape)}."
        )
    check_dtype(images.dtype, value_range)
    low, high = value_range
    smallest, largest = np.min(images), np.max(images)
    if not (low <= smallest and largest <= high):  # NaN, too.
        raise ValueError(
            f"`{name}` must lie in value_range=({low}, {high}). Received: "
            f"values from {smallest} to {largest}; state their range by "
            "`value_range=`."
        )
    is_float = "float" in keras.backend.standardize_dtype(images.dtype)
    if is_float and looks_scaled((low, high)) and largest <= 1:
        warn_of_scaled_images((low, high))
