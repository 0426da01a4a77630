"""LARS and the learning rate: any argument, any gradient."""

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

from simclr_keras import optimizers
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import Refused, attempt, positive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*which excludes nothing"),
]

PATTERNS = st.one_of(
    st.none(), st.lists(st.sampled_from(["kernel", "bias", "^x$", ""]))
)
LARS = {
    "learning_rate": st.floats(0, 10),
    "momentum": st.floats(0, 1),
    # Nothing else pulls at a weight without a gradient, however small it is:
    # none that float32 rounds to 0.
    "weight_decay": st.one_of(st.just(0.0), positive(1e-6, 1.0)),
    "trust_coefficient": positive(1e-6, 10.0),
    "nesterov": st.booleans(),
    "exclude": PATTERNS,
    "exclude_from_decay": PATTERNS,
    "exclude_from_trust_ratio": PATTERNS,
}
SHAPES = st.sampled_from([(), (1,), (3,), (0,), (2, 3), (1, 1), (2, 1, 3, 2)])
KINDS = st.sampled_from(["zeros", "normal", "huge", "tiny", "one"])


def numbers(kind, shape, seed):
    values = np.random.default_rng(seed).normal(size=shape)
    if kind == "one":
        values = np.where(np.arange(values.size).reshape(shape) == 0, 1.0, 0.0)
    scale = {"zeros": 0.0, "huge": 1e15, "tiny": 1e-25}.get(kind, 1.0)
    return np.asarray(values * scale, "float32")


def by_hand(w, gradients, optimizer, has_decay, has_trust):
    """The recursion of LARS's docstring, in float64."""
    w = np.asarray(w, "float64")
    v = np.zeros_like(w)
    rate = float(optimizer.learning_rate)
    for g in np.asarray(gradients, "float64"):
        if has_decay:
            g = g + optimizer.weight_decay * w
        trust = 1.0
        norms = np.linalg.norm(w), np.linalg.norm(g)
        if has_trust and min(norms) > 0:
            trust = optimizer.trust_coefficient * norms[0] / norms[1]
        step = rate * trust * g
        v = optimizer.momentum * v + step
        w = w - (optimizer.momentum * v + step if optimizer.nesterov else v)
    return w


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_lars(data):
    kwargs, bad = data.draw(properties.arguments(**LARS))
    optimizer = attempt(optimizers.LARS, **kwargs)
    if optimizer is Refused:
        assert bad is not None
        return
    if bad == "learning_rate":
        return  # A schedule or callable, which Keras asks for it.
    optimizer = optimizers.LARS.from_config(optimizer.get_config())
    shape, seed = data.draw(SHAPES), data.draw(st.integers(0, 999))
    kinds = [data.draw(KINDS) for _ in range(3)]
    start, *gradients = (
        numbers(kind, shape, seed + k) for k, kind in enumerate(kinds)
    )
    name = data.draw(st.sampled_from(["kernel", "bias", "x"]))
    dtype = data.draw(st.sampled_from(["float32", "float64", "float64"]))
    variable = keras.Variable(start, dtype=dtype, name=name)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply_gradients([(keras.ops.cast(gradient, dtype), variable)])
    found = properties.check_finite(variable, *shape)
    is_exact = dtype == "float64"
    if "tiny" in kinds and not is_exact:
        return  # Squares of float32 that are 0 make a norm of 0.
    expected = by_hand(
        start,
        gradients,
        optimizer,
        optimizer.has_decay[0],
        optimizer.has_trust_ratio[0],
    )
    scale = max(1.0, *(np.abs(x).max(initial=0) for x in (start, *gradients)))
    rtol = 1e-6 if is_exact else 1e-4  # Keras keeps the rate in float32.
    np.testing.assert_allclose(found, expected, rtol, atol=0.1 * rtol * scale)


@properties.fuzz()
@hypothesis.given(
    shape=SHAPES, seed=st.integers(0, 99), dtype=st.sampled_from("fd")
)
def test_zero_gradients_leave_weights_where_they_are(shape, seed, dtype):
    start = numbers("normal", shape, seed).astype(dtype)
    variable = keras.Variable(start, dtype=start.dtype.name, name="kernel")
    optimizer = optimizers.LARS(1.0)
    optimizer.build([variable])
    for _ in range(2):
        optimizer.apply_gradients([(np.zeros(shape, dtype), variable)])
    np.testing.assert_array_equal(variable, start)


@properties.fuzz()
@hypothesis.given(value=properties.odd())
def test_exclusions(value):
    optimizer = optimizers.LARS()
    attempt(optimizer.exclude_from_weight_decay, var_names=value)
    attempt(optimizer.exclude_from_weight_decay, var_list=value)


SCHEDULE = {
    "peak_learning_rate": st.one_of(st.just(0), positive(1e-6, 1e6)),
    "total_steps": st.integers(1, 10**9),
    "warmup_steps": st.integers(0, 10**9),
}


@properties.fuzz()
@hypothesis.given(
    arguments=properties.arguments(optional=["warmup_steps"], **SCHEDULE),
    step=st.one_of(st.integers(0, 2**31 - 1), st.integers(0, 100)),
)
def test_schedule(arguments, step):
    kwargs, bad = arguments
    schedule = attempt(optimizers.WarmupCosineDecay, **kwargs)
    if schedule is Refused:
        assert bad or kwargs["warmup_steps"] > kwargs["total_steps"]
        return
    schedule = type(schedule).from_config(schedule.get_config())
    found = float(properties.check_finite(schedule(step)))
    if bad is not None:
        return  # Half a step, say.
    peak, total = schedule.peak_learning_rate, schedule.total_steps
    warmup = schedule.warmup_steps
    if step < warmup:
        expected = peak * step / warmup
    else:
        # Nothing is left after the end, which a warm-up may last to.
        left = max(total - step, 0) / max(total - warmup, 1)
        progress = 1 - left
        expected = peak * (1 + np.cos(np.pi * progress)) / 2
    # float32 counts 2**24 steps, or every so many of more.
    rough = 1e-5 + 4 * step / 2**24 / max(warmup, total - warmup, 1)
    assert found == pytest.approx(expected, rel=1e-4, abs=rough * peak)
    assert 0 <= found <= peak * (1 + 1e-6)


@properties.fuzz()
@hypothesis.given(
    arguments=properties.arguments(
        optional=["scaling"],
        base=st.one_of(st.just(0), positive(1e-6, 1e6)),
        batch_size=st.integers(1, 2**31),
        scaling=st.sampled_from(["linear", "sqrt"]),
    )
)
def test_scaled_learning_rate(arguments):
    kwargs, bad = arguments
    rate = attempt(optimizers.scaled_learning_rate, **kwargs)
    if rate is Refused:
        assert bad is not None
        return
    assert isinstance(rate, float)
    assert np.isfinite(rate)
    size = kwargs["batch_size"]
    factor = size / 256
    if kwargs.get("scaling") == "sqrt":
        factor = np.sqrt(size)
    assert rate == pytest.approx(kwargs["base"] * factor)
