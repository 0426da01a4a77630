import numpy as np
import pytest

from simclr_keras.evaluation import mean_average_precision


def by_the_definition(labels, scores):
    """Every threshold and every recall, one after the other."""
    found = []
    for is_positive, score in zip(labels.T, scores.T):
        points = []
        for k in range(11):
            best = 0.0
            for threshold in score:
                chosen = score >= threshold
                hits = (chosen & is_positive).sum()
                if 10 * hits >= k * is_positive.sum():
                    best = max(best, hits / chosen.sum())
            points.append(best)
        found.append(np.mean(points))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("digits", [0, 1, 9])
def test_equals_a_loop(seed, digits):
    rng = np.random.default_rng(seed)
    labels = rng.random((40, 3)) < (0.1, 0.25, 0.8)
    labels[0] = True
    # Rounded, so that there are equal scores.
    scores = np.round(rng.normal(size=(40, 3)) + labels, digits)
    result = mean_average_precision(labels, scores)
    assert result == pytest.approx(by_the_definition(labels, scores), abs=1e-12)


def test_by_hand():
    labels = np.array([[1], [0], [1], [0]])
    scores = np.array([[4.0], [3.0], [2.0], [1.0]])
    # Precision 1 up to a recall of 0.5, 2/3 beyond it.
    expected = (6 + 5 * 2 / 3) / 11
    assert mean_average_precision(labels, scores) == pytest.approx(expected)
    assert mean_average_precision(labels, labels * 1.0) == 1.0
    # All alike: one cut, behind which everything is.
    assert mean_average_precision(labels, 0 * scores) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("labels", "scores", "error", "message"),
    [
        ([[1, 0]], [[0.5, 0.5]], ValueError, r"such as \[1\]"),
        ([[1, 1]], [[0.5]], ValueError, r"scores.shape=\(1, 1\)"),
        ([1], [0.5], ValueError, r"labels.shape=\(1,\)"),
        (np.ones((0, 2)), np.ones((0, 2)), ValueError, "at least 1"),
        ([[1]], [[np.nan]], ValueError, "1 values that are NaN"),
        ([[-1]], [[0.5]], TypeError, r"with the values \[-1\]"),
        ([["a"]], [[0.5]], TypeError, "`labels` must"),
        ([[1]], [["a"]], TypeError, "`scores` must"),
    ],
)
def test_what_is_refused(labels, scores, error, message):
    with pytest.raises(error, match=message):
        mean_average_precision(labels, scores)
