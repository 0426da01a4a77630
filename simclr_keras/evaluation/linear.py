"""Linear evaluation: a logistic regression on frozen representations."""

import typing
import warnings

import numpy as np

from simclr_keras.evaluation.checks import (
    check_features,
    check_labels,
    check_same_features,
)
from simclr_keras.evaluation.subsets import validation_split

# Appendix B.8: 45 logarithmically spaced values between 1e-6 and 1e5.
PAPER_L2_VALUES = tuple(np.logspace(-6, 5, 45).tolist())
# With fewer labels than this a validation split says next to nothing.
MIN_PER_CLASS_TO_VALIDATE = 20
# Numbers in the features from which on a fit gains by several cores.
MIN_SIZE_FOR_THREADS = 2_000_000


class LinearResult(typing.NamedTuple):
    """What `linear_evaluation` returns.

    Attributes:
        accuracy: Float in [0, 1], of the test set.
        l2: Float, the regularisation that was used.
        validation_accuracy: Dict from each l2 value that was tried to its
            accuracy in [0, 1] on the validation split; empty where l2 was
            fixed.
        predicted: Integer array (M,), the labels that it gives the test set.
    """

    accuracy: float
    l2: float
    validation_accuracy: dict
    predicted: np.ndarray

    def __repr__(self):
        return (
            f"LinearResult(accuracy={self.accuracy:.4f}, l2={self.l2:g}, "
            f"validation_accuracy=<{len(self.validation_accuracy)} values>, "
            f"predicted=<{len(self.predicted)} labels>)"
        )


def linear_evaluation(
    train_features,
    train_labels,
    test_features,
    test_labels,
    l2_values=PAPER_L2_VALUES,
    few_labels_l2=1e-3,
    validation_fraction=0.2,
    max_iterations=100,
    scale=True,
    seed=0,
):
    """Test accuracy of a linear classifier on frozen representations.

    Minimises, by L-BFGS and without augmentation,

        mean over images of cross_entropy(W h + b, label) + l2 / 2 |W|^2

    where h is standardised (see `standardize`), so that one l2 means the
    same for pixels, untrained and trained encoders. The l2 with the best
    accuracy on a class-balanced validation split is taken (the middle one of
    equals), and the classifier trained again on the whole training set.
    With fewer than 20 labels per class on average no split is worth having,
    and l2 is `few_labels_l2`.

    All values are tried, from the strongest to the weakest, each starting from
    the solution of the one before, which makes the search cheap. None is left
    out: near the strongest, where weights are almost 0, the accuracy goes up
    and down by chance, and a search that ends at a fall ends there.

    Args:
        train_features: Float array (N, F).
        train_labels: Integer array (N,).
        test_features: Float array (M, F).
        test_labels: Integer array (M,).
        l2_values: Sequence of positive floats to choose from. Defaults to
            the paper's 45 values between 1e-6 and 1e5; one value a decade
            takes a quarter of the time.
        few_labels_l2: Positive float, used with few labels. Defaults to
            1e-3.
        validation_fraction: Float in (0, 1), the part of each class that is
            held out to choose l2. Defaults to 0.2.
        max_iterations: Positive integer, limit of L-BFGS for each l2.
            Defaults to 100.
        scale: Boolean, whether to standardise by the training features.
            False leaves the features as they come, for a caller who has done
            so. Defaults to True.
        seed: Integer, draws the validation split. Defaults to 0.

    Returns:
        A `LinearResult` (accuracy, l2, validation_accuracy, predicted).

    Raises:
        ValueError: If shapes do not fit together, there are fewer than two
            classes, or an argument is out of range.
        ImportError: If scikit-learn is missing.

    Example:
        result = simclr_keras.evaluation.linear_evaluation(
            train_features, train_labels, test_features, test_labels
        )
        print(f"{result.accuracy:.1%} with l2 {result.l2:g}")

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), appendix
          B.8, for the L-BFGS protocol. Differs from the paper: h is
          standardised, so that the fixed l2 for few labels fits every
          representation, and the iterations are limited.
    """
    train_features = check_features(train_features, "train_features")
    test_features = check_features(test_features, "test_features")
    check_same_features(train_features, test_features)
    train_labels = check_labels(
        train_labels, len(train_features), "train_labels"
    )
    test_labels = check_labels(test_labels, len(test_features), "test_labels")
    check_linear_arguments(
        l2_values, few_labels_l2, validation_fraction, max_iterations
    )
    num_classes = len(np.unique(train_labels))
    if num_classes < 2:
        raise ValueError(
            "`train_labels` must hold at least two classes. Received: "
            f"{num_classes} class in {len(train_labels)} labels."
        )
    if scale:
        train_features, test_features = standardize(
            train_features, test_features
        )

    l2, validation_accuracy = float(few_labels_l2), {}
    if len(train_labels) >= MIN_PER_CLASS_TO_VALIDATE * num_classes:
        validation_accuracy = _validate(
            train_features,
            train_labels,
            sorted(l2_values, reverse=True),
            _checked_split(train_labels, validation_fraction, seed),
            max_iterations,
        )
        best = max(validation_accuracy.values())
        equals = [k for k, v in validation_accuracy.items() if v == best]
        # The middle one. At the ends of a plateau the accuracy hangs by a
        # thread: at the strongest values weights are so near to 0 that a fit's
        # last digits decide, and a second fit may be worth nothing.
        l2 = equals[len(equals) // 2]
    classifier = _logistic_regression(max_iterations)
    _fit(classifier, train_features, train_labels, l2)
    predicted = classifier.predict(test_features)
    accuracy = float(np.mean(predicted == test_labels))
    return LinearResult(accuracy, l2, validation_accuracy, predicted)


def standardize(train_features, *others):
    """Features with mean 0, and variance 1 on average, over the training set.

    Every feature is centred, and all are divided by one number. Dividing each
    by its own deviation would blow up what carries nothing, the rim of digits
    or a dead unit, and put raw pixels at a disadvantage.

    The statistics need no labels: where many images are unlabelled, pass all
    of them as `train_features`.

    Args:
        train_features: Float array (N, F), whose mean and deviation are used.
        *others: Float arrays (M, F), treated alike.

    Returns:
        List of float32 arrays: the training features, then the others.

    Example:
        train, test = simclr_keras.evaluation.standardize(train, test)
    """
    # Sums of float32 over many rows drift, those in float64 do not.
    mean = np.mean(train_features, axis=0, dtype="float64")
    variance = np.var(train_features, axis=0, dtype="float64").mean()
    mean = mean.astype("float32")
    # All images alike: nothing to scale.
    deviation = np.float32(np.sqrt(variance) if variance > 0 else 1.0)
    return [(f - mean) / deviation for f in (train_features, *others)]


def check_linear_arguments(
    l2_values, few_labels_l2=1.0, validation_fraction=0.5, max_iterations=1
):
    """Raises ValueError for arguments of `linear_evaluation`."""
    if not len(l2_values) or not all(value > 0 for value in l2_values):
        raise ValueError(
            "`l2_values` must hold at least one value, all positive. "
            f"Received: l2_values={l2_values!r}."
        )
    if not few_labels_l2 > 0:
        raise ValueError(
            "`few_labels_l2` must be a positive float. Received: "
            f"few_labels_l2={few_labels_l2!r}."
        )
    if not 0 < validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` must lie between 0 and 1, both excluded. "
            f"Received: validation_fraction={validation_fraction!r}."
        )
    if max_iterations < 1:
        raise ValueError(
            "`max_iterations` must be a positive integer. Received: "
            f"max_iterations={max_iterations!r}."
        )


def _checked_split(labels, fraction, seed):
    """A split of which both parts hold images."""
    is_validation = validation_split(labels, fraction, seed)
    if not is_validation.any():
        raise ValueError(
            "`validation_fraction` must be large enough to hold out an image. "
            f"Received: validation_fraction={fraction!r} of {len(labels)} "
            "images."
        )
    return is_validation


def _validate(features, labels, l2_values, is_validation, max_iterations):
    """Dict of l2 -> accuracy on the validation split, in the given order."""
    train, train_labels = features[~is_validation], labels[~is_validation]
    held_out, held_out_labels = features[is_validation], labels[is_validation]
    classifier = _logistic_regression(max_iterations)
    accuracy = {}
    for l2 in map(float, l2_values):
        _fit(classifier, train, train_labels, l2)
        accuracy[l2] = float(classifier.score(held_out, held_out_labels))
    return accuracy


def _logistic_regression(max_iterations):
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError(
            "Linear evaluation needs scikit-learn. Install it with "
            'pip install "simclr_keras[examples]".'
        ) from error
    return LogisticRegression(max_iter=max_iterations, warm_start=True)


def _fit(classifier, features, labels, l2):
    """Fits in place, with threads only where there is work for them."""
    import threadpoolctl  # scikit-learn depends on it

    # scikit-learn minimises C * sum of losses + 1/2 |W|^2.
    classifier.C = 1.0 / (l2 * len(labels))
    # Threads that share out microseconds of work wait for each other: on a
    # busy machine that made a fit a hundred times slower. Only the matrix
    # products (BLAS) of large sets gain by them.
    user_api = "openmp" if features.size > MIN_SIZE_FOR_THREADS else None
    one_thread = threadpoolctl.threadpool_limits(1, user_api=user_api)
    with one_thread, warnings.catch_warnings():
        # The limit on iterations is meant, so it is not news.
        warnings.filterwarnings("ignore", message=".*failed to converge.*")
        classifier.fit(features, labels)
