"""Each function of `distribution`, of replicas whose shares are not alike."""

import json
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import distribution
from tests.distribution import results
from tests.distribution.cluster import cluster
from tests.distribution.functions import MANY, SIZES
from tests.distribution.tpu_stand_in import Lockstep

SCRIPT = results.SCRIPT.with_name("functions.py")
FIRST = np.cumsum((0, *SIZES))
TOTAL = sum(SIZES)
ROWS = np.arange(3.0 * TOTAL).reshape(-1, 3)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("functions") / "found.json"
    subprocess.run(
        [sys.executable, SCRIPT, path],
        check=True,
        timeout=300,
        env=results.environment(),
    )
    return json.loads(path.read_text())


def test_which_images_a_replica_has(found):
    for i, shares in enumerate(found["shares"]["tensors"]):
        assert shares == {
            "num_replicas": len(SIZES),
            "batch_sizes": list(SIZES),
            "sample_index": list(range(FIRST[i], FIRST[i + 1])),
            "first_index": FIRST[i],
            "global_batch_size": TOTAL,
            "in_scope": False,
        }
    for i, shares in enumerate(found["shares"]["fixed"]):
        assert shares["batch_sizes"] == [3, 3, 3]
        assert shares["sample_index"] == [3 * i, 3 * i + 1, 3 * i + 2]
        assert shares["global_batch_size"] == 9


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    # Half a unit in the last place of the quotient.
    [
        ("float16", 2**-11),
        ("bfloat16", 2**-8),
        ("float32", 2**-23),
        ("float64", 1e-15),
    ],
)
def test_shares_of_a_batch(found, dtype, rtol):
    for name, sizes in {"sizes": SIZES, "many": MANY}.items():
        of_replicas = [x[dtype] for x in found["shares_of_batch"][name]]
        assert [each[0] for each in of_replicas] == [dtype] * len(sizes)
        np.testing.assert_allclose(
            [each[1] for each in of_replicas],
            np.array(sizes) / sum(sizes),
            rtol=rtol,
        )


def test_rows_of_all_replicas_and_their_gradient(found):
    # Replica i weighs the sum of squares by i + 1; all of it flows back.
    gradient = 2 * ROWS * sum(i + 1 for i in range(len(SIZES)))
    assert found["gather"]["static"] == [[None, 3]] * len(SIZES)
    assert found["gather"]["rows"] == [ROWS.tolist()] * len(SIZES)
    np.testing.assert_allclose(
        np.concatenate(found["gather"]["gradient"]), gradient, rtol=1e-6
    )


def test_shares_of_a_mean(found):
    shares = [
        ROWS[FIRST[i] : FIRST[i + 1]].mean(axis=1).sum() / TOTAL
        for i in range(len(SIZES))
    ]
    np.testing.assert_allclose(found["means"], shares, rtol=1e-6)  # float32
    assert sum(shares) == pytest.approx(ROWS.mean())


def test_what_is_so_on_any_replica(found):
    for case, of_replicas in found["any_replica"].items():
        assert of_replicas == ["True" in case] * len(SIZES), case


def test_one_process_has_nobody_to_ask(found):
    assert found["any_worker"] == [True, False]
    assert found["is_chief"] is True


def test_the_share_that_one_replica_has(found):
    assert found["one_share"] == [0, 1]
    spec = {"image": [[None, 4, 4, 1], "float32"], "label": [[None], "int32"]}
    assert found["one_spec"] == [spec, spec]


def test_a_scope_is_no_replica(found):
    assert found["in_scope"] == [False, True]
    assert found["strategy_of"] is True
    assert found["in_a_scope"] == {
        "num_replicas": len(SIZES),
        "sample_index": [0, 1, 2],
        "share": 1.0,
    }


def test_nothing_is_refused_to_one_replica(found):
    assert set(found["checks"]["one"].values()) == {"no error"}


@pytest.mark.parametrize("kind", ["collective", "copying"])
def test_what_replicas_cannot_do(found, kind):
    said = found["checks"][kind]
    for name in ("plain", "ema", "frequency_alone"):
        assert said[name] == "no error", name
    for name in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
        assert said[name].startswith(f"ValueError: `{name}` does not"), name
        assert f"{name}=2" in said[name]
    assert (
        said["inner_ema_overwrite_frequency"] == said["ema_overwrite_frequency"]
    )
    assert said["jit_compile"].startswith("ValueError: `jit_compile=True`")


def test_steps_in_a_loop_need_another_reduction(found):
    assert found["checks"]["copying"]["steps_per_execution"] == "no error"
    said = found["checks"]["collective"]["steps_per_execution"]
    assert said.startswith("ValueError: `steps_per_execution` must be 1")
    assert said.endswith(
        "cross_device_ops=tf.distribute.ReductionToOneDevice()."
    )


def test_who_is_warned_of_local_batch_norm(found):
    assert not any(found["warnings"]["outside"].values())
    said = found["warnings"]["inside"]
    assert said["synchronized"] == said["mended"] == said["none"] == []
    ((message, filename),) = said["local"]
    assert message.startswith("1 batch norm layers of 'mine', the first 'mine'")
    assert filename.endswith("functions.py")
    ((message, _),) = said["second"]
    assert message.startswith("2 batch norm layers of 'both', the first 'first")


@pytest.mark.slow
def test_what_is_so_on_any_worker(tmp_path):
    paths = [tmp_path / f"{i}.json" for i in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, SCRIPT, path],
            env={**results.environment(), "TF_CONFIG": config},
            stderr=subprocess.PIPE,
            text=True,
        )
        for path, config in zip(paths, cluster())
    ]
    for worker in workers:
        results.finish(worker, timeout=120)
    for i, path in enumerate(paths):
        assert json.loads(path.read_text()) == {
            "is_chief": i == 0,
            "is_multi_worker": True,
            "any_worker": [True, True, True, False],
        }


# --- Strategies that are not here -------------------------------------------
def workers(num_replicas, devices_of_this_one):
    """A strategy as one of several workers has it."""
    strategy = mock.create_autospec(
        tf.distribute.MultiWorkerMirroredStrategy, instance=True
    )
    strategy.num_replicas_in_sync = num_replicas
    strategy.extended.worker_devices = devices_of_this_one
    return strategy


def test_several_workers_are_more_than_this_ones_devices():
    assert distribution.is_multi_worker(workers(2, ("CPU:0",)))
    assert distribution.is_multi_worker(workers(4, ("GPU:0", "GPU:1")))
    # A cluster of one.
    assert not distribution.is_multi_worker(workers(1, ("CPU:0",)))
    assert not distribution.is_multi_worker(workers(2, ("GPU:0", "GPU:1")))
    assert not distribution.is_multi_worker(None)
    assert not distribution.is_multi_worker(tf.distribute.get_strategy())


def test_workers_take_one_step_at_a_time():
    strategy, sgd = workers(2, ("CPU:0",)), keras.optimizers.SGD()
    distribution.check_fit(strategy, sgd, 1, False)
    # It compiles what each of them computes.
    distribution.check_fit(strategy, sgd, 1, True)
    with pytest.raises(ValueError, match=r"Leave it out of `compile`\.$"):
        distribution.check_fit(strategy, sgd, 2, False)


def test_replicas_of_a_tpu_have_shares_of_one_size():
    def replica(i):
        x = tf.fill((2, 3), float(i))
        return (
            distribution.batch_sizes(2),
            distribution.sample_index(2),
            distribution.all_gather(x),
        )

    rows = np.repeat([[0.0], [1.0], [2.0]], 2, axis=0) * np.ones(3)
    for i, (sizes, index, found) in enumerate(Lockstep(3).run(replica)):
        np.testing.assert_array_equal(sizes, [2, 2, 2])
        np.testing.assert_array_equal(index, [2 * i, 2 * i + 1])
        np.testing.assert_array_equal(found, rows)
