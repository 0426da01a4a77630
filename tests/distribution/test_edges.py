"""Ragged batches, local batch norm, loops over steps."""

import json
import subprocess
import sys

import pytest

from tests.distribution import results

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("edges") / "found.json"
    subprocess.run(
        [sys.executable, results.SCRIPT.with_name("edges.py"), path],
        check=True,
        timeout=600,
        env=results.environment(),
    )
    return json.loads(path.read_text())


def test_uneven_last_batch_is_exact(found):
    # Of the largest value of each weight.
    assert found["ragged_float64"]["difference"] < 1e-10
    for policy in ("float64", "float32"):
        ragged = found[f"ragged_{policy}"]
        assert ragged["logs"] == pytest.approx(
            ragged["expected_logs"], rel=1e-5
        )
    assert "fit_probe_loss" in ragged["logs"]


def test_replica_without_images_is_refused(found):
    for case in ("one_over", "empty_replica"):
        assert "drop_remainder=True" in found[case], case
    assert found["one_over"].startswith("ValueError")


def test_local_batch_norm_is_warned_about(found):
    (warning,) = found["warnings"]
    assert "synchronize_batch_norm" in warning
    assert found["warnings_once_mended"] == 0


def test_steps_per_execution(found):
    assert found["steps_per_execution"].startswith("ValueError")
    assert "ReductionToOneDevice" in found["steps_per_execution"]
    assert found["steps_per_execution_works"] == "no error"
