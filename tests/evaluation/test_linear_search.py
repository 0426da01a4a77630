"""The search over l2 against scikit-learn's fits from scratch, all of them."""

import itertools
import warnings

import numpy as np
import pytest
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from simclr_keras.evaluation import linear_evaluation, standardize
from simclr_keras.evaluation.subsets import validation_split
from tests.evaluation.problems import Problem, make_problem

L2_VALUES = np.logspace(5, -6, 45)
# Those of the review, where a search that stopped early lost up to 77 points.
REVIEWED = [Problem(1000, 10, 32, 0.5), Problem(2000, 100, 64, 0.5)]
HARD = [
    Problem(1000, 10, 32, 0.1),  # little above chance
    Problem(600, 2, 200, 0.1),  # more features than the signal has
    Problem(500, 5, 64, 0.3, decades=2),
    Problem(1000, 10, 32, 0.5, label_noise=0.3, imbalance=20),
    Problem(1000, 10, 64, 0.4, clusters=3, shape="relu"),
]
MANY = [
    Problem(n, classes, dim, signal, **options)
    for (n, classes, dim), signal, options in itertools.product(
        [(400, 2, 16), (1000, 10, 32), (1500, 50, 64), (600, 10, 128)],
        [0.15, 0.4, 1.0],
        [
            {},
            {"decay": 0.7, "shape": "relu"},
            {"label_noise": 0.3, "decades": 1},
        ],
    )
]


def exhaustive(train, labels, test, test_labels):
    """Accuracy with the l2 that is best on the same validation split."""
    train, test = standardize(train, test)
    held_out = validation_split(labels, 0.2)

    def score(l2, rows, others, answers):
        classifier = LogisticRegression(
            C=1 / (l2 * len(labels[rows])), max_iter=2000
        )
        classifier.fit(train[rows], labels[rows])
        return classifier.score(others, answers)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        tried = {
            l2: score(l2, ~held_out, train[held_out], labels[held_out])
            for l2 in L2_VALUES
        }
        equals = [l2 for l2 in tried if tried[l2] == max(tried.values())]
        middle = equals[len(equals) // 2]
        return score(middle, slice(None), test, test_labels)


def differences(problems):
    with threadpoolctl.threadpool_limits(1):
        for seed, problem in enumerate(problems):
            data = make_problem(problem, seed)
            yield linear_evaluation(*data).accuracy - exhaustive(*data)


@pytest.mark.parametrize(
    "problem",
    [
        *(REVIEWED + HARD)[:4],
        *(
            pytest.param(problem, marks=pytest.mark.slow)
            for problem in HARD[2:]
        ),
    ],
)
def test_no_search_finds_more(problem):
    (difference,) = differences([problem])
    # L-BFGS ends a little beside the minimum, by way of other starts: of two
    # values that are nearly as good, another may then be chosen.
    assert difference >= -0.02


@pytest.mark.slow  # 36 problems, 90 fits each.
def test_no_search_finds_more_on_many_problems():
    found = np.array(list(differences(MANY)))
    assert len(found) >= 30
    # Fits from scratch may find less, at the strongest values, where they end
    # before the weights tell the classes apart.
    assert found.min() >= -0.02
    assert found.mean() >= -0.002
