import sys

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from simclr_keras.evaluation import linear, linear_evaluation, standardize
from tests.evaluation.blobs import make_blobs


def predict_by_hand(train, labels, test, l2):
    """The minimum of the objective in the docstring, in float64."""
    train, test = train.astype("float64"), test.astype("float64")
    num_classes = labels.max() + 1
    targets = np.eye(num_classes)[labels]

    def objective(flat):
        weights = flat.reshape(num_classes, -1)  # the last column is b
        logits = train @ weights[:, :-1].T + weights[:, -1]
        log_p = logits - scipy.special.logsumexp(logits, 1, keepdims=True)
        value = -(targets * log_p).sum(1).mean()
        value += l2 / 2 * (weights[:, :-1] ** 2).sum()
        delta = (np.exp(log_p) - targets) / len(train)
        gradient = np.c_[delta.T @ train, delta.sum(0)]
        gradient[:, :-1] += l2 * weights[:, :-1]
        return value, gradient.ravel()

    start = np.zeros(num_classes * (train.shape[1] + 1))
    flat = scipy.optimize.minimize(objective, start, jac=True, tol=1e-10).x
    weights = flat.reshape(num_classes, -1)
    return (test @ weights[:, :-1].T + weights[:, -1]).argmax(1)


@pytest.mark.parametrize("l2", [1e-3, 0.1, 3.0])
def test_minimises_the_stated_objective(l2):
    train, labels, test, test_labels = make_blobs()
    scaled_train, scaled_test = standardize(train, test)
    expected = predict_by_hand(scaled_train, labels, scaled_test, l2)
    result = linear_evaluation(train, labels, test, test_labels, l2_values=[l2])
    assert result.l2 == l2
    # One of 150 images may lie within L-BFGS's tolerance of a border.
    assert abs(result.accuracy - np.mean(expected == test_labels)) < 1.5 / 150


def test_takes_the_best_of_the_values_and_the_middle_one_of_equals():
    train, labels, test, test_labels = make_blobs()
    result = linear_evaluation(
        train, labels, test, test_labels, l2_values=[1e-3, 1e6, 1e-4, 0.1]
    )
    tried = result.validation_accuracy
    assert list(tried) == [1e6, 0.1, 1e-3, 1e-4]
    best = max(tried.values())
    equals = [l2 for l2 in tried if tried[l2] == best]
    assert result.l2 == equals[len(equals) // 2]
    assert min(tried.values()) < best


def test_the_papers_values_are_the_default():
    values = linear_evaluation(*make_blobs()).validation_accuracy
    assert len(values) == 45
    assert max(values) == pytest.approx(1e5)
    assert min(values) == pytest.approx(1e-6)


@pytest.mark.parametrize("per_class", [1, 2, 10])
def test_few_labels_take_the_fixed_value(per_class):
    train, labels, test, test_labels = make_blobs(num_train=5 * per_class)
    result = linear_evaluation(
        train, labels, test, test_labels, few_labels_l2=0.01
    )
    assert result.l2 == 0.01
    assert result.validation_accuracy == {}
    assert result.accuracy > 0.3  # chance is 0.2
    default = linear_evaluation(train, labels, test, test_labels)
    assert default.l2 == 1e-3


def test_a_rare_class_does_not_stop_the_validation():
    train, labels, test, test_labels = make_blobs()
    labels = labels.copy()
    labels[:2] = 77  # two images of a sixth class
    result = linear_evaluation(
        train, labels, test, test_labels, l2_values=[0.1, 0.01]
    )
    assert len(result.validation_accuracy) == 2


def test_features_of_any_scale_give_the_same():
    train, labels, test, test_labels = make_blobs()
    first = linear_evaluation(
        train, labels, test, test_labels, l2_values=[0.01]
    )
    second = linear_evaluation(
        1000 * train + 5, labels, 1000 * test + 5, test_labels, l2_values=[0.01]
    )
    assert abs(first.accuracy - second.accuracy) < 1.5 / 150


@pytest.mark.parametrize("solver", ["keras", "scikit-learn"])
def test_a_row_that_outweighs_all_others_is_told(solver):
    train, classes, *test = make_blobs(100)
    train[17] *= 1e3
    with pytest.warns(UserWarning, match=r"Row 17 .* holds 99\.\d% of their"):
        linear_evaluation(train, classes, *test, solver=solver)
    with pytest.warns(
        UserWarning, match="Row 17 of the features holds"
    ) as told:
        standardize(train)
    assert told[0].filename == __file__  # and not a line of the library


def test_no_row_is_told_where_there_are_few_or_all_are_alike(recwarn):
    standardize(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    standardize(np.random.default_rng(0).normal(size=(20, 2)))
    standardize(np.ones((30, 2)))
    assert not recwarn


def test_the_seed_names_the_split():
    arguments = make_blobs()

    def tried(seed):
        return linear_evaluation(
            *arguments, l2_values=[0.1, 0.01, 0.001], seed=seed
        ).validation_accuracy

    assert tried(0) == tried(0)
    assert any(tried(0) != tried(seed) for seed in range(1, 4))


@pytest.mark.parametrize("solver", ["keras", "scikit-learn"])
def test_two_classes(solver):
    train, labels, test, test_labels = make_blobs(num_classes=2)
    result = linear_evaluation(
        train, labels, test, test_labels, l2_values=[0.1], solver=solver
    )
    assert result.accuracy > 0.7


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match=r"simclr_keras\[examples\]"):
        linear_evaluation(*make_blobs())


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_both_solvers_find_the_same(num_classes, scale):
    train, labels, test, test_labels = make_blobs(num_classes=num_classes)
    labels, test_labels = 7 * labels - 3, 7 * test_labels - 3
    found = [
        linear_evaluation(
            train.astype("float16"),
            labels,
            test,
            test_labels,
            l2_values=[1.0, 0.1, 0.01],
            scale=scale,
            solver=solver,
        )
        for solver in ("keras", "scikit-learn")
    ]
    ours, theirs = found
    # One of 150 images may lie within the tolerance of a border.
    assert np.sum(ours.predicted != theirs.predicted) <= 1
    assert ours.predicted.dtype == theirs.predicted.dtype == labels.dtype
    assert list(ours.validation_accuracy) == list(theirs.validation_accuracy)
    for l2, accuracy in ours.validation_accuracy.items():
        # Of 60 images.
        assert abs(accuracy - theirs.validation_accuracy[l2]) < 1.5 / 60


def test_large_sets_are_keras_s(monkeypatch):
    chosen = []
    for cls in ("LogisticRegression", "_ScikitLearn"):
        monkeypatch.setattr(
            getattr(linear, cls), "fit", lambda self, l2: chosen.append(self)
        )
        monkeypatch.setattr(
            getattr(linear, cls),
            "scores",
            lambda self, rows: [np.eye(5)[rows.array[:, 0].astype(int) * 0]],
        )
    for limit in (300 * 8, 300 * 8 + 1):
        monkeypatch.setattr(linear, "MIN_SIZE_FOR_KERAS", limit)
        linear_evaluation(*make_blobs(), l2_values=[0.1])
    names = [type(each).__name__ for each in chosen]
    assert names == 2 * ["LogisticRegression"] + 2 * ["_ScikitLearn"]


@pytest.mark.parametrize("solver", ["keras", "scikit-learn"])
def test_other_measures_by_a_loop(solver):
    train, labels, test, test_labels = make_blobs(
        num_train=400, num_test=200, num_classes=20
    )
    test_labels = test_labels.copy()
    test_labels[:7] = 99  # not among the training set's
    test, test_labels = test[:170], test_labels[:170]
    result = linear_evaluation(
        train, labels, test, test_labels, l2_values=[0.1], solver=solver
    )
    is_right = result.predicted == test_labels
    assert result.accuracy == np.mean(is_right)
    accuracies = [
        np.mean(is_right[test_labels == label]) for label in set(test_labels)
    ]
    assert 0.0 in accuracies
    assert result.mean_per_class_accuracy == pytest.approx(np.mean(accuracies))
    assert result.accuracy < result.top_5_accuracy < 1 - 6 / 170


def test_ranks_put_the_smaller_of_equals_first():
    class Fitted:
        def scores(self, rows):
            yield np.array([[1.0, 1.0, 0.0], [0.0, 3.0, 3.0]])
            yield np.array([[0.0, 0.0, 0.0]])

    best, rank = linear._best_and_rank(Fitted(), None, np.array([1, 0, -1]))
    assert best.tolist() == [0, 1, 0]
    assert rank.tolist() == [1, 2, 3]


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"SciPy.*simclr_keras\[examples\]"):
        linear_evaluation(*make_blobs(), solver="keras")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"l2_values": []}, r"l2_values=\[\]"),
        ({"l2_values": [0.1, 0]}, r"l2_values=\[0.1, 0\]"),
        ({"few_labels_l2": -1}, "few_labels_l2=-1"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"max_iterations": 0}, "max_iterations=0"),
    ],
)
def test_bad_arguments(argument, message):
    with pytest.raises(ValueError, match=message):
        linear_evaluation(*make_blobs(), **argument)


def test_one_class_is_no_task():
    train, _, test, test_labels = make_blobs()
    with pytest.raises(ValueError, match=r"at least two classes\. Received: 1"):
        linear_evaluation(train, np.zeros(300, int), test, test_labels)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("l2_values", 1.0, TypeError),
        ("l2_values", ["1"], ValueError),
        ("l2_values", [1e-320], ValueError),
        ("few_labels_l2", "1", TypeError),
        ("validation_fraction", "0.5", TypeError),
        ("max_iterations", "9", TypeError),
        ("max_iterations", 1.5, ValueError),
        ("scale", "no", TypeError),
        ("seed", -1, ValueError),
        ("seed", "a", TypeError),
        ("solver", "lbfgs", ValueError),
        ("solver", None, TypeError),
    ],
)
def test_arguments_that_scikit_learn_would_not_name(name, value, error):
    features, labels = np.eye(4), np.arange(4) % 2
    with pytest.raises(error, match=f"`{name}` must"):
        linear_evaluation(features, labels, features, labels, **{name: value})


def test_iterations_as_a_float():
    features, labels = np.eye(4), np.arange(4) % 2
    result = linear_evaluation(
        features, labels, features, labels, max_iterations=1e2
    )
    assert 0 <= result.accuracy <= 1


@pytest.mark.parametrize(
    ("train", "other", "error"),
    [
        (3.0, np.eye(2), ValueError),
        (np.eye(2), np.eye(3), ValueError),
        (np.eye(2), np.full((2, 2), np.nan), ValueError),
        (np.eye(2).astype(str), np.eye(2), TypeError),
    ],
)
def test_what_is_not_standardized(train, other, error):
    with pytest.raises(error, match="Received: "):
        standardize(train, other)
