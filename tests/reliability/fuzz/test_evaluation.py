"""Evaluation: any features, any labels, any argument."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from simclr_keras import evaluation
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import (
    BAD_DTYPES,
    DTYPES,
    Refused,
    attempt,
    positive,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:overflow encountered in cast"),
]

COUNTS = st.integers(1, 5000)


@st.composite
def feature_sets(draw, count=None, dim=None, least=1):
    count = draw(st.integers(least, 30)) if count is None else count
    dim = draw(st.integers(1, 6)) if dim is None else dim
    scale = draw(positive(1e-30, 1e30))
    values = draw(properties.values_in((count, dim), -scale, scale))
    if draw(st.booleans()):
        values[draw(st.integers(0, count - 1))] = 0
    if scale > 200:
        return values.astype(draw(st.sampled_from(["float32", "float64"])))
    dtype = draw(st.sampled_from(DTYPES))
    if dtype.startswith("uint"):
        values = np.abs(values)
    return properties.array_of(dtype, values)


@st.composite
def label_sets(draw, count, smallest=-3, largest=5):
    seed = draw(st.integers(0, 2**32 - 1))
    labels = np.random.default_rng(seed).integers(smallest, largest, count)
    dtypes = ["int64", "int32", "int8"]
    if smallest >= 0:
        dtypes += ["uint8", "uint64"]
    labels = labels.astype(draw(st.sampled_from(dtypes)))
    form = draw(st.sampled_from(["array", "column", "list"]))
    if form == "column":
        return labels[:, None]
    return labels.tolist() if form == "list" else labels


@st.composite
def anything(draw):
    dtype = draw(st.sampled_from((*DTYPES, *BAD_DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    values = draw(
        st.sampled_from([np.ones(shape), np.zeros(shape), np.full(shape, 7)])
    )
    if "float" in dtype and draw(st.booleans()):
        values = values * np.nan
    array = properties.array_of(dtype, values)
    return draw(st.one_of(properties.odd(), st.just(array)))


# Function -> the strategies of its arguments, besides features, and what the
# result must be.
LABEL_FREE = {
    evaluation.rank_me: (
        {},
        # A dimension that is not used adds 1.6e-6.
        lambda x, z, **_: 0.99 <= x <= min(z.shape) * (1 + 1e-4) + 1e-4,
    ),
    evaluation.feature_std: (
        {},
        lambda x, z, **_: 0 <= x <= z.shape[1] ** -0.5 + 1e-9,
    ),
    evaluation.uniformity: (
        {"t": positive(1e-3, 1e3)},
        lambda x, z, t=2, **_: -4 * t - 1e-6 <= x <= 1e-9,
    ),
    evaluation.alignment: (
        {"alpha": positive(1e-2, 10.0)},
        lambda x, z, alpha=2, **_: 0 <= x <= 2**alpha + 1e-9,
    ),
    evaluation.contrastive_accuracy: ({}, lambda x, z, **_: 0 <= x <= 1),
    evaluation.pair_similarity: (
        {},
        lambda x, z, **_: all(-1 - 1e-9 <= each <= 1 + 1e-9 for each in x),
    ),
}
OF_VIEWS = (
    evaluation.alignment,
    evaluation.contrastive_accuracy,
    evaluation.pair_similarity,
)
every_measure = pytest.mark.parametrize(
    "function", LABEL_FREE, ids=lambda f: f.__name__
)


@every_measure
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_without_labels(function, data):
    strategies, holds = LABEL_FREE[function]
    kwargs, bad = data.draw(
        properties.arguments(batch_size=COUNTS, **strategies)
    )
    z = data.draw(feature_sets(least=2))
    features = [z]
    if function in OF_VIEWS:
        features.append(data.draw(feature_sets(*z.shape)))
    result = attempt(function, *features, **kwargs)
    if result is Refused:
        assert bad is not None
        return
    assert np.isfinite(result).all()
    if bad is None:
        assert holds(result, z, **kwargs), result
        # The order of the images says nothing, nor do the batches.
        order = np.random.default_rng(0).permutation(len(z))
        kwargs["batch_size"] = data.draw(COUNTS)
        moved = function(*(np.asarray(x)[order] for x in features), **kwargs)
        np.testing.assert_allclose(moved, result, rtol=1e-6, atol=1e-8)


@every_measure
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_without_labels_of_anything(function, data):
    features = [data.draw(anything())]
    if function in OF_VIEWS:
        features.insert(data.draw(st.integers(0, 1)), np.ones((3, 2)))
    result = attempt(function, *features)
    if result is not Refused:
        assert np.isfinite(result).all()


def slow_neighbours(bank, queries, k):
    u, v = (np.asarray(x, "float64") for x in (bank, queries))
    u, v = (
        x / np.where(n > 0, n, 1)
        for x, n in (
            (x, np.linalg.norm(x, axis=1, keepdims=True)) for x in (u, v)
        )
    )
    return np.sort(v @ u.T, axis=1)[:, ::-1][:, :k]


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_nearest_neighbours(data):
    bank = data.draw(feature_sets(least=2))
    queries = None
    if data.draw(st.booleans()):
        queries = data.draw(feature_sets(dim=bank.shape[1]))
    kwargs, bad = data.draw(
        properties.arguments(k=st.integers(1, 50), batch_size=COUNTS)
    )
    found = attempt(evaluation.nearest_neighbours, bank, queries, **kwargs)
    if found is Refused:
        assert bad is not None
        return
    count = len(bank if queries is None else queries)
    k = min(int(kwargs.get("k", 10)), len(bank) - (queries is None))
    similarity = properties.check_finite(found.similarity, count, k)
    assert found.index.shape == (count, k)
    assert found.index.dtype == "int32"
    assert np.abs(similarity).max() <= 1
    assert found.index.min() >= 0
    assert found.index.max() < len(bank)
    if queries is None:
        assert (found.index != np.arange(count)[:, None]).all()
    else:
        expected = slow_neighbours(bank, queries, k)
        np.testing.assert_allclose(similarity, expected, atol=1e-5)


KNN = {
    "k": st.integers(1, 300),
    "temperature": positive(1e-3, 1e3),
    "batch_size": COUNTS,
    "top": st.integers(1, 9),
}


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_knn(data):
    train = data.draw(feature_sets(least=2))
    labels = data.draw(label_sets(len(train)))
    test = test_labels = None
    if data.draw(st.booleans()):
        test = data.draw(feature_sets(dim=train.shape[1]))
        test_labels = data.draw(label_sets(len(test)))
    kwargs, bad = data.draw(properties.arguments(**KNN))
    predicted = attempt(evaluation.knn_predict, train, labels, test, **kwargs)
    accuracy = attempt(
        evaluation.knn_accuracy, train, labels, test, test_labels, **kwargs
    )
    if predicted is Refused:
        assert bad is not None
        assert accuracy is Refused or (bad == "top" and kwargs["top"] is None)
        return
    classes = np.unique(labels)
    assert np.isin(predicted, classes).all()
    count = len(train if test is None else test)
    top = kwargs.get("top")
    shape = () if top is None else (min(int(top), len(classes)),)
    assert predicted.shape == (count, *shape)
    if accuracy is not Refused:
        assert 0 <= accuracy <= 1
    if bad is None and kwargs.get("k") == 1 and test is not None and not top:
        nearest = evaluation.nearest_neighbours(train, test, k=1).index[:, 0]
        expected = np.ravel(labels)[nearest]
        np.testing.assert_array_equal(predicted, expected)


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_knn_of_anything(data):
    names = ["train_features", "train_labels", "test_features", "test_labels"]
    kwargs = {
        "train_features": np.eye(4),
        "train_labels": np.arange(4),
        "test_features": np.eye(4),
        "test_labels": np.arange(4),
    }
    kwargs[data.draw(st.sampled_from(names))] = data.draw(anything())
    attempt(evaluation.nearest_neighbours, kwargs["test_features"])
    result = attempt(evaluation.knn_accuracy, **kwargs, k=1)
    if result is not Refused:
        assert 0 <= result <= 1


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_class_balanced_subset(data):
    count = data.draw(st.integers(1, 60))
    labels = data.draw(st.one_of(label_sets(count), anything()))
    kwargs, _ = data.draw(
        properties.arguments(
            optional=["seed"],
            num_per_class=st.integers(1, 6),
            seed=st.integers(0, 2**40),
        )
    )
    chosen = attempt(evaluation.class_balanced_subset, labels, **kwargs)
    if chosen is Refused:
        return
    labels = np.ravel(labels)
    classes, counts = np.unique(labels[chosen], return_counts=True)
    assert len(classes) == len(np.unique(labels))
    assert (counts == int(kwargs["num_per_class"])).all()
    assert len(np.unique(chosen)) == len(chosen)
    if kwargs.get("seed", 0) is not None:
        again = evaluation.class_balanced_subset(labels, **kwargs)
        np.testing.assert_array_equal(again, chosen)


LINEAR = {
    "l2_values": st.lists(positive(1e-6, 1e5), min_size=1, max_size=2),
    "few_labels_l2": positive(1e-6, 1e3),
    "validation_fraction": st.floats(0.1, 0.9),
    "max_iterations": st.integers(1, 5),
    "scale": st.booleans(),
    "seed": st.integers(0, 2**32 - 1),
}


@properties.fuzz(0.5)
@hypothesis.given(data=st.data())
def test_linear_evaluation(data):
    kwargs, bad = data.draw(properties.arguments(**LINEAR))
    kwargs.setdefault("l2_values", [1e-2])
    kwargs.setdefault("max_iterations", 3)
    count = data.draw(st.sampled_from([2, 5, 40, 90]))
    train = data.draw(feature_sets(count))
    labels = data.draw(label_sets(count, 0, 3))
    test = data.draw(feature_sets(dim=train.shape[1]))
    test_labels = data.draw(label_sets(len(test), 0, 3))
    result = attempt(
        evaluation.linear_evaluation, train, labels, test, test_labels, **kwargs
    )
    if result is Refused:
        assert bad is not None or len(np.unique(labels)) < 2
        return
    assert 0 <= result.accuracy <= 1
    assert np.isin(result.predicted, labels).all()
    assert result.predicted.shape == (len(test),)


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_linear_evaluation_of_anything(data):
    arguments = [np.eye(4), np.arange(4) % 2, np.eye(4), np.arange(4) % 2]
    arguments[data.draw(st.integers(0, 3))] = data.draw(anything())
    result = attempt(evaluation.linear_evaluation, *arguments, max_iterations=2)
    if result is not Refused:
        assert 0 <= result.accuracy <= 1


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_standardize(data):
    train = data.draw(st.one_of(feature_sets(), anything()))
    other = data.draw(anything())
    result = attempt(evaluation.standardize, train, other)
    if result is not Refused:
        for array in result:
            properties.check_finite(array)
    alone = attempt(evaluation.standardize, train)
    if alone is not Refused:
        (array,) = alone
        assert array.dtype == "float32"
        array = properties.check_finite(array)
        np.testing.assert_allclose(array.mean(axis=0), 0, atol=1e-2)


@properties.fuzz(0.1)
@hypothesis.given(data=st.data())
def test_label_efficiency(data):
    kwargs, bad = data.draw(
        properties.arguments(
            labels_per_class=st.lists(
                st.sampled_from([1, 2, 100, "all"]), max_size=2
            ),
            num_draws=st.integers(1, 2),
            l2_values=st.just([0.1]),
            k=st.integers(1, 5),
            temperature=positive(1e-2, 10.0),
            seed=st.integers(0, 99),
        )
    )
    features = np.random.default_rng(0).normal(size=(12, 3))
    labels = np.arange(12) % 3
    kwargs = {"max_iterations": 2, **kwargs}
    if bad == "num_draws" and isinstance(kwargs[bad], (int, float)):
        hypothesis.assume(not kwargs[bad] > 10)
    result = attempt(
        evaluation.label_efficiency,
        features,
        labels,
        features,
        labels,
        **kwargs,
    )
    if result is not Refused:
        assert 0 <= result["knn"]["mean"] <= 1
