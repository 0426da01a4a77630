"""Distillation: a student learns a teacher's answers on unlabelled images."""

import keras
import numpy as np
from keras import ops

from simclr_keras.evaluation.checks import check_count, check_positive
from simclr_keras.evaluation.image_classifier import ImageClassifier
from simclr_keras.evaluation.labelled_images import (
    CROP_AND_FLIP,
    LabelledImages,
    TrainedClassifier,
    copy_encoder,
    copy_layer,
    train_classifier,
    training_augmentation,
)


def distill(
    teacher,
    student,
    images,
    test=None,
    *,
    temperature=1.0,
    labels=None,
    label_weight=0.0,
    epochs=60,
    batch_size=256,
    learning_rate=0.05,
    optimizer=None,
    augmentation=CROP_AND_FLIP,
    seed=0,
    verbose=0,
    callbacks=(),
):
    """Trains a copy of `student` to answer as `teacher` does.

    Minimises, over images without labels, each seen by both in the same view,

        (1 - a) cross_entropy(softmax(teacher / T), softmax(student / T))
        + a cross_entropy(label, softmax(student))

    with a = `label_weight`, 0 in SimCLRv2 where labels are few. The student may
    be smaller than the teacher, or of its kind (self-distillation). All of its
    weights are trained, in training mode; the teacher is in inference mode and
    stays as it is.

    Args:
        teacher: `ImageClassifier`, such as `fine_tune(...).model`.
        student: `SimCLRModel`, or an encoder from images in [0, 1] to
            representations (B, F), pretrained or not. It stays as it is: a copy
            is trained.
        images: Array (N, H, W, C), in the teacher's `value_range`.
        test: Pair of images and integer labels, the places of their classes in
            the teacher's `class_names`, to measure the accuracy. Defaults to
            None.
        temperature: Float > 0, T above: higher ones tell more of the classes
            that the teacher thinks less likely. Defaults to 1.
        labels: Integer array (N,), needed where `label_weight` is not 0;
            -1 for images without a label. Defaults to None.
        label_weight: Float in [0, 1]. Defaults to 0.
        epochs: Positive integer. Defaults to 60.
        batch_size: Positive integer; all images, if there are fewer. Defaults
            to 256.
        learning_rate: Float > 0, for 256 images. Defaults to 0.05.
        optimizer: As in `fine_tune`. SimCLRv2 has LARS, as in pretraining.
        augmentation: As in `fine_tune`.
        seed: As in `fine_tune`.
        verbose: As in `keras.Model.fit`. Defaults to 0.
        callbacks: As in `fine_tune`; what is trained is a model of both, of
            which a callback can save the weights alone.

    Returns:
        `TrainedClassifier`: the student, its accuracy, and the history.

    Raises:
        TypeError: If the teacher is not an `ImageClassifier`, or the student
            cannot be copied.
        ValueError: If images are out of range, `labels` do not fit, or a number
            is out of its range.

    Example:
        teacher = simclr_keras.evaluation.fine_tune(model, few_labelled).model
        small = simclr_keras.encoders.ResNet18(width_multiplier=0.5)
        small(images[:1] / 255)  # makes its weights
        result = simclr_keras.evaluation.distill(
            teacher, small, images, (test_images, test_labels)
        )

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2006.10029), Section 2.3,
          Equations 2 and 3.
    """
    if not isinstance(teacher, ImageClassifier):
        raise TypeError(
            "`teacher` must be an ImageClassifier, such as fine_tune(...)."
            f"model. Received: {type(teacher).__name__}."
        )
    check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    check_positive(learning_rate, "learning_rate")
    check_positive(temperature, "temperature")
    if not 0 <= label_weight <= 1 or (label_weight and labels is None):
        raise ValueError(
            "`label_weight` must lie in [0, 1], and needs `labels` unless it "
            f"is 0. Received: label_weight={label_weight!r}, "
            f"labels={'None' if labels is None else 'given'}."
        )
    num_classes = len(teacher.class_names)
    if labels is None:
        labels = np.full(np.shape(images)[:1], -1)
    data = _Images((images, labels), test, num_classes)
    low_high = data.value_range(teacher, teacher.value_range)
    # A copy, whose weights are not those of what is trained.
    frozen = copy_layer(teacher, (1, *data.images.shape[1:]))
    frozen.trainable = False
    model = _Student(
        frozen,
        copy_encoder(student, data.images.shape),
        training_augmentation(
            augmentation, student, data.images.shape, low_high, seed
        ),
        temperature,
        label_weight,
        seed,
    )
    history = train_classifier(
        model,
        data.images,
        data.labels,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        seed=seed,
        verbose=verbose,
        callbacks=callbacks,
    )
    student = model.student
    return TrainedClassifier(student, data.accuracy(student), history)


class _Images(LabelledImages):
    """Images whose labels are places of a teacher's classes, or -1."""

    def __init__(self, train, test, num_classes):
        self.images, self.labels = self.unpack(train, "train")
        self.test = None if test is None else self.unpack(test, "test")
        for name, labels, least in (
            ("labels", self.labels, -1),
            ("labels of `test`", [] if test is None else self.test[1], 0),
        ):
            if len(labels) and not (
                least <= min(labels) and max(labels) < num_classes
            ):
                raise ValueError(
                    f"{name} must lie from {least} to {num_classes - 1}, the "
                    "places of the teacher's classes. Received: from "
                    f"{min(labels)} to {max(labels)}."
                )


class _Student(keras.Model):
    """A student and its teacher, for `fit`; saved is the student alone."""

    def __init__(
        self, teacher, encoder, augmentation, temperature, label_weight, seed
    ):
        super().__init__(name="distillation")
        self.student = ImageClassifier(
            encoder,
            teacher.class_names,
            augmentation=augmentation,
            value_range=teacher.value_range,
            seed=seed,
        )
        self.augmentation = augmentation
        self.temperature = temperature
        self.label_weight = label_weight
        self.teacher = teacher

    def build(self, input_shape):
        self.student.build(input_shape)
        self.built = True

    def call(self, images, training=None):
        """Logits (B, C) of the student and of the teacher."""
        views = images
        if training and self.augmentation is not None:
            views = self.augmentation(images, training=True)
        return {
            "student": self.student.classify_views(views, training=training),
            "teacher": ops.stop_gradient(self.teacher(views, training=False)),
        }

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        student, teacher = y_pred["student"], y_pred["teacher"]
        target = ops.softmax(teacher / self.temperature)
        loss = ops.categorical_crossentropy(
            target, student / self.temperature, from_logits=True
        )
        if self.label_weight:
            y = ops.cast(y, "int32")
            target = ops.one_hot(ops.maximum(y, 0), student.shape[-1])
            labelled = ops.categorical_crossentropy(
                target, student, from_logits=True
            )
            # A row of zeros as target would have a gradient on TensorFlow.
            labelled = ops.where(y < 0, 0.0, labelled)
            loss = (1 - self.label_weight) * loss + self.label_weight * labelled
        return ops.mean(loss) + sum(self.student.losses)
