"""Micro-batches on replicas are one device with the whole batch."""

import subprocess
import sys

import numpy as np
import pytest

from tests.distribution import results
from tests.distribution.micro_batches import RUNS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dictionary of logs and variables for each run."""
    path = tmp_path_factory.mktemp("micro_batches") / "arrays.npz"
    script = results.SCRIPT.with_name("micro_batches.py")
    subprocess.run(
        [sys.executable, script, path],
        check=True,
        timeout=600,
        env=results.environment(),
    )
    loaded = results.load(path, [str(i) for i in range(len(RUNS))])
    return {run: loaded[str(i)] for i, run in enumerate(RUNS)}


@pytest.mark.parametrize("run", RUNS[1:])
def test_equal_in_every_variable(trained, run):
    found, expected = trained[run], trained[RUNS[0]]
    assert set(found) == set(expected)
    for key, value in expected.items():
        # float64, which adds up in another order.
        np.testing.assert_allclose(
            found[key], value, rtol=0, atol=1e-10, err_msg=key
        )
