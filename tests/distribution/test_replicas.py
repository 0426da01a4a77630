"""R replicas with a batch of B / R are one replica with a batch of B.

`train.py` trains the same model in a process for each R, or in two workers,
with every augmentation, batch norm and a schedule. In float64 all of it agrees
to the last digits, which no wrong scale, draw, statistic or gradient would. In
float32 the order of a sum changes its last digit. That moves a few of a million
activations over the edge of their ReLU, and each of them changes a gradient by
a step: what was 1e-7 becomes the root of it. So float32 is compared with a
smooth function in the place of ReLU, where it agrees to its own rounding.
"""

import numpy as np
import pytest

from tests.distribution.cluster import cluster
from tests.distribution.results import (
    assert_equal_logs,
    assert_float64_equal,
    distance,
    finish,
    load,
    of_kind,
    start,
)

# A process for each, of minutes; test_compiles.py and test_loss_alone.py have
# the cheap form of it.
pytestmark = pytest.mark.slow
# What replicas do to gradients is the same for every optimizer; one of Keras's
# stands for the others.
CASES = [(1, "lars"), (4, "lars"), (2, "adamw")]


@pytest.mark.parametrize(("replicas", "optimizer"), CASES)
def test_float64_agrees_in_every_variable(trained, replicas, optimizer):
    run = f"float64_{optimizer}"
    assert_float64_equal(trained(replicas, run), trained(0, run))


def test_two_workers_equal_one_process(trained, tmp_path):
    runs = ["float64_lars"]
    paths = [tmp_path / f"worker_{i}.npz" for i in range(2)]
    workers = [
        start(1, path, runs, TF_CONFIG=config)
        for path, config in zip(paths, cluster())
    ]
    for worker in workers:
        finish(worker)
    for path in paths:
        arrays = load(path, runs)
        assert_float64_equal(arrays[runs[0]], trained(0, runs[0]))


@pytest.mark.parametrize(("replicas", "optimizer"), CASES[1:])
def test_float32_agrees_to_rounding(trained, replicas, optimizer):
    run = f"float32_{optimizer}:smooth"
    result, expected = trained(replicas, run), trained(0, run)
    assert_equal_logs(result, expected, rtol=1e-5)
    assert distance("weight", result, expected) < 1e-6
    assert distance("statistic", result, expected) < 1e-6
    # Sums of gradients, in which larger numbers have cancelled.
    assert distance("slot", result, expected) < 3e-5
    for kind in ("weight", "statistic", "slot"):
        for key, value in of_kind(expected, kind).items():
            # Small tensors too: some of them are such sums and nothing else.
            np.testing.assert_allclose(
                result[key],
                value,
                rtol=0,
                atol=2e-4 * max(np.abs(value).max(), 1e-12),
                err_msg=key,
            )


def test_bfloat16_agrees_to_its_rounding(trained):
    run = "mixed_bfloat16_lars"
    result, expected = trained(2, run), trained(0, run)
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
