"""The fused batch norm on two replicas."""

import subprocess
import sys

import numpy as np
import pytest

from tests.distribution import results

KEYS = (
    "outputs",
    "input_gradient",
    "gamma_gradient",
    "beta_gradient",
    "moving_mean",
    "moving_variance",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("batch_norm") / "found.npz"
    subprocess.run(
        [sys.executable, results.SCRIPT.with_name("batch_norm.py"), path],
        check=True,
        timeout=300,
        env=results.environment(),
    )
    return dict(np.load(path))


def assert_same(found, one, other):
    for key in KEYS:
        # float32, 128 values a channel.
        np.testing.assert_allclose(
            found[f"{one}/{key}"],
            found[f"{other}/{key}"],
            rtol=1e-4,
            atol=1e-4,
            err_msg=key,
        )


@pytest.mark.parametrize("synchronized", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_equals_keras(found, replicas, synchronized):
    one, other = (
        f"{name}/{replicas}/{synchronized}" for name in ("fused", "keras")
    )
    assert_same(found, one, other)
    # Statistics over replicas are none of the kernel's.
    assert found[f"{one}/has_kernel"] == (replicas == 1 or not synchronized)
    assert not found[f"{other}/has_kernel"]


def test_two_replicas_equal_one_device(found):
    assert_same(found, "fused/2/True", "fused/1/True")
    # While local statistics are others.
    local = found["fused/2/False/outputs"]
    assert np.abs(local - found["fused/1/True/outputs"]).max() > 0.1
