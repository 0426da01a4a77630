"""Ragged batches, local batch norm, loops over steps."""

import json
import subprocess
import sys

import pytest

from tests.distribution import results
from tests.distribution.edges import RAGGED

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
    assert found["ragged_float64_views"]["difference"] < 1e-10
    for policy, probe_on in RAGGED:
        ragged = found[f"ragged_{policy}_{probe_on}"]
        assert ragged["logs"] == pytest.approx(
            ragged["expected_logs"], rel=1e-5
        )
        assert "fit_probe_loss" in ragged["logs"]
    on_views = found["ragged_float32_views"]["logs"]
    assert on_views["fit_probe_loss"] != ragged["logs"]["fit_probe_loss"]


@pytest.mark.parametrize("name", ["mean", "sum", "function"])
def test_a_loss_that_is_a_scalar_of_uneven_replicas(found, name):
    replicas, one = found["scalar_losses"][name]
    assert replicas == pytest.approx(one, rel=1e-5)  # float32


def test_replica_without_images_is_refused(found):
    for case in ("one_over", "empty_replica"):
        assert "drop_remainder=True" in found[case], case
    assert found["one_over"].startswith("ValueError")


@pytest.mark.parametrize("where", ["encoder", "head", "late"])
def test_local_batch_norm_is_warned_about_once(found, where):
    ((warning, filename),) = found["warnings"][where]
    assert "one replica's images alone" in warning
    assert filename.endswith("edges.py")
    assert not found["warnings"]["mended"]


def test_overflow_on_one_replica_is_one_of_all(found):
    # Keras halves the scale and leaves the step out.
    assert found["overflow"]["scales"] == [2.0**8, 2.0**7]
    assert found["overflow"]["stayed"]


def test_a_step_that_one_replica_spoils_is_left_out_on_all(found):
    with_it, without = found["left_out"]
    # float32: the loss is scaled by a half after the step.
    for name, value in without["logs"].items():
        assert with_it["logs"][name] == pytest.approx(value, rel=1e-5), name
    assert len(without["statistics"]) == 4  # Two, on two replicas.
    assert len(set(without["statistics"])) == 4
    assert with_it["statistics"] == pytest.approx(
        without["statistics"], rel=1e-5
    )


def test_a_batch_for_every_replica_is_refused(found):
    assert found["train_on_batch"].startswith("ValueError")
    assert "`fit` or `evaluate`" in found["train_on_batch"]


@pytest.mark.parametrize(
    "name", ["gradient_accumulation_steps", "ema_overwrite_frequency"]
)
def test_what_optimizers_do_now_and_then_is_refused(found, name):
    assert found[name].startswith("ValueError")
    assert f"{name}=2" in found[name]


def test_steps_per_execution(found):
    assert found["steps_per_execution"].startswith("ValueError")
    assert "ReductionToOneDevice" in found["steps_per_execution"]
    assert found["steps_per_execution_works"] == "no error"
