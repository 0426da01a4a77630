"""R replicas with a batch of B / R are one replica with a batch of B.

`train.py` trains the same model in a process for each R, with every
augmentation, batch norm and a schedule. In float64 all of it agrees to the
last digits, which no wrong scale, draw, statistic or gradient would. In float32
the order of a sum changes its last digit, and training amplifies that where a
ReLU is near 0: the same images in another order on one device are the measure
of it.
"""

import numpy as np
import pytest

from tests.distribution.results import (
    PERMUTED,
    assert_equal_logs,
    assert_float32_close,
    assert_float64_equal,
    distance,
)

REPLICAS = [
    pytest.param(1, marks=pytest.mark.slow),
    2,
    pytest.param(4, marks=pytest.mark.slow),
]
OPTIMIZERS = [
    "lars",
    pytest.param("sgd", marks=pytest.mark.slow),
    pytest.param("adamw", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("replicas", REPLICAS)
def test_float64_agrees_in_every_variable(trained, replicas, optimizer):
    run = f"float64_{optimizer}"
    assert_float64_equal(trained(replicas, run), trained(0, run))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("replicas", REPLICAS)
def test_float32_agrees_to_rounding(trained, replicas, optimizer):
    run = f"float32_{optimizer}"
    # Over four replicas, a fourth of the images each, rounding is such that
    # LARS's run leaves the others after a few steps; float64's does not.
    tolerances = {"weights": 1e-4, "slots": 5e-2} if replicas == 4 else {}
    assert_float32_close(trained(replicas, run), trained(0, run), **tolerances)


def test_float32_rounding_on_one_device_is_as_large(trained):
    """The tolerances are those of the arithmetic, not of replicas."""
    permuted, expected = trained(0, PERMUTED), trained(0, "float32_lars")
    floor = distance("slot", permuted, expected)
    assert 1e-6 < floor < 1e-3
    assert distance("slot", trained(2, "float32_lars"), expected) < 10 * floor


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 4])
def test_bfloat16_agrees_to_its_rounding(trained, replicas):
    run = "mixed_bfloat16_lars"
    result, expected = trained(replicas, run), trained(0, run)
    # Eight bits of mantissa, 4e-3, in every layer; an accuracy over 32 images
    # moves by whole images.
    assert_equal_logs(
        {k: v for k, v in result.items() if "accuracy" not in k},
        {k: v for k, v in expected.items() if "accuracy" not in k},
        rtol=5e-3,
    )
    assert distance("weight", result, expected) < 5e-3
    assert distance("statistic", result, expected) < 2e-2


def test_training_moves_everything(trained):
    """What is compared is not a model that stood still."""
    arrays = trained(0, "float64_lars")
    assert np.ptp(arrays["log/loss"]) > 1e-3
    weights = [v for k, v in arrays.items() if k.startswith("weight/")]
    assert all(np.any(v != 0) for v in weights)
