"""What representations are worth, compared with pixels and no training."""

import os
import platform

import keras
import numpy as np
import tensorflow as tf

import simclr_keras

COLUMNS = ("1", "2", "10", "all", "knn")
HEADINGS = ("1 label", "2 labels", "10 labels", "all labels", "kNN")
NO_ACCURACY = (
    "No accuracies: they need labelled images to train a classifier on, and "
    "held-out labelled images to test it on."
)
# Larger images are shrunk, or a linear classifier of their pixels would have
# more weights than the encoder.
MAX_PIXEL_SIDE = 32


class EvaluationImages:
    """Images of one set, in the same order each time.

    Args:
        images: `simclr_keras.data.ImageSet`.
        limit: Integer, how many images to draw from it; None is all.
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
        """What `model` makes of the images: float array (N, F)."""
        return simclr_keras.evaluation.extract_features(model, self.batches())


def pixel_model(image_shape, value_range):
    """A model whose representation is the pixels, scaled to [0, 1]."""
    layers = [keras.Input(image_shape)]
    if max(image_shape[:2]) > MAX_PIXEL_SIDE:
        layers.append(
            simclr_keras.augmentation.CenterCropAndResize(
                MAX_PIXEL_SIDE,
                MAX_PIXEL_SIDE,
                crop_proportion=1.0,
                value_range=(0, 1),
            )
        )
    layers.append(keras.layers.Flatten(dtype="float32"))
    return simclr_keras.SimCLRModel(
        keras.Sequential(layers, name="pixels"),
        simclr_keras.ProjectionHead(kind="none"),
        value_range=value_range,
    )


def evaluate(features, labels, num_draws, k):
    """The accuracies of several representations.

    Args:
        features: Dictionary from a name to a pair of arrays (N, F), of the
            images to train on and of the held-out ones.
        labels: Pair of integer arrays (N,), or None.
        num_draws: Integer, the labelled subsets to average over.
        k: Integer, the neighbors that vote.

    Returns:
        Dictionary from the name to what
        `simclr_keras.evaluation.label_efficiency` returns; empty without
        labels.
    """
    accuracy = {}
    if labels is None:
        return accuracy
    for name, (train_features, test_features) in features.items():
        print(f"Evaluating {name} ...", flush=True)
        accuracy[name] = simclr_keras.evaluation.label_efficiency(
            train_features,
            labels[0],
            test_features,
            labels[1],
            num_draws=num_draws,
            k=k,
        )
    return accuracy


def describe_environment():
    """The machine and the versions, for the results."""
    devices = [device.name for device in tf.config.list_logical_devices()]
    return {
        "machine": {
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "devices": devices,
        },
        "versions": {
            "python": platform.python_version(),
            "simclr_keras": simclr_keras.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }


def format_table(accuracy, num_test):
    """The accuracies as a table to print.

    Args:
        accuracy: What `evaluate` returned.
        num_test: Integer, how many held-out images there are.
    """
    if not accuracy:
        return NO_ACCURACY
    lines = [
        f"Accuracy in % on {num_test:,} held-out images: linear classifiers by",
        "labels per class (mean and deviation over the draws), and nearest "
        "neighbors.",
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
