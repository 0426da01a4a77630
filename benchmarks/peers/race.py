"""What each library's encoder has learned after so many minutes.

    python benchmarks/peers/race.py --data_dir=... --venvs=venvs --minutes=15

One library after the other trains the same ResNet-18 on CIFAR-10, each with
its own augmentation, projection head and loss, all with Adam and the same
temperature. The time is that of the clock, and begins before anything is
traced or compiled. Then all are judged alike, by this library's
`evaluation`: a linear classifier and nearest neighbours on the representations
of the test images. An accuracy is that of one seed.
"""

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import libraries
import numpy as np
from absl import app, flags

from simclr_keras import data, evaluation

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import report

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder of TFDS with CIFAR-10 prepared.")
flags.DEFINE_float("minutes", 15, "Of training, for each library.")
flags.DEFINE_integer("batch_size", 128, "Images in a batch.")
flags.DEFINE_float("width", 0.25, "Of the ResNet-18.")
flags.DEFINE_integer("dim", 64, "Of the projections.")
flags.DEFINE_float("temperature", 0.2, "Of the loss.")
flags.DEFINE_float("learning_rate", 1e-3, "Of Adam.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of compute.")
flags.DEFINE_integer("seed", 0, "Of weights and views.")
flags.DEFINE_integer(
    "num_images", None, "Training and test images to use, if not all."
)
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")
flags.mark_flag_as_required("data_dir")


def load():
    """Images and labels of CIFAR-10, dicts of "train" and "test"."""
    cifar10 = data.load_tfds("cifar10", FLAGS.data_dir, download=False)
    images, labels = {}, {}
    for name in ("train", "test"):
        arrays = getattr(cifar10, name).arrays()
        images[name], labels[name] = (x[: FLAGS.num_images] for x in arrays)
    return images, labels


def settings():
    names = ("minutes", "batch_size", "width", "dim", "temperature")
    names += ("learning_rate", "dtype", "seed")
    return {name: FLAGS[name].value for name in names}


def race(name, folder, labels):
    """Trains and judges one library; returns a dict."""
    features = os.path.join(folder, f"{name}.npz")
    config = {
        **settings(),
        "image_size": 32,
        "images": os.path.join(folder, "images.npz"),
        "features": features,
    }
    before = os.getloadavg()
    with libraries.Worker(name) as worker:
        result = worker.ask(do="race", config=config)
    result["load"] = before, os.getloadavg()
    if "error" in result:
        return result
    with np.load(features) as arrays:
        sets = (arrays["train"], labels["train"])
        sets += (arrays["test"], labels["test"])
    result["images"] = result["steps"] * FLAGS.batch_size
    result["linear"] = evaluation.linear_evaluation(*sets).accuracy
    result["knn"] = evaluation.knn_accuracy(*sets)
    return result


def main(_):
    versions = {name: libraries.versions(name) for name in libraries.names()}
    images, labels = load()
    results = {}
    print(f"{report.processor()}, {os.cpu_count()} cores")
    print(f"{'':14} {'images':>10} {'a second':>9}  linear    kNN    load")
    with tempfile.TemporaryDirectory() as folder:
        np.savez(os.path.join(folder, "images.npz"), **images)
        for name in libraries.names():
            result = results[name] = race(name, folder, labels)
            if "error" in result:
                print(f"{name:14} {result['error'][:64]}")
                continue
            print(
                f"{name:14} {result['images']:10,} "
                f"{result['images'] / result['seconds']:9,.1f}  "
                f"{result['linear']:6.3f} {result['knn']:6.3f}  "
                f"{result['load'][1][0]:6.2f}",
                flush=True,
            )
    report.write_json(
        FLAGS.json,
        benchmark="peers_race",
        versions=versions,
        settings=settings(),
        num_images=len(images["train"]),
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
