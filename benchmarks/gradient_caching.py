"""What a step in micro-batches costs, in memory and time.

    python benchmarks/gradient_caching.py --json=gradient_caching.json

Steps of `fit` of a `SimCLRModel` on images of 32 pixels, each way in a process
of its own: a plain one with a small batch, and a large batch in micro-batches
of that size. Ways alternate, and medians count. Memory is the peak of the
resident set above what it was before the first step.
"""

import json
import os
import resource
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import report
import tensorflow as tf
from absl import app, flags
from keras import layers

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_list("encoders", ["resnet", "vit"], "Those to measure.")
flags.DEFINE_integer("batch_size", 4096, "Images in the large batch.")
flags.DEFINE_integer("micro_batch_size", 128, "Images in a micro-batch.")
flags.DEFINE_integer("runs", 3, "Processes of each way.")
flags.DEFINE_boolean("whole", False, "Also the large batch as a whole.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")
flags.DEFINE_list("child", None, "Encoder, batch and micro-batch to measure.")


def resnet():
    """A ResNet-18 of a quarter of its width."""
    return simclr_keras.encoders.ResNet18(
        width_multiplier=0.25, stem="cifar", input_shape=(32, 32, 3)
    )


def vit(dim=96, depth=4):
    """A small vision transformer: 64 patches of 4 pixels."""
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(dim, 4, strides=4)(images)
    x = layers.Reshape((64, dim))(x)
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(3, dim // 3)(y, y)
        y = layers.LayerNormalization()(x)
        x = x + layers.Dense(dim)(layers.Dense(4 * dim, "gelu")(y))
    x = layers.LayerNormalization()(x)
    return keras.Model(images, layers.GlobalAveragePooling1D()(x))


def peak_mebibytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure(encoder, batch_size, micro_batch_size):
    """Peak memory in MiB and seconds per image of a step, in this process."""
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        {"resnet": resnet, "vit": vit}[encoder](),
        simclr_keras.ProjectionHead(64),
        simclr_keras.SimCLRAugmentation(
            32, 32, strength=0.5, blur=False, seed=1
        ),
    )
    model.compile(
        simclr_keras.LARS(0.1),
        simclr_keras.NTXentLoss(0.2),
        micro_batch_size=micro_batch_size,
        jit_compile=False,
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, 32, 32, 3), "uint8")
    # The same batch again and again, so that no input pipeline is measured.
    dataset = tf.data.Dataset.from_tensors(images).repeat()
    before = peak_mebibytes()
    model.fit(dataset, steps_per_epoch=1, verbose=0)  # traces and compiles
    # As many images in each way: a step of a small batch is short.
    steps = max(1, FLAGS.batch_size // batch_size)
    start = time.perf_counter()
    model.fit(dataset, steps_per_epoch=steps, verbose=0)
    seconds = time.perf_counter() - start
    return {
        "mebibytes": peak_mebibytes() - before,
        "seconds_per_image": seconds / steps / batch_size,
    }


def measure_in_child(*way):
    return report.of_child(
        __file__,
        "--child=" + ",".join(map(str, way)),
        f"--batch_size={FLAGS.batch_size}",
    )


def main(_):
    if FLAGS.child:
        encoder, batch_size, size = FLAGS.child
        size = None if size == "None" else int(size)
        print(json.dumps(measure(encoder, int(batch_size), size)))
        return
    small = FLAGS.micro_batch_size
    ways = [(small, None), (FLAGS.batch_size, small)]
    if FLAGS.whole:
        ways.append((FLAGS.batch_size, None))
    results = []
    print("encoder  batch  micro-batch  us/image  ratio  peak MiB  ratio")
    for encoder in FLAGS.encoders:
        runs = [
            {way: measure_in_child(encoder, *way) for way in ways}
            for _ in range(FLAGS.runs)
        ]
        for way in ways:
            result = {"encoder": encoder, "batch_size": way[0]}
            result["micro_batch_size"] = way[1]
            for key in ("seconds_per_image", "mebibytes"):
                result[key] = statistics.median(r[way][key] for r in runs)
                result[f"{key}_ratio"] = statistics.median(
                    r[way][key] / r[ways[0]][key] for r in runs
                )
            results.append(result)
            print(
                f"{encoder:7}  {way[0]:5}  {way[1]!s:>11}  "
                f"{result['seconds_per_image'] * 1e6:8.0f}  "
                f"{result['seconds_per_image_ratio']:5.2f}  "
                f"{result['mebibytes']:8.0f}  "
                f"{result['mebibytes_ratio']:5.2f}",
                flush=True,
            )
    report.write_json(
        FLAGS.json,
        benchmark="gradient_caching",
        runs=FLAGS.runs,
        load=os.getloadavg(),
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
