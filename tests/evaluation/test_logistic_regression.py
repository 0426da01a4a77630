"""Logistic regression in chunks against scikit-learn's and NumPy's."""

import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.special
from sklearn.linear_model import LogisticRegression as ScikitLearn

from simclr_keras.evaluation import logistic_regression, standardize
from simclr_keras.evaluation.logistic_regression import LogisticRegression
from simclr_keras.evaluation.standardized_rows import (
    StandardizedRows,
    mean_and_deviation,
)
from tests.evaluation.problems import Problem, make_problem

FEW = [
    Problem(600, 2, 32, 0.2, num_test=5000),
    Problem(900, 3, 40, 0.3, decades=2, label_noise=0.2, num_test=5000),
    Problem(800, 20, 24, 0.5, decay=0.7, shape="relu", imbalance=5),
    Problem(300, 5, 400, 0.3),  # fewer rows than features
]
MANY = [
    Problem(n, classes, dim, signal, num_test=5000, **options)
    for (n, classes, dim, signal), options in itertools.product(
        [
            (1000, 2, 64, 0.15),
            (2000, 10, 128, 0.15),
            (2000, 30, 32, 0.5),
            (3000, 100, 64, 0.5),
            (4000, 200, 64, 0.6),
        ],
        [
            {},
            {"decay": 0.7, "shape": "relu"},
            {"label_noise": 0.3, "decades": 1},
            {"imbalance": 10, "clusters": 2},
            {"shape": "heavy"},
            {"decades": 2, "shape": "relu"},
        ],
    )
]


def rows_of(features, index=None):
    return StandardizedRows(features, *mean_and_deviation(features), index)


def loss(features, labels, weights, bias, l2):
    """What is minimised, in float64, of standardised features."""
    logits = features.astype("float64") @ weights.T + bias
    if logits.shape[1] == 1:
        logits = np.column_stack([np.zeros(len(logits)), logits])
    log_p = scipy.special.log_softmax(logits, axis=1)
    own = log_p[np.arange(len(labels)), labels]
    return -own.mean() + l2 / 2 * (weights**2).sum()


def predict(regression, rows):
    scores = np.concatenate(list(regression.scores(rows)))
    assert scores.dtype == np.float32
    assert scores.shape == (len(rows), regression.num_classes)
    return scores.argmax(axis=1)


def compare(problem, seed, l2, tolerance=1e-5):
    """Relative difference of the losses, and difference of accuracies."""
    train, labels, test, test_labels = make_problem(problem, seed)
    ours = LogisticRegression(
        rows_of(train), labels, problem.num_classes, 1000, tolerance
    )
    ours.fit(l2)
    scaled, scaled_test = standardize(train, test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ScikitLearn(C=1 / (l2 * len(labels)), max_iter=3000, tol=1e-6)
        theirs.fit(scaled.astype("float64"), labels)
    expected = loss(scaled, labels, theirs.coef_, theirs.intercept_, l2)
    found = loss(scaled, labels, ours.weights, ours.bias, l2)
    assert ours.loss == pytest.approx(found, rel=1e-5)
    accuracy = np.mean(predict(ours, ours.rows.of(test)) == test_labels)
    return found / expected - 1, accuracy - theirs.score(
        scaled_test, test_labels
    )


@pytest.mark.parametrize("l2", [0.1, 0.003])
@pytest.mark.parametrize("problem", FEW)
def test_finds_the_minimum_that_scikit_learn_finds(problem, l2):
    difference, gain = compare(problem, 0, l2)
    assert abs(difference) < 1e-4
    assert abs(gain) < 0.00201


@pytest.mark.slow  # 30 fits of each, to the minimum.
def test_finds_scikit_learns_minimum_of_many_problems():
    assert len(MANY) == 30
    found = [
        compare(each, seed, 0.1 if seed % 2 else 0.01)
        for seed, each in enumerate(MANY)
    ]
    difference, gain = np.array(found).T
    assert np.abs(difference).max() < 1e-4
    assert np.abs(gain).max() < 0.00201


@pytest.mark.parametrize("num_classes", [2, 7])
def test_derivatives_in_chunks_equal_float64(num_classes, monkeypatch):
    train, labels, _, _ = make_problem(Problem(500, num_classes, 20, 0.3))
    train = 3 * train + 50  # far from 0
    (scaled,) = standardize(train)
    rng = np.random.default_rng(0)
    vectors = 1 if num_classes == 2 else num_classes
    weights, bias = rng.normal(size=(vectors, 20)), rng.normal(size=vectors)
    logits = scaled.astype("float64") @ weights.T + bias
    if vectors == 1:
        logits = np.column_stack([np.zeros(500), logits])
    error = scipy.special.softmax(logits, axis=1) - np.eye(num_classes)[labels]
    error = error[:, -vectors:] / 500
    for chunk_bytes in (2**23, 4 * 20 * 64, 1):
        monkeypatch.setattr(logistic_regression, "_CHUNK_BYTES", chunk_bytes)
        regression = LogisticRegression(rows_of(train), labels, num_classes, 10)
        value, in_weights, in_bias = regression._cross_entropy(weights, bias)
        expected = loss(scaled, labels, weights, bias, 0)
        assert value == pytest.approx(expected, rel=2e-6)
        # Features of 50 have 6 digits behind the point.
        np.testing.assert_allclose(in_weights, error.T @ scaled, atol=2e-6)
        np.testing.assert_allclose(in_bias, error.sum(0), atol=2e-6)


def test_each_chunking_and_keeping_rows_gives_the_same(monkeypatch):
    train, labels, _, _ = make_problem(FEW[1])
    index = np.flatnonzero(np.arange(len(train)) % 3)
    found = []
    for is_accelerator, chunk_bytes, resident in (
        (False, 2**23, 0),
        (False, 4 * 40 * 100, 0),
        (True, 4 * 40 * 100, 0),
        (True, 4 * 40 * 100, 2**30),
    ):
        for name, value in (
            ("has_accelerator", lambda is_there=is_accelerator: is_there),
            ("_CHUNK_BYTES", chunk_bytes),
            ("_CHUNK_BYTES_ACCELERATOR", chunk_bytes),
            ("resident_bytes", lambda num_bytes=resident: num_bytes),
        ):
            monkeypatch.setattr(logistic_regression, name, value)
        regression = LogisticRegression(
            rows_of(train, index), labels[index], 3, 100, 1e-7
        )
        regression.fit(0.01)
        assert (regression._on_device is not None) == (resident > 0)
        found.append(regression.weights)
    for weights in found[1:]:
        np.testing.assert_allclose(weights, found[0], atol=1e-3)


def test_float16_and_memory_maps(tmp_path):
    train, labels, _, _ = make_problem(FEW[1])
    half = train.astype("float16")
    np.save(tmp_path / "half.npy", half)
    mapped = np.load(tmp_path / "half.npy", mmap_mode="r")
    found = []
    for features in (half.astype("float32"), half, mapped):
        regression = LogisticRegression(rows_of(features), labels, 3, 100)
        regression.fit(0.01)
        found.append(regression.weights)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_more_features_than_a_covariance_is_made_of(monkeypatch):
    monkeypatch.setattr(logistic_regression, "_MOST_FEATURES", 3)
    difference, _ = compare(FEW[0], 0, 0.01)
    assert abs(difference) < 1e-4


def test_the_next_fit_starts_from_the_last():
    train, labels, _, _ = make_problem(FEW[1])
    regression = LogisticRegression(rows_of(train), labels, 3, 100)
    passes = []
    for _ in range(2):
        before = regression.num_passes
        regression.fit(1e-3)
        passes.append(regression.num_passes - before)
    assert passes[1] < passes[0]


def test_features_that_do_not_vary():
    labels = np.arange(50) % 3
    regression = LogisticRegression(rows_of(np.ones((50, 4))), labels, 3, 10)
    regression.fit(1e-3)
    np.testing.assert_allclose(regression.weights, 0, atol=1e-6)
    assert regression.loss == pytest.approx(np.log(3), abs=1e-3)


PEAK = """
import resource
import numpy as np
from simclr_keras.evaluation import linear_evaluation

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

rng = np.random.default_rng(0)
labels = rng.integers(0, 10, 110_000)
few = rng.standard_normal((100, 512), "float32"), labels[:100]
options = {"l2_values": [1.0, 0.1], "solver": "keras", "max_iterations": 5}
linear_evaluation(*few, *few, **options)
before = peak()
features = rng.standard_normal((110_000, 512), "float32")
linear_evaluation(
    features[:100_000], labels[:100_000], features[100_000:], labels[100_000:],
    **options
)
print((peak() - before) / features.nbytes)
"""


@pytest.mark.slow  # 100,000 rows.
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
def test_memory_is_that_of_the_features():
    output = subprocess.check_output([sys.executable, "-c", PEAK], text=True)
    # 225 MB of them.
    assert float(output.split()[-1]) < 1.5


def test_many_regressions_are_no_retracing(caplog):
    """TensorFlow warns where one function is traced again and again."""
    rng = np.random.default_rng(0)
    for k in range(7):
        rows = rows_of(rng.normal(size=(40 + k, 3 + k)).astype("float32"))
        regression = LogisticRegression(rows, np.arange(40 + k) % 2, 2, 3)
        regression.fit(0.1)
    assert "retracing" not in caplog.text


@pytest.mark.parametrize("size", [1e-25, 1e18])
def test_huge_and_tiny_features(size):
    train, labels, _, _ = make_problem(FEW[2])
    expected = LogisticRegression(rows_of(train), labels, 20, 100)
    found = LogisticRegression(
        rows_of((size * train).astype("float32")), labels, 20, 100
    )
    for each in (expected, found):
        each.fit(0.01)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)


@pytest.mark.filterwarnings("ignore:Row 0 of the features")
def test_a_row_that_outweighs_all_others():
    train, labels, _, _ = make_problem(FEW[0])
    train = train.copy()
    train[0] *= 1e8
    regression = LogisticRegression(rows_of(train), labels, 2, 100)
    regression.fit(0.01)
    assert np.isfinite(regression.loss)
