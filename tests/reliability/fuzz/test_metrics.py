"""Metrics: any argument, any projections."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from simclr_keras import metrics
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import Refused, attempt, positive
from tests.reliability.fuzz.test_losses import anything, projections

pytestmark = pytest.mark.slow

METRICS = {
    metrics.ContrastiveAccuracy: {},
    metrics.ContrastiveEntropy: {"temperature": positive(1e-3, 1e3)},
}
every_metric = pytest.mark.parametrize(
    "cls", METRICS, ids=lambda cls: cls.__name__
)


def expected(metric, z_i, z_j):
    u, v = (np.asarray(z, "float64") for z in (z_i, z_j))
    lengths = [np.linalg.norm(z, axis=1, keepdims=True) for z in (u, v)]
    u, v = (z / np.where(n > 1e-12, n, np.inf) for z, n in zip((u, v), lengths))
    s = u @ v.T
    if isinstance(metric, metrics.ContrastiveEntropy):
        p = np.exp((s - s.max(axis=1, keepdims=True)) / metric.temperature)
        p /= p.sum(axis=1, keepdims=True)
        return -np.mean(np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1))
    return np.mean(s.argmax(axis=1) == np.arange(len(s)))


@every_metric
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_arguments_and_projections(cls, data):
    kwargs, bad = data.draw(properties.arguments(**METRICS[cls]))
    metric = attempt(cls, **kwargs)
    if metric is Refused:
        assert bad is not None
        return
    metric = cls.from_config(metric.get_config())
    z_i, z_j = data.draw(projections(least=1))
    metric.update_state(z_i, z_j)
    found = float(properties.check_finite(metric.result(), *()))
    if cls is metrics.ContrastiveAccuracy:
        assert 0 <= found <= 1
    else:
        assert -1e-5 <= found <= np.log(len(z_i)) * (1 + 1e-5) + 1e-5


@every_metric
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_loops(cls, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count, dim = data.draw(st.integers(1, 40)), data.draw(st.integers(2, 6))
    z = rng.normal(size=(2, count, dim))
    metric = cls(dtype="float64")
    metric.update_state(*z)
    assert float(metric.result()) == pytest.approx(
        expected(metric, *z), abs=1e-6
    )


@every_metric
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_what_are_no_projections(cls, data):
    z = np.ones((4, 3), "float32")
    value = data.draw(anything())
    which = data.draw(st.sampled_from(["z_i", "z_j", "both", "weights"]))
    z_i = value if which in ("z_i", "both") else z
    z_j = value if which in ("z_j", "both") else z
    metric = cls()
    weights = value if which == "weights" else None
    result = attempt(metric.update_state, z_i, z_j, weights)
    if result is not Refused and which != "weights":
        properties.check_finite(metric.result())


@every_metric
@properties.fuzz(0.02)
@hypothesis.given(seed=st.integers(0, 99))
def test_large_batches(cls, seed):
    z = np.random.default_rng(seed).normal(size=(2, 8192, 2)).astype("float32")
    metric = cls()
    metric.update_state(*z)
    found = float(properties.check_finite(metric.result()))
    assert 0 <= found <= np.log(8192)
