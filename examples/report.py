"""How good a representation is, beside raw pixels and an untrained encoder."""

import keras
import numpy as np
import tensorflow as tf

import simclr_keras

COLUMNS = ("1", "2", "10", "all", "knn")
HEADINGS = ("1 label", "2 labels", "10 labels", "all labels", "kNN")
NO_ACCURACY = (
    "No accuracies: they take labelled images to train a classifier with, and "
    "held-out labelled images to test it on."
)
# Pixels of large images are shrunk, or a linear classifier on them would
# have more weights than the encoder.
MAX_PIXEL_SIDE = 32


class EvaluationImages:
    """Images of one set, in an order that stays the same.

    Args:
        images: `simclr_keras.data.ImageSet`.
        limit: Integer, how many images to draw from it; None takes all.
        batch_size: Positive integer.
    """

    def __init__(self, images, limit=None, batch_size=256):
        self.images = images
        self.batch_size = batch_size
        is_limited = limit is not None and limit < images.num_images
        self.limit = limit if is_limited else None
        self.num_images = self.limit or images.num_images

    def batches(self, with_labels=False):
        """A `tf.data.Dataset` of batches of images, or (images, labels)."""
        if self.limit is None:
            return self.images.batches(self.batch_size, with_labels)
        seed = tf.zeros((2,), tf.int64)
        records = self.images.records(seed).take(self.limit)
        return self.images.load_records(
            records, self.batch_size, with_labels=with_labels
        )

    def labels(self):
        """Integer array (N,)."""
        if self.limit is None:
            return self.images.labels
        batches = self.batches(with_labels=True)
        return np.concatenate([labels.numpy() for _, labels in batches])

    def features(self, model):
        """Representations (N, F) by `model`, a NumPy array."""
        return simclr_keras.evaluation.extract_features(model, self.batches())


def pixel_model(image_shape, value_range):
    """A model whose representation is the pixels, scaled to [0, 1]."""
    height, width, channels = image_shape
    low, high = value_range
    layers = [keras.Input((height, width, channels))]
    if max(height, width) > MAX_PIXEL_SIDE:
        layers.append(
            simclr_keras.augmentation.CenterCropAndResize(
                MAX_PIXEL_SIDE,
                MAX_PIXEL_SIDE,
                crop_proportion=1.0,
                value_range=value_range,
            )
        )
    layers += [
        keras.layers.Rescaling(
            1 / (high - low), -low / (high - low), dtype="float32"
        ),
        keras.layers.Flatten(dtype="float32"),
    ]
    return keras.Sequential(layers, name="pixels")


def format_table(accuracy, num_test):
    """The accuracies as a table to print.

    Args:
        accuracy: Dictionary from a representation's name to what
            `simclr_keras.evaluation.label_efficiency` returned for it; empty
            where there are no labels.
        num_test: Integer, how many held-out images there are.
    """
    if not accuracy:
        return NO_ACCURACY
    lines = [
        f"Accuracy in % on {num_test:,} held-out images: a linear classifier "
        "with so many",
        "labels per class (mean and deviation over the draws), and k nearest "
        "neighbours.",
        " " * 18 + "".join(f"{heading:>13}" for heading in HEADINGS),
    ]
    for name, result in accuracy.items():
        cells = (_cell(result[column]) for column in COLUMNS)
        lines.append(f"{name:18}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def _cell(summary):
    if summary is None:  # some class has fewer images
        return "-"
    text = f"{100 * summary['mean']:.1f}"
    if summary["draws"] > 1:
        text += f" ±{100 * summary['std']:4.1f}"
    return text
