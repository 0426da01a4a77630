"""What representations are worth on labelled images, while they are learned."""

import math

import keras
import numpy as np

from simclr_keras import distribution
from simclr_keras.evaluation.checks import (
    NotFiniteError,
    check_count,
    check_labels,
    check_positive,
)
from simclr_keras.evaluation.features import extract_features
from simclr_keras.evaluation.knn import knn_accuracy
from simclr_keras.evaluation.label_efficiency import L2_VALUES
from simclr_keras.evaluation.linear import (
    check_linear_arguments,
    linear_evaluation,
)


class LabelledEvaluation(keras.callbacks.Callback):
    """Looks at representations of labelled images at the end of epochs.

    Subclasses bring `evaluate`.

    Args:
        train: Pair (images, labels) that evaluation learns from, or a set of
            `simclr_keras.data` that has labels.
        test: As `train`, what it is tested on.
        every: Positive integer, epochs from one look to the next.
        batch_size: Positive integer, images at a time.
        name: String, the key in the logs.
    """

    def __init__(self, train, test, every, batch_size, name):
        super().__init__()
        self.train, self.test = train, test
        self.every = check_count(every, "every")
        self.batch_size = check_count(batch_size, "batch_size")
        self.name = name
        self._train = _unpack(train, "train")
        self._test = None if test is None else _unpack(test, "test")
        self._last = None

    def evaluate(self, train_features, train_labels, test_features=None):
        """Accuracy in [0, 1] of features (N, F) and (M, F)."""
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        self._last = None
        strategy = distribution.strategy_of(self.model)
        if distribution.is_multi_worker(strategy):
            raise ValueError(
                f"{type(self).__name__} looks at all images in one process. "
                "Received: a model of several workers; evaluate the encoder "
                "that a checkpoint holds, in a process of its own."
            )

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self.name in logs:
            raise ValueError(
                f"{type(self).__name__} must have a `name` of its own in the "
                f"logs. Received: name={self.name!r}, which a metric or "
                "another callback has."
            )
        is_last = epoch + 1 == (self.params or {}).get("epochs")
        if self._last is None or epoch % self.every == 0 or is_last:
            self._last = self._look()
        if logs is not None:
            logs[self.name] = self._last

    def _look(self):
        try:
            features = [
                extract_features(self.model, images, self.batch_size)
                for images, _ in (self._train, self._test or (None, None))
                if images is not None
            ]
        except NotFiniteError:
            return math.nan  # `StopOnNaN` is for those who want to stop.
        return float(self.evaluate(features[0], self._train[1], *features[1:]))


class KNNEvaluation(LabelledEvaluation):
    """Logs the accuracy of nearest neighbours at the end of epochs.

    It takes representations h of clean images in inference mode, as
    `evaluation.extract_features` does, and classifies as
    `evaluation.knn_accuracy`: nothing is trained, no random numbers are drawn
    and the training goes on as it would have without (on PyTorch but for the
    order of arrays that `fit` shuffles: any pass over data draws from the same
    generator). The images need not be those of the training.

    The accuracy, in [0, 1], is in the logs of every epoch, so that `History`,
    `EarlyStopping("knn_accuracy", mode="max")` and `ModelCheckpoint` find it.
    Put it before those that read it. It is looked at in the first epoch, every
    `every` epochs from there, and in the last; between looks the logs hold the
    last accuracy, so that the `patience` of `EarlyStopping`, which counts
    epochs, wants to be several times `every`. It is NaN where representations
    are.

    Args:
        train: Pair of images (N, H, W, C), in the model's `value_range`, and
            integer labels (N,); or a set of `simclr_keras.data` that has
            labels, such as `data.train`.
        test: As `train`. None predicts each image of `train` from the others.
            Defaults to None.
        every: Positive integer, epochs from one look to the next. Defaults to
            1.
        k: Positive integer, the number of neighbours that vote. Defaults to
            20; published tables often have 200.
        temperature: Positive float, see `knn_accuracy`. Defaults to 0.1.
        batch_size: Positive integer, images at a time. Defaults to 256.
        name: String, the key in the logs. Defaults to `"knn_accuracy"`.

    Raises:
        TypeError: If labels are not integers, or `train` is neither a pair nor
            a set.
        ValueError: If a set has no labels, the numbers of images and labels
            differ, a count is not positive; from `fit`, for a model of several
            workers.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> encoder = keras.Sequential(
        ...     [keras.Input((8, 8, 3)), keras.layers.Flatten()]
        ... )
        >>> model = simclr_keras.SimCLRModel(
        ...     encoder, augmentation=simclr_keras.SimCLRAugmentation(8, 8)
        ... )
        >>> model.compile("adam")
        >>> images = np.random.randint(0, 256, (32, 8, 8, 3), "uint8")
        >>> labels = np.arange(32) % 2
        >>> evaluation = simclr_keras.callbacks.KNNEvaluation(
        ...     (images[:24], labels[:24]), (images[24:], labels[24:])
        ... )
        >>> history = model.fit(
        ...     images, batch_size=16, callbacks=[evaluation], verbose=0
        ... )
        >>> len(history.history["knn_accuracy"])
        1
    """

    def __init__(
        self,
        train,
        test=None,
        every=1,
        k=20,
        temperature=0.1,
        batch_size=256,
        name="knn_accuracy",
    ):
        super().__init__(train, test, every, batch_size, name)
        check_positive(temperature, "temperature")
        self.k, self.temperature = check_count(k, "k"), temperature

    def evaluate(self, train_features, train_labels, test_features=None):
        return knn_accuracy(
            train_features,
            train_labels,
            test_features,
            None if test_features is None else self._test[1],
            k=self.k,
            temperature=self.temperature,
        )


class LinearEvaluation(LabelledEvaluation):
    """Logs the accuracy of a linear classifier at the end of epochs.

    As `KNNEvaluation`, with `evaluation.linear_evaluation` in place of the
    neighbours: a logistic regression on representations of clean images, whose
    regularisation is chosen on a part of `train`. It takes seconds to minutes a
    look, so by default it looks at every tenth epoch. The probe that
    `SimCLRModel(num_classes=...)` trains beside the encoder costs next to
    nothing, and sees views unless `probe_on` says otherwise.

    Args:
        train: As in `KNNEvaluation`.
        test: As in `KNNEvaluation`, but needed.
        every: Positive integer, epochs from one look to the next. Defaults to
            10.
        l2_values: Sequence of positive floats to choose from, see
            `linear_evaluation`. Defaults to the decades from 1 to 1e-6.
        max_iterations: Positive integer, see `linear_evaluation`. Defaults to
            100.
        batch_size: Positive integer, images at a time. Defaults to 256.
        name: String, the key in the logs. Defaults to `"linear_accuracy"`.

    Raises:
        TypeError, ValueError: As `KNNEvaluation`.
        ImportError: From `fit`, if scikit-learn is missing.

    Example:
        evaluation = simclr_keras.callbacks.LinearEvaluation(
            (images, labels), (test_images, test_labels), every=5
        )
        model.fit(images, epochs=100, callbacks=[evaluation])
    """

    def __init__(
        self,
        train,
        test,
        every=10,
        l2_values=L2_VALUES,
        max_iterations=100,
        batch_size=256,
        name="linear_accuracy",
    ):
        if test is None:
            raise TypeError(
                "`test` must be a pair (images, labels), or a set with labels: "
                "a linear classifier is right on what it was trained on. "
                "Received: test=None."
            )
        super().__init__(train, test, every, batch_size, name)
        check_linear_arguments(l2_values, max_iterations=max_iterations)
        self.l2_values, self.max_iterations = l2_values, max_iterations

    def evaluate(self, train_features, train_labels, test_features=None):
        return linear_evaluation(
            train_features,
            train_labels,
            test_features,
            self._test[1],
            l2_values=self.l2_values,
            max_iterations=self.max_iterations,
        ).accuracy


def _unpack(data, name):
    """Images and their labels (N,)."""
    if hasattr(data, "batches") and hasattr(data, "labels"):
        if data.labels is None:
            raise ValueError(
                f"`{name}` must have labels. Received: {data!r}, which has "
                "none."
            )
        return data, check_labels(data.labels, data.num_images, name)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(
            f"`{name}` must be a pair (images, labels), or a set of "
            f"simclr_keras.data with labels. Received: {type(data).__name__}."
        )
    images, labels = data
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"Images of `{name}` must have the shape (N, H, W, C), N at least "
            f"1. Received: shape={images.shape} of {type(data[0]).__name__}."
        )
    return images, check_labels(labels, len(images), f"labels of {name}")
