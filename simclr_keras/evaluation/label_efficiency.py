"""How few labels a representation needs."""

import numpy as np

from simclr_keras.evaluation.checks import (
    check_count,
    check_features,
    check_labels,
    check_positive,
    check_same_features,
    check_seed,
)
from simclr_keras.evaluation.knn import knn_accuracy
from simclr_keras.evaluation.linear import (
    check_linear_arguments,
    linear_evaluation,
    standardize,
)
from simclr_keras.evaluation.subsets import class_balanced_subset

# One value a decade; the paper's 45 cost four times as much.
L2_VALUES = tuple(np.logspace(0, -6, 7).tolist())


def label_efficiency(
    train_features,
    train_labels,
    test_features,
    test_labels,
    labels_per_class=(1, 2, 10, "all"),
    num_draws=5,
    k=200,
    temperature=0.1,
    l2_values=L2_VALUES,
    max_iterations=100,
    seed=0,
):
    """Accuracy of linear classifiers with few and with all labels, and kNN.

    The same protocol holds for raw pixels, an untrained encoder and a
    trained one, and the same seed draws the same labelled images for each,
    so that the rows of a table can be compared. The features are
    standardised over the whole training set, which takes no labels.

    Args:
        train_features: Float array (N, F).
        train_labels: Integer array (N,).
        test_features: Float array (M, F).
        test_labels: Integer array (M,).
        labels_per_class: Sequence of positive integers and `"all"`. Defaults
            to 1, 2, 10 and all.
        num_draws: Positive integer, the labelled subsets that are averaged
            over; all labels are one draw. Defaults to 5.
        k: Positive integer, neighbours of `knn_accuracy`. Defaults to 200.
        temperature: Positive float, of `knn_accuracy`. Defaults to 0.1.
        l2_values: Sequence of positive floats, see `linear_evaluation`.
            Defaults to the decades from 1 to 1e-6.
        max_iterations: Positive integer, see `linear_evaluation`. Defaults
            to 100.
        seed: Integer, draws the subsets. Defaults to 0.

    Returns:
        Dict with one entry for each of `labels_per_class`, the key a string
        ("1", "2", "10", "all"), and one under "knn". Each is a dict with
        "mean" and "std", in [0, 1], and "draws"; None where a class has
        fewer images than the labels that were asked for.

    Raises:
        ValueError: If shapes do not fit together.
        ImportError: If scikit-learn is missing.

    Example:
        result = simclr_keras.evaluation.label_efficiency(
            train_features, train_labels, test_features, test_labels
        )
        print(f"ten labels per class: {result['10']['mean']:.1%}")
    """
    train_features = check_features(train_features, "train_features")
    train_labels = check_labels(
        train_labels, len(train_features), "train_labels"
    )
    test_features = check_features(test_features, "test_features")
    check_same_features(train_features, test_features)
    num_draws = check_count(num_draws, "num_draws")
    check_seed(seed)
    if isinstance(labels_per_class, str) or not np.iterable(labels_per_class):
        raise TypeError(
            '`labels_per_class` must be a sequence of integers and "all". '
            f"Received: labels_per_class={labels_per_class!r}."
        )
    labels_per_class = [
        count
        if isinstance(count, str) and count == "all"
        else check_count(count, "labels_per_class")
        for count in labels_per_class
    ]
    check_linear_arguments(l2_values, max_iterations=max_iterations)
    check_count(k, "k")
    check_positive(temperature, "temperature")
    scaled_train, scaled_test = standardize(train_features, test_features)

    def linear_accuracy(index, draw):
        return linear_evaluation(
            scaled_train[index],
            train_labels[index],
            scaled_test,
            test_labels,
            l2_values=l2_values,
            max_iterations=max_iterations,
            scale=False,
            seed=draw,
        ).accuracy

    result = {}
    smallest_class = np.unique(train_labels, return_counts=True)[1].min()
    for count in labels_per_class:
        if count == "all":
            accuracies = [linear_accuracy(slice(None), seed)]
        elif count > smallest_class:
            accuracies = []
        else:
            draws = range(seed, seed + num_draws)
            accuracies = [
                linear_accuracy(
                    class_balanced_subset(train_labels, count, draw), draw
                )
                for draw in draws
            ]
        result[str(count)] = _summary(accuracies)
    accuracy = knn_accuracy(
        train_features,
        train_labels,
        test_features,
        test_labels,
        k=k,
        temperature=temperature,
    )
    result["knn"] = _summary([accuracy])
    return result


def _summary(accuracies):
    if not accuracies:
        return None
    return {
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies)),
        "draws": len(accuracies),
    }
