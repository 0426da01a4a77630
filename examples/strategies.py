"""Where a run trains: on one device, several, several machines, or a TPU."""

import json
import os

import tensorflow as tf

import simclr_keras


class Workers:
    """The processes of a run, seen from one of them.

    Args:
        name: What `--strategy` may be.
            "none": one device.
            "mirrored": all GPUs of this machine, or `replicas` of them.
            "multi_worker": all GPUs of all machines. Every machine runs the
            same command with its own `TF_CONFIG`, and all of them must see the
            run folder.
            "tpu": the TPU called `tpu`.
        replicas: Integer or None. On a machine without a GPU, how many
            replicas "mirrored" makes on the CPU, to try it out.
        tpu: String, name or address of the TPU; "local" for that of this
            machine.

    Raises:
        ValueError: If something that the strategy needs is missing.
    """

    def __init__(self, name="none", replicas=None, tpu=""):
        if replicas is not None and name != "mirrored":
            raise ValueError(
                "--replicas goes with --strategy=mirrored. Received: "
                f"--strategy={name} --replicas={replicas}."
            )
        if replicas is not None and replicas < 1:
            raise ValueError(
                f"--replicas must be at least 1. Received: {replicas}."
            )
        self.is_multi_worker = name == "multi_worker"
        if name == "mirrored":
            self.strategy = _mirrored(replicas)
        elif name == "multi_worker":
            self.strategy = _multi_worker()
        elif name == "tpu":
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
            self.strategy = tf.distribute.TPUStrategy(resolver)
        else:
            self.strategy = tf.distribute.get_strategy()

    @property
    def num_replicas(self):
        """Devices that train together, on all machines."""
        return self.strategy.num_replicas_in_sync

    @property
    def is_chief(self):
        """Whether this process is the one that writes and evaluates."""
        return simclr_keras.distribution.is_chief(self.strategy)

    def wait_for_all(self):
        """Returns when every worker has called it."""
        if not self.is_multi_worker:
            return

        @tf.function
        def meet():
            replica = tf.distribute.get_replica_context()
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([1]))

        self.strategy.run(meet)


def local_copy(model):
    """A model with the same weights, on one device of this process.

    `predict` of a model of several workers would need all of them.
    """
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def _mirrored(replicas):
    gpus = tf.config.list_physical_devices("GPU")
    if gpus or replicas is None:
        if replicas is not None and replicas > len(gpus):
            raise ValueError(
                f"There are {len(gpus)} GPUs. Received: --replicas={replicas}."
            )
        devices = [f"GPU:{i}" for i in range(replicas or 0)]
        return tf.distribute.MirroredStrategy(devices or None)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def _multi_worker():
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    if "worker" not in config.get("cluster", {}) or "task" not in config:
        raise ValueError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG "
            'on every machine, such as {"cluster": {"worker": ["10.0.0.1:2222",'
            ' "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG')!r}."
        )
    return tf.distribute.MultiWorkerMirroredStrategy()
