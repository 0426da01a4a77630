"""Which of several workers writes."""

from unittest import mock

import pytest
import tensorflow as tf

from simclr_keras import distribution

WORKERS = ["a:1", "b:1"]


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({"worker": WORKERS}, ("worker", 0), True),
        ({"worker": WORKERS}, ("worker", 1), False),
        ({"chief": ["c:1"], "worker": WORKERS}, ("chief", 0), True),
        ({"chief": ["c:1"], "worker": WORKERS}, ("worker", 0), False),
    ],
)
def test_one_worker_is_the_chief(cluster, task, expected):
    # A real one would wait for the other workers.
    strategy = mock.create_autospec(
        tf.distribute.MultiWorkerMirroredStrategy, instance=True
    )
    strategy.num_replicas_in_sync = 2
    strategy.extended.worker_devices = ("CPU:0",)
    resolver = tf.distribute.cluster_resolver
    strategy.cluster_resolver = resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), task_type=task[0], task_id=task[1]
    )
    assert distribution.is_chief(strategy) is expected


def test_a_single_process_is_the_chief():
    assert distribution.is_chief()
    assert distribution.is_chief(tf.distribute.MirroredStrategy(["CPU:0"]))
