"""What NT-Xent costs, dense and in blocks.

    python benchmarks/loss.py --json=loss.json

The loss of a batch and its gradient with respect to the projections, with
`block_size` None (dense), numbers, and "auto", in a `tf.function`.

The ways alternate in a process for each size, and the median of the ratios to
the first of them counts. Memory is measured in a process for each: the peak of
the resident set above what it was before the first step of this size.
"""

import json
import os
import resource
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import report
import tensorflow as tf
from absl import app, flags

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_list("batch_sizes", ["512", "4096", "8192"], "Images, N.")
flags.DEFINE_list("block_sizes", ["None", "512", "auto"], "Ways to compute it.")
flags.DEFINE_integer("dim", 128, "Of the projections.")
flags.DEFINE_integer("runs", 5, "Steps of each; the median counts.")
flags.DEFINE_boolean("jit_compile", False, "Compile by XLA.")
flags.DEFINE_boolean("unknown_size", False, "Trace without the batch size.")
flags.DEFINE_boolean("memory", True, "Measure the memory too.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")
flags.DEFINE_boolean("child", False, "Measure the memory, in this process.")


def make_step(batch_size, block_size):
    """Function that computes loss and gradient, and waits for them."""
    if block_size != "auto":
        block_size = None if block_size == "None" else int(block_size)
    loss = simclr_keras.NTXentLoss(block_size=block_size)
    rows = None if FLAGS.unknown_size else batch_size

    @tf.function(
        jit_compile=FLAGS.jit_compile,
        input_signature=[tf.TensorSpec((2, rows, FLAGS.dim))],
    )
    def function(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(z[0], z[1])
        return value, tape.gradient(value, z)

    z = tf.random.stateless_normal((2, batch_size, FLAGS.dim), (0, 0))
    return lambda: [x.numpy() for x in function(z)]


def seconds(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_mebibytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def memory_of(batch_size, block_size):
    """Peak memory above what a small batch needs, in this process."""
    make_step(16, block_size)()
    step = make_step(batch_size, block_size)
    before = peak_mebibytes()
    step()
    return peak_mebibytes() - before


def memory_in_child(batch_size, block_size):
    names = ("dim", "jit_compile", "unknown_size")
    return report.of_child(
        __file__,
        "--child",
        *(f"--{name}={FLAGS[name].value}" for name in names),
        f"--batch_sizes={batch_size}",
        f"--block_sizes={block_size}",
    )


def main(_):
    sizes, ways = [int(n) for n in FLAGS.batch_sizes], FLAGS.block_sizes
    if FLAGS.child:
        print(json.dumps(memory_of(sizes[0], ways[0])))
        return
    print(f"projections of {FLAGS.dim} numbers, XLA {FLAGS.jit_compile}\n")
    print(f"images  block size   seconds   to {ways[0]:6}  peak memory")
    results = []
    # Before this process grows: a child's peak begins with its parent's size.
    memories = {
        (batch_size, way): memory_in_child(batch_size, way)
        for batch_size in sizes
        for way in ways
        if FLAGS.memory
    }
    for batch_size in sizes:
        steps = {way: make_step(batch_size, way) for way in ways}
        for step in steps.values():
            step()  # traces and compiles
        times = [
            {way: seconds(step) for way, step in steps.items()}
            for _ in range(FLAGS.runs)
        ]
        for way in ways:
            result = {
                "batch_size": batch_size,
                "block_size": way,
                "seconds": statistics.median(t[way] for t in times),
                "least_seconds": min(t[way] for t in times),
                "ratio": statistics.median(t[way] / t[ways[0]] for t in times),
                "mebibytes": memories.get((batch_size, way)),
            }
            results.append(result)
            memory = result["mebibytes"]
            print(
                f"{batch_size:6}  {way:10} {result['seconds']:9.4f}   "
                f"{result['ratio']:8.3f}"
                + ("" if memory is None else f"  {memory:8.0f} MiB"),
                flush=True,
            )
    report.write_json(
        FLAGS.json,
        benchmark="loss",
        dim=FLAGS.dim,
        runs=FLAGS.runs,
        jit_compile=FLAGS.jit_compile,
        unknown_size=FLAGS.unknown_size,
        load=os.getloadavg(),
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
