"""An encoder with a linear classifier, from images to classes."""

import keras
import numpy as np
from keras import ops

from simclr_keras.augmentation import as_augmentation
from simclr_keras.value_range import standardize_value_range


@keras.saving.register_keras_serializable(package="simclr_keras")
class ImageClassifier(keras.Model):
    """Classifies images by an encoder and a dense layer on top of it.

    It takes images in its `value_range` and gives logits, so that what is
    saved takes what cameras and files give. It is an ordinary Keras model, for
    `compile` and `fit` with a loss that takes logits and integer labels.

    Args:
        encoder: Layer or model from images in [0, 1] to representations (B, F).
            A frozen one, with `trainable = False`, stays in inference mode.
        class_names: Sequence of strings (C,), or integer C, for names "0" to
            "C - 1".
        head: Layer or model from representations to features (B, D), between
            the encoder and the classifier. Defaults to None.
        augmentation: Layer that is applied to images in training, in
            `value_range`. Where the images of an evaluation have another size
            than it gives, a central crop is resized to it. Defaults to None.
        value_range: Pair of numbers (low, high): the range of the images.
            Defaults to (0, 255).
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
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(class_names, (int, np.integer)):
            class_names = range(class_names)
        self.class_names = [str(name) for name in class_names]
        if len(self.class_names) < 2:
            raise ValueError(
                "A classifier needs at least two classes. Received: "
                f"class_names={self.class_names}."
            )
        self.encoder = encoder
        self.head = head
        self.augmentation = augmentation
        self.value_range = standardize_value_range(value_range)
        self.seed = seed
        self.evaluation_preprocessing = None
        if augmentation is not None:
            preprocessing = as_augmentation(augmentation).evaluation()
            self.evaluation_preprocessing = preprocessing
        self.classifier = keras.layers.Dense(
            len(self.class_names),
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=0.01, seed=seed
            ),
            dtype="float32",
            name="classifier",
        )

    def call(self, images, training=None):
        if training and self.augmentation is not None:
            images = self.augmentation(images, training=True)
        elif self.evaluation_preprocessing is not None:
            images = self.evaluation_preprocessing(images)
        return self.classify_views(images, training)

    def classify_views(self, views, training=None):
        """Logits (B, C) of images that are augmented and resized already."""
        low, high = self.value_range
        x = (ops.cast(views, "float32") - low) / (high - low)
        x = self.encoder(x, training=training and self.encoder.trainable)
        if self.head is not None:
            x = self.head(x, training=training)
        return self.classifier(x)

    def name_classes(self, images, batch_size=256):
        """The name of the most likely class of each image.

        Args:
            images: Array (N, H, W, C), or a dataset of batches of images.
            batch_size: Positive integer, images at a time; not for datasets.
                Defaults to 256.

        Returns:
            NumPy array (N,) of strings.
        """
        batch_size = batch_size if hasattr(images, "shape") else None
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
