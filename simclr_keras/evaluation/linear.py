"""Linear evaluation: a logistic regression on frozen representations."""

import numbers
import typing
import warnings

import numpy as np

from simclr_keras.argument_checks import check_boolean, check_number
from simclr_keras.evaluation.checks import (
    check_count,
    check_features,
    check_labels,
    check_same_features,
    check_seed,
)
from simclr_keras.evaluation.logistic_regression import LogisticRegression
from simclr_keras.evaluation.standardized_rows import (
    StandardizedRows,
    mean_and_deviation,
)
from simclr_keras.evaluation.subsets import validation_split

# Appendix B.8: 45 logarithmically spaced values between 1e-6 and 1e5.
PAPER_L2_VALUES = tuple(np.logspace(-6, 5, 45).tolist())
# With fewer labels than this a validation split says next to nothing.
MIN_PER_CLASS_TO_VALIDATE = 20
# Numbers in the features from which on a fit gains by several cores.
MIN_SIZE_FOR_THREADS = 2_000_000
# And from which on Keras's backend is preferred: it is faster, and two copies
# of the features less begin to count.
MIN_SIZE_FOR_KERAS = 10_000_000
SOLVERS = ("auto", "keras", "scikit-learn")


class LinearResult(typing.NamedTuple):
    """What `linear_evaluation` returns.

    Attributes:
        accuracy: Float in [0, 1], of the test set.
        l2: Float, the regularisation that was used.
        validation_accuracy: Dict from each l2 value that was tried to its
            accuracy in [0, 1] on the validation split; empty where l2 was
            fixed.
        predicted: Integer array (M,), the labels that it gives the test set.
        top_5_accuracy: Float in [0, 1], how often the label is among the five
            that are most probable; 1 where there are no more than five.
        mean_per_class_accuracy: Float in [0, 1], the mean over the test set's
            classes of the accuracy within each, however many images it has.
    """

    accuracy: float
    l2: float
    validation_accuracy: dict
    predicted: np.ndarray
    top_5_accuracy: float
    mean_per_class_accuracy: float

    def __repr__(self):
        return (
            f"LinearResult(accuracy={self.accuracy:.4f}, l2={self.l2:g}, "
            f"top_5_accuracy={self.top_5_accuracy:.4f}, "
            "mean_per_class_accuracy="
            f"{self.mean_per_class_accuracy:.4f}, "
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
    solver="auto",
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
        solver: "keras" or "scikit-learn", who fits. With "keras" a fit ends
            where the loss is about 1e-5 of its value above the minimum.
            Defaults to "auto", which is "keras" where the training features
            hold 10 million numbers or more.

    Returns:
        A `LinearResult` (accuracy, l2, validation_accuracy, predicted,
        top_5_accuracy, mean_per_class_accuracy).

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes do not fit together, there are fewer than two
            classes, or an argument is out of range.
        ImportError: If scikit-learn, or SciPy, which comes with it, is
            missing.

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
    train_features, test_features = (
        check_features(features, name, keeps_float16=True)
        for features, name in (
            (train_features, "train_features"),
            (test_features, "test_features"),
        )
    )
    check_same_features(train_features, test_features)
    train_labels = check_labels(
        train_labels, len(train_features), "train_labels"
    )
    test_labels = check_labels(test_labels, len(test_features), "test_labels")
    check_linear_arguments(
        l2_values, few_labels_l2, validation_fraction, max_iterations
    )
    check_boolean("scale", scale)
    check_seed(seed)
    make = _checked_solver(solver, train_features.size)
    labels, classes = np.unique(train_labels, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(
            "`train_labels` must hold at least two classes. Received: "
            f"{len(labels)} class in {len(train_labels)} labels."
        )
    rows = StandardizedRows(
        train_features, *(mean_and_deviation(train_features) if scale else ())
    )

    def regression(rows, classes):
        return make(rows, classes, len(labels), int(max_iterations))

    l2, validation_accuracy = float(few_labels_l2), {}
    if len(classes) >= MIN_PER_CLASS_TO_VALIDATE * len(labels):
        validation_accuracy = _validate(
            regression,
            rows,
            classes,
            sorted(l2_values, reverse=True),
            _checked_split(train_labels, validation_fraction, seed),
        )
        best = max(validation_accuracy.values())
        equals = [k for k, v in validation_accuracy.items() if v == best]
        # The middle one. At the ends of a plateau the accuracy hangs by a
        # thread: at the strongest values weights are so near to 0 that a fit's
        # last digits decide, and a second fit may be worth nothing.
        l2 = equals[len(equals) // 2]
    fitted = regression(rows, classes)
    fitted.fit(l2)
    # Labels that the training set lacks are never right.
    place = np.searchsorted(labels, test_labels)
    place[labels[np.minimum(place, len(labels) - 1)] != test_labels] = -1
    best, rank = _best_and_rank(fitted, rows.of(test_features), place)
    predicted = labels[best]
    is_right = predicted == test_labels
    return LinearResult(
        float(np.mean(is_right)),
        l2,
        validation_accuracy,
        predicted,
        float(np.mean(rank < 5)),
        float(
            np.mean(
                [
                    np.mean(is_right[test_labels == label])
                    for label in np.unique(test_labels)
                ]
            )
        ),
    )


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

    Raises:
        TypeError: If they do not hold numbers.
        ValueError: If they are not (N, F), finite, and of one F.

    Example:
        train, test = simclr_keras.evaluation.standardize(train, test)
    """
    train_features, *others = (
        check_features(features, name)
        for features, name in (
            (train_features, "train_features"),
            *((each, f"others[{k}]") for k, each in enumerate(others)),
        )
    )
    for k, each in enumerate(others):
        check_same_features(train_features, each, test_name=f"others[{k}]")
    mean, deviation = mean_and_deviation(train_features)
    return [(f - mean) / deviation for f in (train_features, *others)]


def check_linear_arguments(
    l2_values, few_labels_l2=1.0, validation_fraction=0.5, max_iterations=1
):
    """Raises for arguments of `linear_evaluation`."""
    if isinstance(l2_values, str) or not np.iterable(l2_values):
        raise TypeError(
            "`l2_values` must be a sequence of numbers. Received: l2_values="
            f"{l2_values!r} of type {type(l2_values).__name__}."
        )
    if not len(l2_values) or not all(_is_l2(value) for value in l2_values):
        raise ValueError(
            "`l2_values` must hold at least one value, all positive numbers. "
            f"Received: l2_values={l2_values!r}."
        )
    check_number("few_labels_l2", few_labels_l2, "be a positive float", _is_l2)
    check_number(
        "validation_fraction",
        validation_fraction,
        "lie between 0 and 1, both excluded",
        lambda x: 0 < x < 1,
    )
    check_count(max_iterations, "max_iterations")


def _is_l2(value):
    # Its inverse is what scikit-learn is given.
    return isinstance(value, numbers.Real) and 1e-30 <= value <= 1e30


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


def _checked_solver(solver, size):
    """The class that fits, for features of so many numbers."""
    if not isinstance(solver, str):
        raise TypeError(
            f"`solver` must be a string. Received: solver={solver!r} of type "
            f"{type(solver).__name__}."
        )
    if solver not in SOLVERS:
        raise ValueError(
            f"`solver` must be one of {SOLVERS}. Received: solver={solver!r}."
        )
    is_large = size >= MIN_SIZE_FOR_KERAS
    if solver == "keras" or (solver == "auto" and is_large):
        return LogisticRegression
    return _ScikitLearn


def _validate(regression, rows, classes, l2_values, is_validation):
    """Dict of l2 -> accuracy on the validation split, in the given order."""
    train, held_out = map(np.flatnonzero, (~is_validation, is_validation))
    fitted = regression(rows.take(train), classes[train])
    rows, classes = rows.take(held_out), classes[held_out]
    accuracy = {}
    for l2 in map(float, l2_values):
        fitted.fit(l2)
        best, _ = _best_and_rank(fitted, rows, classes)
        accuracy[l2] = float(np.mean(best == classes))
    return accuracy


def _best_and_rank(fitted, rows, classes):
    """Of each row the class with the largest score, and its own class's rank.

    Args:
        fitted: `LogisticRegression` or `_ScikitLearn`.
        rows: `StandardizedRows` (M, F).
        classes: Integer array (M,), -1 for one that is not among them.

    Returns:
        Integer arrays (M,): the classes; the ranks, 0 for the largest score.
        The smaller class goes before the larger one of the same score.
    """
    best, rank, start = [], [], 0
    for scores in fitted.scores(rows):
        wanted = classes[start : start + len(scores), np.newaxis]
        start += len(scores)
        own = np.take_along_axis(scores, wanted, axis=1)
        is_before = np.arange(scores.shape[1]) < wanted
        before = (scores > own) | ((scores == own) & is_before)
        best.append(scores.argmax(axis=1))
        rank.append(np.where(wanted[:, 0] < 0, len(scores[0]), before.sum(1)))
    return np.concatenate(best), np.concatenate(rank)


class _ScikitLearn:
    """`LogisticRegression`, fitted by scikit-learn on a copy of all rows."""

    def __init__(self, rows, classes, num_classes, max_iterations):
        try:
            from sklearn.linear_model import LogisticRegression as Classifier
        except ImportError as error:
            raise ImportError(
                "Linear evaluation needs scikit-learn. Install it with "
                'pip install "simclr_keras[examples]".'
            ) from error
        self.rows, self.classes = rows, classes
        self.classifier = Classifier(max_iter=max_iterations, warm_start=True)

    def fit(self, l2):
        """Fits in place, with threads only where there is work for them."""
        import threadpoolctl  # scikit-learn depends on it

        features = self.rows.array
        # scikit-learn minimises C * sum of losses + 1/2 |W|^2.
        self.classifier.C = 1.0 / (l2 * len(self.classes))
        # Threads that share out microseconds of work wait for each other: on a
        # busy machine that made a fit a hundred times slower. Only the matrix
        # products (BLAS) of large sets gain by them.
        user_api = "openmp" if features.size > MIN_SIZE_FOR_THREADS else None
        one_thread = threadpoolctl.threadpool_limits(1, user_api=user_api)
        with one_thread, warnings.catch_warnings():
            # The limit on iterations is meant, so it is not news.
            warnings.filterwarnings("ignore", message=".*failed to converge.*")
            self.classifier.fit(features, self.classes)

    def scores(self, rows):
        """Logits (n, num_classes) of rows, all at once."""
        scores = self.classifier.decision_function(rows.array)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros_like(scores), scores])
        yield scores
