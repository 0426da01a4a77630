"""What a linear evaluation costs by scikit-learn and on Keras's backend.

    python benchmarks/linear.py --json=linear.json

Random features with the spectrum of representations: the k-th direction of the
noise has the deviation 1 / sqrt(k), negative ones are cut off, and each class
has a mean of its own. Each solver has processes of its own, in which memory is
the peak of the resident set above what it was before the features were made.
"""

import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import report
from absl import app, flags

from simclr_keras import evaluation

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_train", 200_000, "Training rows, N.")
flags.DEFINE_integer("num_test", 10_000, "Test rows.")
flags.DEFINE_integer("dim", 512, "Features, F.")
flags.DEFINE_integer("num_classes", 10, "Classes.")
flags.DEFINE_float("signal", 0.02, "Deviation of the classes' means.")
flags.DEFINE_integer("num_l2", 9, "Values between 1e-6 and 1e5.")
flags.DEFINE_enum("dtype", "float32", ["float16", "float32"], "Of features.")
flags.DEFINE_integer("runs", 1, "Of each solver, in turn; the median counts.")
flags.DEFINE_list("solvers", ["scikit-learn", "keras"], "Which.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")
flags.DEFINE_string("child", None, "Measure this solver, in this process.")


def features_and_labels():
    """Returns (train, train_labels, test, test_labels)."""
    rng = np.random.default_rng(0)
    total = FLAGS.num_train + FLAGS.num_test
    labels = rng.integers(0, FLAGS.num_classes, total)
    means = rng.standard_normal((FLAGS.num_classes, FLAGS.dim))
    turn = np.linalg.qr(rng.standard_normal((FLAGS.dim, FLAGS.dim)))[0]
    turn *= np.arange(1, FLAGS.dim + 1)[:, None] ** -0.5
    features = np.empty((total, FLAGS.dim), FLAGS.dtype)
    for start in range(0, total, 4096):
        here = slice(start, min(start + 4096, total))
        noise = rng.standard_normal((here.stop - start, FLAGS.dim)) @ turn
        features[here] = np.maximum(
            FLAGS.signal * means[labels[here]] + noise, 0
        )
    n = FLAGS.num_train
    return features[:n], labels[:n], features[n:], labels[n:]


def measure(solver):
    """A search over l2: seconds, bytes, and what was found."""
    l2_values = np.logspace(-6, 5, FLAGS.num_l2).tolist()
    # Import, and start, what is needed: it is not the evaluation's.
    few = np.random.default_rng(0).standard_normal((400, 4))
    halves = few, np.arange(400) % 2
    evaluation.linear_evaluation(
        *halves, *halves, l2_values=l2_values, solver=solver
    )
    before = report.peak_bytes()
    data = features_and_labels()
    start = time.perf_counter()
    result = evaluation.linear_evaluation(
        *data, l2_values=l2_values, solver=solver
    )
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "memory_to_features": (report.peak_bytes() - before)
        / (data[0].nbytes + data[2].nbytes),
        "accuracy": result.accuracy,
        "l2": result.l2,
        "load": os.getloadavg()[0],
    }


def main(_):
    if FLAGS.child:
        print(json.dumps(measure(FLAGS.child)))
        return
    found = {solver: [] for solver in FLAGS.solvers}
    for _ in range(FLAGS.runs):
        for solver in FLAGS.solvers:
            found[solver].append(
                report.of_child(*sys.argv, f"--child={solver}")
            )
            print(solver, found[solver][-1], flush=True)
    medians = {
        solver: {
            key: statistics.median(run[key] for run in runs) for key in runs[0]
        }
        for solver, runs in found.items()
    }
    report.write_json(
        FLAGS.json,
        benchmark="linear",
        num_train=FLAGS.num_train,
        dim=FLAGS.dim,
        num_classes=FLAGS.num_classes,
        num_l2=FLAGS.num_l2,
        dtype=FLAGS.dtype,
        runs=FLAGS.runs,
        results=medians,
    )


if __name__ == "__main__":
    app.run(main)
