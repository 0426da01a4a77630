import numpy as np
import pytest

from simclr_keras.evaluation import knn_accuracy, knn_predict
from tests.evaluation.blobs import make_blobs


def knn_loop(train, train_labels, test, k, temperature):
    """The vote as the paper states it, image by image, in float64."""
    train, test = train.astype("float64"), test.astype("float64")
    predicted = []
    for query in test:
        cosines = [
            query @ key / (np.linalg.norm(query) * np.linalg.norm(key))
            for key in train
        ]
        votes = {}
        for i in sorted(range(len(train)), key=lambda i: -cosines[i])[:k]:
            weight = np.exp(cosines[i] / temperature)
            votes[train_labels[i]] = votes.get(train_labels[i], 0) + weight
        predicted.append(max(sorted(votes), key=votes.get))
    return np.array(predicted)


@pytest.mark.parametrize("k", [1, 7, 200, 1000])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_equals_the_loop(k, temperature):
    train, train_labels, test, test_labels = make_blobs()
    expected = knn_loop(train, train_labels, test, k, temperature)
    # A batch that does not divide the 150 test images.
    predicted = knn_predict(
        train, train_labels, test, k=k, temperature=temperature, batch_size=64
    )
    np.testing.assert_array_equal(predicted, expected)
    accuracy = knn_accuracy(
        train, train_labels, test, test_labels, k=k, temperature=temperature
    )
    assert accuracy == pytest.approx(np.mean(expected == test_labels))


def test_the_noise_leaves_something_to_get_wrong():
    assert 0.5 < knn_accuracy(*make_blobs(), k=20) < 0.95


def test_defaults_are_those_of_the_reference():
    train, train_labels, test, _ = make_blobs(num_train=500)
    np.testing.assert_array_equal(
        knn_predict(train, train_labels, test),
        knn_loop(train, train_labels, test, k=200, temperature=0.1),
    )


def test_the_length_of_features_does_not_matter():
    train, train_labels, test, _ = make_blobs()
    scale = np.random.default_rng(1).uniform(0.1, 10, (len(train), 1))
    np.testing.assert_array_equal(
        knn_predict(train * scale, train_labels, 3 * test, k=20),
        knn_predict(train, train_labels, test, k=20),
    )


def test_labels_may_be_any_integers():
    train, labels, test, _ = make_blobs()
    names = np.array([-3, 7, 100, 2**40, 5])
    predicted = knn_predict(train, names[labels], test, k=20)
    np.testing.assert_array_equal(
        predicted, names[knn_predict(train, labels, test, k=20)]
    )


def test_k_beyond_the_training_set_lets_all_of_it_vote():
    train, labels, test, _ = make_blobs(num_train=30)
    np.testing.assert_array_equal(
        knn_predict(train, labels, test, k=200),
        knn_predict(train, labels, test, k=30),
    )


def test_a_tie_goes_to_the_smaller_label():
    train = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert knn_predict(train, [9, 4], [[1.0, 0.0]], k=2) == [4]


def test_a_low_temperature_does_not_overflow():
    # exp(1 / 0.005) = e^200 has no float32.
    train, labels, test, _ = make_blobs()
    np.testing.assert_array_equal(
        knn_predict(train, labels, test, k=50, temperature=0.005),
        knn_loop(train, labels, test, k=50, temperature=0.005),
    )


def test_a_feature_of_zeros_is_near_to_nothing():
    train = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.1]])
    test = np.array([[1.0, 0.0], [0.0, 0.0]])
    predicted = knn_predict(train, [0, 1, 2], test, k=1)
    assert predicted[0] == 2  # and no NaN for the other


@pytest.mark.parametrize("name", ["k", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_counts_must_be_positive_integers(name, value):
    train, labels, test, _ = make_blobs()
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        knn_predict(train, labels, test, **{name: value})


def test_temperature_must_be_positive():
    train, labels, test, _ = make_blobs()
    with pytest.raises(ValueError, match="Received: temperature=0"):
        knn_predict(train, labels, test, temperature=0)


def test_features_and_labels_must_fit():
    train, labels, test, test_labels = make_blobs()
    with pytest.raises(
        ValueError, match=r"same number of features.*\(150, 3\)"
    ):
        knn_predict(train, labels, test[:, :3])
    with pytest.raises(ValueError, match=r"train_labels.shape=\(299,\)"):
        knn_predict(train, labels[:-1], test)
    with pytest.raises(ValueError, match=r"test_labels.shape=\(10,\)"):
        knn_accuracy(train, labels, test, test_labels[:10])
    with pytest.raises(ValueError, match=r"train_features.shape=\(300, 2, 4\)"):
        knn_predict(train.reshape(300, 2, 4), labels, test)
    with pytest.raises(TypeError, match=r"train_labels\.dtype=float64"):
        knn_predict(train, labels.astype("float64"), test)
    with pytest.raises(ValueError, match="1 values that are NaN"):
        knn_predict(np.where(train == train[0, 0], np.nan, train), labels, test)


@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e25])
def test_features_of_any_scale(scale):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(2, 40, 5)) + 1e-3
    labels = np.arange(40) % 3
    expected = knn_accuracy(train, labels, test, labels, k=5)
    assert knn_accuracy(scale * train, labels, test, labels, k=5) == expected
    assert knn_accuracy(train, labels, scale * test, labels, k=5) == expected


def test_what_are_no_rows():
    features, labels = np.eye(4), np.arange(4)
    with pytest.raises(ValueError, match="must have the shape"):
        knn_accuracy(3.0, labels)
    with pytest.raises(ValueError, match="must have the shape"):
        knn_accuracy(features, labels, 0.5, labels)
    with pytest.raises(TypeError, match="NumPy makes no array"):
        knn_accuracy(features, [[0, 1], [2]])
    with pytest.raises(TypeError, match="`temperature` must be"):
        knn_predict(features, labels, temperature="0.1")
