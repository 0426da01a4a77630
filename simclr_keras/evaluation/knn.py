"""Weighted k-nearest-neighbour classification of representations."""

import numpy as np
from keras import ops

from simclr_keras.evaluation.checks import (
    check_features,
    check_labels,
    check_same_features,
)


def knn_predict(
    train_features,
    train_labels,
    test_features,
    k=200,
    temperature=0.1,
    batch_size=256,
):
    """Labels of `test_features` by a weighted vote of the nearest neighbours.

    Each of the `k` training images with the largest cosine similarity votes
    for its own class with the weight `exp(cosine / temperature)`; the class
    with the most weight wins, the smaller label in a tie. Nothing is trained,
    so this is the quickest honest measure of a representation.

    Args:
        train_features: Float array (N, F), not normalised.
        train_labels: Integer array (N,), any integers.
        test_features: Float array (M, F).
        k: Positive integer, the number of neighbours that vote. Where it
            exceeds N, all N vote. Keep it well below the size of a class
            times two, or far-off images outvote near ones at high
            temperatures. Defaults to 200.
        temperature: Positive float, in units of cosine similarity. Defaults
            to 0.1; 0.07 is also in use, often with `k=20`.
        batch_size: Positive integer, rows of `test_features` at a time; the
            similarities take batch_size x N floats. Defaults to 256.

    Returns:
        NumPy array (M,) of labels, of the dtype of `train_labels`.

    Raises:
        ValueError: If `k` or `batch_size` is not positive, `temperature` is
            not positive, or shapes do not fit together.

    Example:
        predicted = simclr_keras.evaluation.knn_predict(
            train_features, train_labels, test_features, k=20
        )

    Reference:
        - [Wu et al., 2018](https://arxiv.org/abs/1805.01978), section 3.4
          (non-parametric instance discrimination; k=200, temperature 0.07).
    """
    train_features = check_features(train_features, "train_features")
    test_features = check_features(test_features, "test_features")
    check_same_features(train_features, test_features)
    train_labels = check_labels(
        train_labels, len(train_features), "train_labels"
    )
    for name, value in (("k", k), ("batch_size", batch_size)):
        if value < 1 or value != int(value):
            raise ValueError(
                f"`{name}` must be a positive integer. Received: "
                f"{name}={value!r}."
            )
    if not temperature > 0:
        raise ValueError(
            "`temperature` must be a positive float. Received: "
            f"temperature={temperature!r}."
        )
    k = min(int(k), len(train_features))
    classes, train_classes = np.unique(train_labels, return_inverse=True)
    train_classes = ops.convert_to_tensor(train_classes.astype("int32"))
    keys = ops.transpose(_normalize(train_features))  # (F, N)
    predicted = []
    for start in range(0, len(test_features), batch_size):
        queries = _normalize(test_features[start : start + batch_size])
        cosine, neighbour = ops.top_k(ops.matmul(queries, keys), k)  # (B, k)
        # Against the nearest one, so that no temperature overflows float32.
        weight = ops.exp((cosine - cosine[:, :1]) / temperature)
        # One bin for each pair of a query and a class.
        row = ops.expand_dims(ops.arange(len(queries), dtype="int32"), 1)
        bin_index = row * len(classes) + ops.take(train_classes, neighbour)
        votes = ops.segment_sum(
            ops.reshape(weight, (-1,)),
            ops.reshape(bin_index, (-1,)),
            num_segments=len(queries) * len(classes),
        )
        votes = ops.reshape(votes, (len(queries), len(classes)))
        predicted.append(ops.convert_to_numpy(ops.argmax(votes, axis=-1)))
    return classes[np.concatenate(predicted)]


def knn_accuracy(
    train_features,
    train_labels,
    test_features,
    test_labels,
    k=200,
    temperature=0.1,
    batch_size=256,
):
    """Fraction of `test_features` that `knn_predict` labels rightly.

    Args:
        train_features: Float array (N, F), not normalised.
        train_labels: Integer array (N,).
        test_features: Float array (M, F).
        test_labels: Integer array (M,).
        k: Positive integer, see `knn_predict`. Defaults to 200.
        temperature: Positive float, see `knn_predict`. Defaults to 0.1.
        batch_size: Positive integer, see `knn_predict`. Defaults to 256.

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
    test_labels = check_labels(test_labels, len(test_features), "test_labels")
    predicted = knn_predict(
        train_features,
        train_labels,
        test_features,
        k=k,
        temperature=temperature,
        batch_size=batch_size,
    )
    return float(np.mean(predicted == test_labels))


def _normalize(features):
    """Rows of length 1, as a tensor; a row of zeros stays zero."""
    features = ops.convert_to_tensor(features)
    # The squares of very large or small features are not float32 numbers.
    largest = ops.max(ops.abs(features), axis=-1, keepdims=True)
    features = features / ops.where(largest > 0, largest, 1.0)
    return ops.normalize(features, axis=-1)
