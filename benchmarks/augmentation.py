"""Views per second: this library against a per-image `tf.data` pipeline.

    python benchmarks/augmentation.py --json=augmentation.json

Both make CIFAR-10's views (random resized crop, flip, colour jitter of
strength 0.5, grayscale) out of the same uint8 images of 32 pixels held in
memory. The peer is written as users write it, out of `tf.image` calls in a
`map` with as many calls at once as there are cores. Runs alternate, and the
median of several counts, so that a busy machine slows both.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import report
import tensorflow as tf
from absl import app, flags

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 512, "Images in a batch.")
flags.DEFINE_integer("batches", 8, "Batches in a run.")
flags.DEFINE_integer("runs", 7, "Runs of each; the median counts.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")

STRENGTH = 0.5


def peer_view(image):
    """One view of one uint8 image, as Google's code makes it."""
    image = tf.image.convert_image_dtype(image, tf.float32)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=100,
    )
    image = tf.slice(image, begin, size)
    image = tf.image.resize(image, (32, 32), method="bicubic")
    image = tf.image.random_flip_left_right(image)
    if tf.random.uniform(()) < 0.8:
        image = peer_jitter(image)
    if tf.random.uniform(()) < 0.2:
        image = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    return tf.clip_by_value(image, 0.0, 1.0)


def peer_jitter(image):
    """The four colour operations in a random order."""
    s = 0.8 * STRENGTH
    for operation in tf.random.shuffle(tf.range(4)):
        if operation == 0:
            image *= tf.random.uniform((), 1 - s, 1 + s)
        elif operation == 1:
            image = tf.image.random_contrast(image, 1 - s, 1 + s)
        elif operation == 2:
            image = tf.image.random_saturation(image, 1 - s, 1 + s)
        else:
            image = tf.image.random_hue(image, 0.2 * STRENGTH)
        image = tf.clip_by_value(image, 0.0, 1.0)
    return image


def make_peer(images):
    def start():
        dataset = tf.data.Dataset.from_tensor_slices(images).repeat()
        dataset = dataset.map(peer_view, num_parallel_calls=tf.data.AUTOTUNE)
        batches = iter(dataset.batch(FLAGS.batch_size, drop_remainder=True))
        return lambda: next(batches)

    return start


def make_ours(images, jit_compile):
    augmentation = simclr_keras.SimCLRAugmentation(
        32, 32, strength=STRENGTH, blur=False
    )
    view = tf.function(augmentation.apply, jit_compile=jit_compile)

    def start():
        dataset = tf.data.Dataset.from_tensor_slices(images).repeat()
        batches = iter(dataset.batch(FLAGS.batch_size, drop_remainder=True))
        return lambda: view(next(batches))

    return start


def measure(start):
    """Views a second over one run."""
    # Begun anew and not prefetched: a pipeline that waits would go on in the
    # background while the other is measured.
    make_batch = start()
    make_batch()
    started = time.perf_counter()
    for _ in range(FLAGS.batches):
        make_batch().numpy()  # waits until the views are there
    seconds = time.perf_counter() - started
    return FLAGS.batches * FLAGS.batch_size / seconds


def main(_):
    images = np.random.default_rng(0).integers(
        0, 256, (4096, 32, 32, 3), dtype="uint8"
    )
    makers = {
        "tf.data and tf.image, an image at a time": make_peer(images),
        "SimCLRAugmentation": make_ours(images, jit_compile=False),
        "SimCLRAugmentation, XLA": make_ours(images, jit_compile=True),
    }
    for start in makers.values():
        measure(start)  # traces and compiles
    runs = [
        {name: measure(start) for name, start in makers.items()}
        for _ in range(FLAGS.runs)
    ]
    peer = next(iter(makers))
    results = {
        name: {
            "views_per_second": statistics.median(r[name] for r in runs),
            "times_the_peer": statistics.median(
                r[name] / r[peer] for r in runs
            ),
        }
        for name in makers
    }
    for name, result in results.items():
        print(
            f"{name:42} {result['views_per_second']:9,.0f} views/s "
            f"{result['times_the_peer']:6.2f} x"
        )
    report.write_json(
        FLAGS.json,
        benchmark="augmentation",
        batch_size=FLAGS.batch_size,
        runs=FLAGS.runs,
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
