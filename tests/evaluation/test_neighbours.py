import keras
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from simclr_keras.evaluation import (
    knn_accuracy,
    knn_predict,
    nearest_neighbours,
    neighbours,
)
from tests.evaluation.blobs import make_blobs

RNG = np.random.default_rng(0)
BANK = RNG.standard_normal((700, 12)).astype("float32")
QUERIES = RNG.standard_normal((90, 12)).astype("float32")


@pytest.fixture(params=["numpy", "backend"])
def search(request, monkeypatch):
    """Both ways of searching, whatever this machine has."""
    is_backend = request.param == "backend"
    monkeypatch.setattr(neighbours, "has_accelerator", lambda: is_backend)
    return request.param


def by_scikit_learn(bank, queries, k):
    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute")
    distance, index = search.fit(bank.astype("float64")).kneighbors(queries)
    return 1 - distance, index


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("k", [1, 5, 200, 700])
@pytest.mark.parametrize(("batch_size", "bank_rows"), [(90, 8192), (7, 64)])
def test_equals_scikit_learn_in_any_blocks(
    k, batch_size, bank_rows, monkeypatch
):
    monkeypatch.setattr(neighbours, "_BANK_ROWS", bank_rows)
    similarity, index = by_scikit_learn(BANK, QUERIES, k)
    found = nearest_neighbours(BANK, QUERIES, k, batch_size)
    assert found.similarity.dtype == np.float32
    assert found.index.dtype == np.int32
    # float32 rounds products of 12 numbers.
    np.testing.assert_allclose(found.similarity, similarity, atol=1e-6)
    np.testing.assert_array_equal(found.index, index)


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("bank_rows", [8192, 64])
def test_itself_without_each_row(bank_rows, monkeypatch):
    monkeypatch.setattr(neighbours, "_BANK_ROWS", bank_rows)
    _, index = by_scikit_learn(BANK, BANK, 6)
    np.testing.assert_array_equal(index[:, 0], np.arange(len(BANK)))
    found = nearest_neighbours(BANK, k=5, batch_size=100)
    np.testing.assert_array_equal(found.index, index[:, 1:])
    assert nearest_neighbours(BANK[:3], k=99).index.shape == (3, 2)


def test_the_first_of_equals_comes_first():
    bank = np.repeat(BANK[:2], 3, axis=0)
    found = nearest_neighbours(bank, BANK[:1], k=3)
    assert found.index.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("scale", [1e-42, 1e-25, 1e25, 1e38])
def test_rows_of_any_length(scale):
    # 1e-42 is subnormal: it has some 10 bits.
    rows = BANK / np.abs(BANK).max(axis=1, keepdims=True)
    expected = nearest_neighbours(rows, QUERIES, 3)
    scales = np.where(np.arange(len(rows)) % 2, scale, 1.0)[:, np.newaxis]
    found = nearest_neighbours((rows * scales).astype("float32"), QUERIES, 3)
    np.testing.assert_allclose(
        found.similarity,
        expected.similarity,
        atol=1e-2 if scale < 1e-38 else 1e-6,
    )


def test_float16_and_memory_maps(tmp_path):
    half = BANK.astype("float16")
    np.save(tmp_path / "bank.npy", half)
    mapped = np.load(tmp_path / "bank.npy", mmap_mode="r")
    expected = nearest_neighbours(half.astype("float32"), QUERIES, 4)
    for bank in (half, mapped):
        found = nearest_neighbours(bank, QUERIES.tolist(), 4)
        np.testing.assert_array_equal(found.similarity, expected.similarity)
        np.testing.assert_array_equal(found.index, expected.index)


def test_a_row_of_zeros():
    found = nearest_neighbours(np.zeros((3, 2)), [[1.0, 0.0]], k=3)
    assert found.similarity.tolist() == [[0.0, 0.0, 0.0]]
    assert found.index.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]],), "at least 2. Received: bank.shape"),
        ((BANK, QUERIES[:, :3]), r"`bank` and `queries` must have the same"),
        ((BANK, QUERIES, 0), "Received: k=0"),
        ((BANK, QUERIES, 1, 0.5), "Received: batch_size=0.5"),
        ((BANK, np.full((2, 12), np.nan)), "`queries` must be finite"),
        ((BANK[0],), r"`bank` must have the shape \(N, F\)"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(*arguments)


# --- The vote ----------------------------------------------------------------
def test_equal_weights_are_scikit_learn_s():
    train, labels, test, _ = make_blobs()
    vote = KNeighborsClassifier(9, metric="cosine", algorithm="brute")
    # At this temperature all neighbours weigh the same, to 1e-9.
    predicted = knn_predict(train, labels, test, k=9, temperature=1e9)
    expected = vote.fit(train, labels).predict(test)
    # A draw is decided by the rest of the weights here.
    assert np.mean(predicted == expected) > 0.97
    chances = vote.predict_proba(test)
    ours = chances[np.arange(len(test)), predicted]
    np.testing.assert_array_equal(ours, chances.max(axis=1))


def test_leave_one_out_is_a_loop_over_images():
    train, labels, _, _ = make_blobs(num_train=60)
    expected = [
        knn_predict(
            np.delete(train, i, axis=0),
            np.delete(labels, i),
            train[i : i + 1],
            k=7,
        )[0]
        for i in range(len(train))
    ]
    np.testing.assert_array_equal(
        knn_predict(train, labels, k=7, batch_size=13), expected
    )
    assert knn_accuracy(train, labels, k=7) == np.mean(expected == labels)


def test_top_labels_come_in_the_order_of_their_votes():
    train = np.eye(4) + 0.2
    test = [[4.0, 3.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]]
    labels = [7, 5, 3, 1]
    predicted = knn_predict(train, labels, test, k=3, top=3)
    assert predicted.tolist() == [[7, 5, 3], [1, 3, 5]]
    # With one neighbour the others follow, the smallest first.
    assert knn_predict(train, labels, test, k=1, top=9).tolist() == [
        [7, 1, 3, 5],
        [1, 3, 5, 7],
    ]
    for top, expected in ((1, 0.5), (2, 0.5), (3, 1.0)):
        accuracy = knn_accuracy(train, labels, test, [7, 5], k=3, top=top)
        assert accuracy == expected


def test_labels_and_features_come_together():
    with pytest.raises(ValueError, match="given both, or neither"):
        knn_accuracy(BANK, np.zeros(700, int), QUERIES)


@pytest.mark.parametrize("count", [50, 1100, 9000])
def test_of_equals_the_first_are_found(count, search):
    if search == "backend" and keras.backend.backend() == "torch":
        pytest.skip("PyTorch's top_k takes any of equals")
    found = nearest_neighbours(np.ones((count, 3)), np.ones((2, 3)), k=3)
    assert found.index.tolist() == [[0, 1, 2]] * 2
    assert found.similarity.max() <= 1
    rows = np.repeat(BANK[:4], count // 4, axis=0)
    found = nearest_neighbours(rows, BANK[:4], k=5)
    np.testing.assert_array_equal(
        found.index, np.arange(5) + count // 4 * np.arange(4)[:, np.newaxis]
    )


@pytest.mark.parametrize(
    ("k", "error"),
    [
        (True, TypeError),
        ("3", TypeError),
        (None, TypeError),
        (np.nan, ValueError),
    ],
)
def test_counts_are_integers(k, error):
    with pytest.raises(error, match="`k` must be a positive integer"):
        nearest_neighbours(BANK, k=k)
    assert nearest_neighbours(BANK, k=np.int64(2)).index.shape == (700, 2)
