"""What NT-Xent costs when a global batch is cut into replicas.

    python benchmarks/nt_xent_replicas.py --json=nt_xent_replicas.json

The loss of a global batch and its gradient with respect to the projections,
for each number of replicas in three ways, all of them in the dense form:

- cut: each replica compares its own 2n views with all 2N, as `NTXentLoss`
  does, all replicas in one process, on logical CPU devices under
  `tf.distribute.MirroredStrategy`. They share the cores and the memory, so
  that the total should stay what it is for one.
- one of them: the work of one replica alone, on projections that were gathered
  before: what a device of one's own would have to do and hold.
- whole: the alternative, in which every replica gathers and then computes all
  of 2N x 2N.

Each measurement is a process of its own, since a process can hold
MirroredStrategy of one size only, and its peak of memory never falls. The
processes alternate, and the median counts. Memory is the peak of the resident
set above what it was before the first step of this size.
"""

import json
import os
import resource
import statistics
import sys
import time
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import report
import tensorflow as tf
from absl import app, flags, logging

import simclr_keras
from simclr_keras import distribution

WAYS = ("cut", "one of them", "whole")

FLAGS = flags.FLAGS
flags.DEFINE_list("replicas", ["1", "2", "4"], "Numbers of replicas.")
flags.DEFINE_integer("batch_size", 4096, "Images of the global batch, N.")
flags.DEFINE_integer("dim", 128, "Of the projections.")
flags.DEFINE_integer("steps", 5, "Steps of a process; the median counts.")
flags.DEFINE_integer("runs", 3, "Processes of each; the median counts.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")
flags.DEFINE_enum("way", None, WAYS, "Measure this alone, as a child.")


def make_cut(strategy):
    """The loss of a replica's share, and its gradient."""
    loss = simclr_keras.NTXentLoss(block_size=None)

    def replica(z_i, z_j):
        with tf.GradientTape() as tape:
            tape.watch([z_i, z_j])
            value = loss(z_i, z_j)
        return value, tape.gradient(value, [z_i, z_j])

    return lambda z_i, z_j: strategy.run(replica, (z_i, z_j))


def make_whole(strategy):
    """As `make_cut`, with the loss of the global batch in each replica."""
    loss = simclr_keras.NTXentLoss(block_size=None)
    num_replicas = strategy.num_replicas_in_sync

    def replica(z_i, z_j):
        with tf.GradientTape() as tape:
            tape.watch([z_i, z_j])
            gathered = [distribution.all_gather(z) for z in (z_i, z_j)]
            # What is gathered already is not to be gathered again.
            with mock.patch.object(
                distribution, "num_replicas", return_value=1
            ):
                value = loss.call(*gathered)
            value = tf.reduce_mean(value) / num_replicas
        return value, tape.gradient(value, [z_i, z_j])

    return lambda z_i, z_j: strategy.run(replica, (z_i, z_j))


def make_one(others):
    """As `make_cut`, for one replica beside the projections of the others."""
    loss = simclr_keras.NTXentLoss(block_size=None)

    def gather(z):
        return tf.concat([z, others], axis=0)

    def replica(z_i, z_j):
        with tf.GradientTape() as tape:
            tape.watch([z_i, z_j])
            with mock.patch.object(distribution, "all_gather", gather):
                value = loss(z_i, z_j)
        return value, tape.gradient(value, [z_i, z_j])

    return replica


def split(strategy, z):
    """Rows of the global batch, as each replica holds its own."""
    shares = tf.split(z, strategy.num_replicas_in_sync)
    return strategy.experimental_distribute_values_from_function(
        lambda context: shares[context.replica_id_in_sync_group]
    )


def peak_mebibytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure(way, num_replicas):
    """One measurement, in this process."""
    logging.set_verbosity(logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    devices = num_replicas if way != "one of them" else 1
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * devices,
    )
    strategy = tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(devices)]
    )
    tf.random.set_seed(0)
    z = tf.random.normal((2, FLAGS.batch_size, FLAGS.dim))
    share = FLAGS.batch_size // num_replicas
    if way == "one of them":
        others = tf.math.l2_normalize(z[0, share:], axis=-1)
        function = tf.function(make_one(others))
        views = z[0, :share], z[1, :share]
    else:
        make = make_cut if way == "cut" else make_whole
        function = tf.function(make(strategy))
        views = split(strategy, z[0]), split(strategy, z[1])

    def step():
        loss, gradients = function(*views)
        losses = strategy.experimental_local_results(loss)
        gradients = strategy.experimental_local_results(gradients)
        norm = tf.linalg.global_norm(tf.nest.flatten(gradients))
        return float(tf.add_n(losses)), float(norm)

    # Starts the threads and the collectives.
    strategy.run(lambda: distribution.all_gather(tf.zeros((1, 1))))
    before = peak_mebibytes()
    loss, gradient_norm = step()
    seconds = []
    for _ in range(FLAGS.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds),
        "mebibytes": peak_mebibytes() - before,
        "loss": loss,
        "gradient_norm": gradient_norm,
    }


def measure_in_child(way, num_replicas):
    names = ("batch_size", "dim", "steps")
    return report.of_child(
        __file__,
        *(f"--{name}={FLAGS[name].value}" for name in names),
        f"--way={way}",
        f"--replicas={num_replicas}",
    )


def main(_):
    counts = [int(count) for count in FLAGS.replicas]
    if any(FLAGS.batch_size % count for count in counts):
        raise app.UsageError("--replicas must divide --batch_size.")
    if FLAGS.way:
        print(json.dumps(measure(FLAGS.way, counts[0])))
        return
    # One replica is all of them, and all that it computes is whole.
    cases = [(w, r) for r in counts for w in WAYS if r > 1 or w == "cut"]
    runs = [
        {case: measure_in_child(*case) for case in cases}
        for _ in range(FLAGS.runs)
    ]
    print(f"{FLAGS.batch_size} images, projections of {FLAGS.dim} numbers\n")
    print("replicas      2n x 2N   way           seconds   peak memory")
    results = []
    for way, r in cases:
        result = {
            "replicas": r,
            "way": way,
            "matrix_mebibytes": 16 * FLAGS.batch_size**2 / r / 2**20,
            **{
                key: statistics.median(run[way, r][key] for run in runs)
                for key in runs[0][way, r]
            },
        }
        results.append(result)
        print(
            f"{r:8} {result['matrix_mebibytes']:8.0f} MiB   {way:12} "
            f"{result['seconds']:8.2f} {result['mebibytes']:9.0f} MiB"
        )
    for key in ("loss", "gradient_norm"):
        values = [r[key] for r in results if r["way"] != "one of them"]
        print(
            f"{key} is {values[0]:.6g}, the same for all within "
            f"{(max(values) - min(values)) / max(values):.1e}"
        )
    report.write_json(
        FLAGS.json,
        benchmark="nt_xent_replicas",
        batch_size=FLAGS.batch_size,
        dim=FLAGS.dim,
        steps=FLAGS.steps,
        runs=FLAGS.runs,
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
