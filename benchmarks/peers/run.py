"""simclr_keras beside KerasCV, TensorFlow Similarity and Lightly.

    python benchmarks/peers/run.py --venvs=venvs --json=peers.json
    python benchmarks/peers/run.py --what=step --batch_size=64 --peers=lightly

Makes an environment for each peer in `--venvs` and measures there, one at a
time and in turn, the same work for each library:

- augmentation: two views of uint8 images in memory, by the library's own
  SimCLR augmentation with strength 0.5 and without blur;
- loss: NT-Xent of two random arrays of projections, forward and gradient, and
  the peak memory of the first time, in a process of its own;
- step: a training step on views: a ResNet-18 with CIFAR stem, the library's
  projection head and loss, Adam;
- end_to_end: both, from images in memory to new weights.

What is not equal is in docs/performance.md, "Beside other libraries".
"""

import contextlib
import os
import pathlib
import statistics
import sys

import libraries
from absl import app, flags

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import report

FLAGS = flags.FLAGS
WHAT = ("augmentation", "loss", "step", "end_to_end")
flags.DEFINE_list("what", list(WHAT), "Measurements to make.")
flags.DEFINE_integer("batch_size", 256, "Images in a batch.")
flags.DEFINE_list("loss_sizes", ["256", "1024", "4096"], "Images, for loss.")
flags.DEFINE_integer("batches", 2, "Batches in a run; the loss takes one.")
flags.DEFINE_integer("runs", 5, "Runs of each; the median counts.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of compute.")
flags.DEFINE_float("width", 1.0, "Of the ResNet-18.")
flags.DEFINE_integer("dim", 128, "Of the projections.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")


def configs():
    """Pairs of what to measure and the config to measure it with."""
    shared = {
        "batches": FLAGS.batches,
        "dtype": FLAGS.dtype,
        "width": FLAGS.width,
        "dim": FLAGS.dim,
        "image_size": 32,
        "temperature": 0.5,
        "learning_rate": 1e-3,
        "seed": 0,
    }
    for what in FLAGS.what:
        sizes = FLAGS.loss_sizes if what == "loss" else [FLAGS.batch_size]
        for size in sizes:
            yield what, {**shared, "batch_size": int(size)}


def memory_of(name, what, config):
    with libraries.Worker(name) as worker:
        return worker.ask(do="memory", what=what, config=config)


def measure(what, config):
    """Results of every library: dict of name to dict."""
    results = {}
    if what == "loss":
        for name in libraries.names():
            results[name] = memory_of(name, what, config)
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in libraries.names():
            worker = stack.enter_context(libraries.Worker(name))
            answer = worker.ask(do="prepare", what=what, config=config)
            results[name] = {**results.get(name, {}), **answer, "seconds": []}
            if "error" not in answer:
                workers[name] = worker
        # In turn, so that a busy machine slows all of them.
        for _ in range(FLAGS.runs):
            for name, worker in list(workers.items()):
                answer = worker.ask(do="measure")
                if "error" in answer:
                    results[name].update(answer)
                    del workers[name]
                else:
                    results[name]["seconds"].append(answer["seconds"])
    return results


def add_ratios(results):
    """Adds the median of the ratios to this library, run by run."""
    ours = results[libraries.OURS]["seconds"]
    for result in results.values():
        ratios = [b / a for a, b in zip(ours, result["seconds"])]
        result["ratio"] = statistics.median(ratios) if ratios else None


def print_table(what, config, results):
    amount, unit = {
        "augmentation": (2 * config["batches"] * config["batch_size"], "views"),
        "loss": (1, ""),
    }.get(what, (config["batches"] * config["batch_size"], "images"))
    heading = f"{unit}/s" if unit else "ms"
    print(f"\n{what}, batches of {config['batch_size']}, {config['dtype']}")
    print(f"{'':14} {heading:>10} {'least':>10} {'most':>10}  time to ours")
    for name, result in results.items():
        if "error" in result:
            print(f"{name:14} {result['error'][:64]}")
            continue
        seconds = result["seconds"]
        values = [amount / s if unit else 1000 * s for s in seconds]
        median = statistics.median(values)
        memory = result.get("mebibytes")
        print(
            f"{name:14} {median:10,.1f} {min(values):10,.1f} "
            f"{max(values):10,.1f} {result['ratio'] or 0:10.2f}"
            + (f"  {memory:,.0f} MiB" if memory is not None else "")
            + (
                f"  {result['parameters']:,} parameters"
                if "parameters" in result
                else ""
            ),
            flush=True,
        )


def main(_):
    versions = {name: libraries.versions(name) for name in libraries.names()}
    for name, found in versions.items():
        print(name, " ".join(f"{p} {v}" for p, v in found.items()))
    print(f"{report.processor()}, {os.cpu_count()} cores")
    measured = []
    for what, config in configs():
        before = os.getloadavg()
        results = measure(what, config)
        add_ratios(results)
        print_table(what, config, results)
        loads = before, os.getloadavg()
        print("load average before and after", *(x[0] for x in loads))
        measured.append(
            {"what": what, "config": config, "load": loads, "results": results}
        )
    report.write_json(
        FLAGS.json,
        benchmark="peers",
        runs=FLAGS.runs,
        versions=versions,
        measured=measured,
    )


if __name__ == "__main__":
    app.run(main)
