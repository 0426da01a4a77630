import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import WarmupCosineDecay, scaled_learning_rate
from tests import checks


def twin(step, peak, total, warmup):
    """The docstring's formula by cases, in float64."""
    if step < warmup:
        return peak * step / warmup
    if step < total:
        return (
            peak
            * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
            / 2
        )
    return 0.0


@pytest.mark.parametrize(
    ("total", "warmup"),
    [(100, 10), (31_250, 3_125), (100, 0), (100, 1), (1, 0), (10, 9), (4, 4)],
)
@pytest.mark.parametrize("peak", [4.8, 0.0])
def test_equals_the_formula(peak, total, warmup):
    schedule = WarmupCosineDecay(peak, total, warmup)
    steps = {0, 1, warmup - 1, warmup, warmup + 1, total // 2}
    steps |= {total - 1, total, total + 1, 10 * total}
    for step in steps - {-1}:
        # float32: the cosine is right to 1e-7.
        assert float(schedule(step)) == pytest.approx(
            twin(step, peak, total, warmup), abs=1e-6 * max(peak, 1)
        )


def test_the_whole_may_be_warm_up():
    schedule = WarmupCosineDecay(2.0, total_steps=4, warmup_steps=4)
    rates = [float(schedule(step)) for step in range(4)]
    assert rates == [0.0, 0.5, 1.0, 1.5]


def test_without_warm_up_step_0_has_the_peak():
    assert float(WarmupCosineDecay(4.8, 100)(0)) == pytest.approx(4.8)
    assert float(WarmupCosineDecay(4.8, 100, 10)(0)) == 0


def test_equals_kerass_cosine_decay():
    peak, total, warmup = 4.8, 1000, 100
    ours = WarmupCosineDecay(peak, total, warmup)
    keras_ = keras.optimizers.schedules.CosineDecay(
        0.0, total - warmup, warmup_target=peak, warmup_steps=warmup
    )
    for step in range(0, total + 50, 7):
        # Both are float32.
        assert float(ours(step)) == pytest.approx(float(keras_(step)), abs=5e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_steps_of_any_dtype_in_a_graph(dtype):
    schedule = WarmupCosineDecay(4.8, 100, 10)
    rate = tf.function(schedule)(tf.constant(55, dtype))
    assert rate.dtype == "float32"
    assert float(rate) == pytest.approx(2.4, abs=1e-6)


def test_drives_an_optimizer():
    variable = keras.Variable(np.zeros(1, "float32"))
    optimizer = keras.optimizers.SGD(WarmupCosineDecay(1.0, 6, 2))
    steps = []
    for _ in range(7):
        before = variable.numpy()
        optimizer.apply([tf.ones(1)], [variable])
        steps.append(float(before[0] - variable.numpy()[0]))
    expected = [twin(step, 1.0, 6, 2) for step in range(7)]
    np.testing.assert_allclose(steps, expected, atol=1e-6)  # float32


def test_configuration():
    arguments = {
        "peak_learning_rate": 0.7,
        "total_steps": 50,
        "warmup_steps": 5,
        "name": "a_name",
    }
    schedule = WarmupCosineDecay(**arguments)
    checks.check_config(schedule, arguments)
    copy = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(schedule)
    )
    assert float(copy(17)) == float(schedule(17))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, 100, 10), "Received: peak_learning_rate=-0.1"),
        ((float("nan"), 100, 10), "Received: peak_learning_rate=nan"),
        ((float("inf"), 100, 10), "Received: peak_learning_rate=inf"),
        ((1.0, 0, 0), "Received: total_steps=0"),
        ((1.0, -5), "Received: total_steps=-5"),
        ((1.0, 100, -1), "Received: warmup_steps=-1"),
        ((1.0, 100, 101), "Received: warmup_steps=101, total_steps=100"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosineDecay(*arguments)


# --- scaled_learning_rate --------------------------------------------------


def test_the_papers_numbers():
    # Section 2.2: 0.3 x 4096 / 256 = 4.8; Table B.1: 0.075 x sqrt(4096).
    assert scaled_learning_rate(0.3, 4096) == pytest.approx(4.8)
    assert scaled_learning_rate(0.075, 4096, "sqrt") == pytest.approx(4.8)


@pytest.mark.parametrize("batch_size", [1, 64, 256, 512, 8192])
def test_scalings(batch_size):
    assert scaled_learning_rate(0.3, batch_size, "linear") == pytest.approx(
        0.3 * batch_size / 256
    )
    assert scaled_learning_rate(0.2, batch_size, "sqrt") == pytest.approx(
        0.2 * batch_size**0.5
    )


@pytest.mark.parametrize("batch_size", [0, -8])
def test_batch_size_must_be_positive(batch_size):
    with pytest.raises(ValueError, match=f"Received: batch_size={batch_size}"):
        scaled_learning_rate(0.3, batch_size)


@pytest.mark.parametrize("base", [-0.3, float("nan"), float("inf")])
def test_base_must_be_a_finite_number(base):
    with pytest.raises(ValueError, match=f"Received: base={base}"):
        scaled_learning_rate(base, 256)


def test_base_may_be_0():
    assert scaled_learning_rate(0.0, 256) == 0.0


def test_scaling_must_be_known():
    with pytest.raises(ValueError, match="Received: scaling='cubic'"):
        scaled_learning_rate(0.3, 256, scaling="cubic")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peak_learning_rate", "0.1"),
        ("total_steps", None),
        ("warmup_steps", [1]),
    ],
)
def test_what_is_no_number(name, value):
    arguments = {"peak_learning_rate": 1.0, "total_steps": 9, name: value}
    with pytest.raises(TypeError, match=f"`{name}` must"):
        WarmupCosineDecay(**arguments)


def test_more_steps_than_integers_count():
    schedule = WarmupCosineDecay(0.5, 10**30, 10**29)
    assert float(schedule(0)) == 0
    assert 0 < float(schedule(10**9)) < 1e-20


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("base", "0.3", TypeError),
        ("batch_size", None, TypeError),
        ("batch_size", float("inf"), ValueError),
        ("batch_size", 10**400, ValueError),
        ("scaling", ["linear"], ValueError),
    ],
)
def test_what_is_not_scaled(name, value, error):
    with pytest.raises(error, match=f"`{name}` must"):
        scaled_learning_rate(**{"base": 0.3, "batch_size": 256, name: value})
