"""Linear evaluation by SGD on augmented images, as the paper has it."""

import typing

import keras
import numpy as np
from keras import ops

from simclr_keras.evaluation.checks import check_count
from simclr_keras.evaluation.image_classifier import ImageClassifier
from simclr_keras.evaluation.labelled_images import (
    CROP_AND_FLIP,
    LabelledImages,
    check_converged,
    copy_encoder,
    train_classifier,
    training_augmentation,
)
from simclr_keras.evaluation.subsets import validation_split


class LinearOnImages(typing.NamedTuple):
    """What `linear_evaluation_on_images` returns.

    Attributes:
        model: `ImageClassifier`, from images to classes.
        accuracy: Float in [0, 1], of the test images; None without.
        learning_rate: Float, for 256 images, of that classifier.
        validation_accuracy: Dictionary from each learning rate to its accuracy
            in [0, 1] on the validation split; empty where there is one.
    """

    model: ImageClassifier
    accuracy: float | None
    learning_rate: float
    validation_accuracy: dict

    def __repr__(self):
        return (
            f"LinearOnImages(accuracy={self.accuracy}, "
            f"learning_rate={self.learning_rate}, "
            f"validation_accuracy={self.validation_accuracy})"
        )


def linear_evaluation_on_images(
    model,
    train,
    test=None,
    *,
    epochs=90,
    batch_size=256,
    learning_rates=(0.1,),
    validation_fraction=0.1,
    augmentation=CROP_AND_FLIP,
    class_names=None,
    value_range=None,
    seed=0,
    verbose=0,
):
    """Trains a linear classifier on a frozen encoder's views of images.

    The paper's protocol: the encoder in inference mode, its batch norm's
    statistics included, crop and flip, Nesterov momentum of 0.9, the learning
    rate 0.1 x batch size / 256 decayed by a half cosine, no weight decay.
    `linear_evaluation` is quicker, as it passes images through the encoder
    once, without augmentation.

    Several learning rates are tried in one pass over the images: a classifier
    each, of which the best on a part of `train` is kept. It is not trained
    again on that part.

    Args:
        model: `SimCLRModel`, or an encoder from images in [0, 1] to
            representations (B, F). It stays as it is: a copy is used, which
            needs a `get_config` of layers of your own.
        train: Pair of images (N, H, W, C) and integer labels (N,).
        test: As `train`, to measure the accuracy. Defaults to None.
        epochs: Positive integer. Defaults to 90, the paper's for ImageNet; it
            has 100 for CIFAR-10.
        batch_size: Positive integer; all images, if there are fewer. Defaults
            to 256.
        learning_rates: Sequence of floats > 0, or one, for 256 images.
            Defaults to the paper's 0.1 alone.
        validation_fraction: Float in (0, 1), the part of each class that
            chooses among several learning rates. Defaults to 0.1.
        augmentation: As in `fine_tune`.
        class_names: As in `fine_tune`.
        value_range: As in `fine_tune`.
        seed: Integer, draws the validation split, the order of images and the
            augmentation. Defaults to 0.
        verbose: As in `keras.Model.fit`. Defaults to 0.

    Returns:
        `LinearOnImages`: the classifier, its accuracy and learning rate, and
        what all of them had on the validation split.

    Raises:
        TypeError: As `fine_tune`.
        ValueError: As `fine_tune`, and for learning rates that are not
            positive.

    Example:
        result = simclr_keras.evaluation.linear_evaluation_on_images(
            model,
            (images, labels),
            (test_images, test_labels),
            learning_rates=(0.03, 0.1, 0.3, 1.0),
        )
        print(f"{result.accuracy:.1%} at {result.learning_rate}")

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 2.2
          and Appendix B.6.
    """
    check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    rates = np.atleast_1d(learning_rates).astype("float64").tolist()
    if not rates or not all(0 < rate < np.inf for rate in rates):
        raise ValueError(
            "`learning_rates` must hold at least one number, all positive. "
            f"Received: learning_rates={learning_rates!r}."
        )
    if not 0 < validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` must lie between 0 and 1, both excluded. "
            f"Received: validation_fraction={validation_fraction!r}."
        )
    data = LabelledImages(train, test, class_names)
    value_range = data.value_range(model, value_range)
    is_held_out = np.zeros(len(data.images), bool)
    if len(rates) > 1:
        is_held_out = validation_split(data.labels, validation_fraction, seed)
        if not is_held_out.any():
            raise ValueError(
                "Several learning rates need images to choose by. Received: "
                f"validation_fraction={validation_fraction} of "
                f"{len(data.images)} images, which is none; raise it, or give "
                "one learning rate."
            )
    images, labels = data.images[~is_held_out], data.labels[~is_held_out]
    classifiers = _Classifiers(
        copy_encoder(model, images.shape),
        len(data.class_names),
        rates,
        training_augmentation(
            augmentation, model, images.shape, value_range, seed
        ),
        value_range,
    )
    train_classifier(
        classifiers,
        images,
        labels,
        epochs=epochs,
        batch_size=batch_size,
        # Times those of the classifiers, for 256 images as well.
        learning_rate=1.0,
        seed=seed,
        verbose=verbose,
    )
    found, best = {}, 0
    if len(rates) > 1:
        logits = classifiers.predict(data.images[is_held_out], verbose=0)
        check_converged(logits)
        is_right = logits.argmax(-1) == data.labels[is_held_out, np.newaxis]
        accuracies = is_right.mean(axis=0).tolist()
        found = dict(zip(rates, accuracies))
        best = int(np.argmax(accuracies))
    classifier = classifiers.one(best, data.class_names, images[:1])
    return LinearOnImages(
        classifier, data.accuracy(classifier), rates[best], found
    )


class _Classifiers(ImageClassifier):
    """Linear classifiers side by side, each with a learning rate of its own.

    Momentum passes on a gradient in proportion, so a classifier whose loss is
    multiplied by a rate learns at that rate where the optimizer has 1.
    """

    def __init__(self, encoder, num_classes, rates, augmentation, value_range):
        super().__init__(
            encoder,
            num_classes * len(rates),
            augmentation=augmentation,
            value_range=value_range,
            train_encoder=False,
            name="linear_classifiers",
        )
        self.num_classes, self.rates = num_classes, rates
        # All begin alike; a convex problem does not mind where.
        self.classifier.kernel_initializer = keras.initializers.Zeros()

    def call(self, images, training=None):
        """Logits (B, K, C) of K classifiers."""
        logits = super().call(images, training=training)
        return ops.reshape(logits, (-1, len(self.rates), self.num_classes))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        target = ops.one_hot(ops.cast(y, "int32"), self.num_classes)
        target = ops.broadcast_to(target[:, None], ops.shape(y_pred))
        losses = ops.categorical_crossentropy(target, y_pred, from_logits=True)
        rates = ops.convert_to_tensor(self.rates, "float32")
        return ops.mean(ops.matmul(losses, rates[:, None]))

    def one(self, number, class_names, images):
        """One of them, as a model of its own, built for such images."""
        columns = slice(
            number * self.num_classes, (number + 1) * self.num_classes
        )
        kernel, bias = self.classifier.get_weights()
        model = ImageClassifier(
            self.encoder,
            class_names,
            augmentation=self.augmentation,
            value_range=self.value_range,
            train_encoder=False,
        )
        model(images)
        model.classifier.set_weights([kernel[:, columns], bias[columns]])
        return model
