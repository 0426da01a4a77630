"""Weighted k-nearest-neighbour classification of representations."""

import numpy as np

from simclr_keras.evaluation.checks import (
    check_count,
    check_features,
    check_labels,
    check_positive,
    num_rows,
)
from simclr_keras.evaluation.neighbours import each_neighbours


def knn_predict(
    train_features,
    train_labels,
    test_features=None,
    k=200,
    temperature=0.1,
    batch_size=2048,
    top=None,
):
    """Labels of `test_features` by a weighted vote of the nearest neighbours.

    Each of the `k` training images with the largest cosine similarity votes
    for its own class with the weight `exp(cosine / temperature)`; the class
    with the most weight wins, the smaller label in a tie. Nothing is trained,
    so this is the quickest honest measure of a representation.

    Args:
        train_features: Float array (N, F), not normalised.
        train_labels: Integer array (N,), any integers.
        test_features: Float array (M, F). None predicts each training image
            from the others (leave-one-out). Defaults to None.
        k: Positive integer, the number of neighbours that vote. Where it
            exceeds N, all N vote. Keep it well below the size of a class
            times two, or far-off images outvote near ones at high
            temperatures. Defaults to 200.
        temperature: Positive float, in units of cosine similarity. Defaults
            to 0.1; 0.07 is also in use, often with `k=20`.
        batch_size: Positive integer, rows of `test_features` at a time; see
            `nearest_neighbours`. Defaults to 2,048.
        top: Positive integer: the so many best labels instead of the best, at
            most as many as there are. Defaults to None.

    Returns:
        NumPy array (M,) of labels, of the dtype of `train_labels`; with `top`
        (M, top), the best first. Labels for which nobody voted come last.

    Raises:
        ValueError: If `k`, `batch_size` or `top` is not positive,
            `temperature` is not positive, or shapes do not fit together.

    Example:
        predicted = simclr_keras.evaluation.knn_predict(
            train_features, train_labels, test_features, k=20
        )

    Reference:
        - [Wu et al., 2018](https://arxiv.org/abs/1805.01978), section 3.4
          (non-parametric instance discrimination; k=200, temperature 0.07).
    """
    train_features = check_features(
        train_features, "train_features", keeps_float16=True
    )
    train_labels = check_labels(
        train_labels, len(train_features), "train_labels"
    )
    check_positive(temperature, "temperature")
    if top is not None:
        top = check_count(top, "top")
    classes, train_classes = np.unique(train_labels, return_inverse=True)
    predicted = []
    for similarity, index in each_neighbours(
        train_features,
        test_features,
        k,
        batch_size,
        "train_features",
        "test_features",
    ):
        # Against the nearest one, so that no temperature overflows.
        weight = np.exp((similarity - similarity[:, :1]) / temperature)
        # One bin for each pair of a query and a class.
        row = np.arange(len(index))[:, np.newaxis]
        votes = np.bincount(
            (row * len(classes) + train_classes[index]).ravel(),
            weight.ravel(),
            minlength=len(index) * len(classes),
        ).reshape(-1, len(classes))
        if top is None:
            predicted.append(votes.argmax(axis=1))
        else:
            order = np.argsort(-votes, axis=1, kind="stable")
            predicted.append(order[:, :top])
    return classes[np.concatenate(predicted)]


def knn_accuracy(
    train_features,
    train_labels,
    test_features=None,
    test_labels=None,
    k=200,
    temperature=0.1,
    batch_size=2048,
    top=1,
):
    """Fraction of `test_features` that `knn_predict` labels rightly.

    Args:
        train_features: Float array (N, F), not normalised.
        train_labels: Integer array (N,).
        test_features: Float array (M, F). None is leave-one-out, see
            `knn_predict`. Defaults to None.
        test_labels: Integer array (M,), given where `test_features` are.
        k: Positive integer, see `knn_predict`. Defaults to 200.
        temperature: Positive float, see `knn_predict`. Defaults to 0.1.
        batch_size: Positive integer, see `knn_predict`. Defaults to 2,048.
        top: Positive integer: right is an image whose label is among the so
            many best. Defaults to 1.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: As `knn_predict`, and if `test_labels` does not hold one
            label for each row.

    Example:
        accuracy = simclr_keras.evaluation.knn_accuracy(
            train_features, train_labels, test_features, test_labels
        )
    """
    if (test_features is None) != (test_labels is None):
        raise ValueError(
            "`test_features` and `test_labels` are given both, or neither for "
            "leave-one-out. Received only one of them."
        )
    if test_labels is None:
        test_labels = check_labels(
            train_labels,
            num_rows(train_features, "train_features"),
            "train_labels",
        )
    else:
        test_labels = check_labels(
            test_labels,
            num_rows(test_features, "test_features"),
            "test_labels",
        )
    predicted = knn_predict(
        train_features,
        train_labels,
        test_features,
        k=k,
        temperature=temperature,
        batch_size=batch_size,
        top=top,
    )
    is_right = predicted == test_labels[:, np.newaxis]
    return float(np.mean(is_right.any(axis=1)))
