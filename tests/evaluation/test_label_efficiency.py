import numpy as np
import pytest

from simclr_keras.evaluation import (
    class_balanced_subset,
    knn_accuracy,
    label_efficiency,
    linear_evaluation,
    standardize,
)
from tests.evaluation.blobs import make_blobs


def test_equals_its_parts():
    train, labels, test, test_labels = make_blobs()
    result = label_efficiency(
        train, labels, test, test_labels, num_draws=3, k=20, seed=4
    )
    assert list(result) == ["1", "2", "10", "all", "knn"]
    scaled_train, scaled_test = standardize(train, test)
    for count in (1, 2, 10):
        accuracies = []
        for draw in (4, 5, 6):
            index = class_balanced_subset(labels, count, draw)
            fit = linear_evaluation(
                scaled_train[index],
                labels[index],
                scaled_test,
                test_labels,
                scale=False,
            )
            accuracies.append(fit.accuracy)
        assert result[str(count)] == {
            "mean": pytest.approx(np.mean(accuracies)),
            "std": pytest.approx(np.std(accuracies)),
            "draws": 3,
        }
    assert result["all"]["draws"] == 1
    assert result["knn"]["mean"] == knn_accuracy(
        train, labels, test, test_labels, k=20
    )


def test_more_labels_help():
    result = label_efficiency(*make_blobs())
    assert (
        0.2
        < result["1"]["mean"]
        < result["10"]["mean"]
        < result["all"]["mean"] + 0.05
    )
    assert result["1"]["draws"] == 5


def test_a_class_with_too_few_images_gives_none():
    train, labels, test, test_labels = make_blobs()
    labels = labels.copy()
    labels[np.flatnonzero(labels == 0)[5:]] = 1
    result = label_efficiency(train, labels, test, test_labels)
    assert result["10"] is None
    assert result["2"] is not None


def test_features_of_another_length_are_refused():
    train, labels, test, test_labels = make_blobs()
    with pytest.raises(ValueError, match=r"test_features.shape=\(150, 4\)"):
        label_efficiency(train, labels, test[:, :4], test_labels)


def test_standardize():
    rng = np.random.default_rng(0)
    train = rng.normal(3, [1, 2, 0, 5], (1000, 4)).astype("float32")
    test = rng.normal(3, 5, (10, 4)).astype("float32")
    scaled, scaled_test = standardize(train, test)
    # float32 rounding of values around 1.
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    assert scaled.var(0).mean() == pytest.approx(1, abs=1e-5)
    deviation = np.sqrt(train.astype("float64").var(0).mean())
    np.testing.assert_allclose(
        scaled_test, (test - train.mean(0)) / deviation, atol=1e-5
    )
    assert scaled.dtype == "float32"


def test_standardize_leaves_constant_features_finite():
    scaled, _ = standardize(np.full((5, 3), 7.0), np.ones((2, 3)))
    np.testing.assert_array_equal(scaled, 0)
