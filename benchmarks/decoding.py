"""Views per second out of JPEG files: this library and two usual ways.

    python benchmarks/decoding.py --json=decoding.json

Two random crops of 224 pixels of each photo of 500x375 pixels, 4:2:0 as
cameras write it, made for the occasion. The ways are `training_dataset(...,
crop=...)`; what Google's pipelines do, `sample_distorted_bounding_box`,
`decode_and_crop_jpeg` and a bicubic resize for each view in `tf.data`; and
torchvision's `RandomResizedCrop` written with Pillow, whose processes keep
what they make, so that nothing is lost to handing it over. Runs alternate, and
the median of several counts. What is compared on a busy machine is ratios.

With `--lightly_python`, the python of an environment that
`benchmarks/peers/run.py` has made, also Lightly's whole transform in a
`DataLoader`: its processes draw, flip, jitter and blur as well, which this
library leaves to the device.

Beside them, as images of 256 pixels from which `fit` cuts both views: what
`load_image_folder(..., in_memory=False)` decodes in each epoch, and what
`cache_dir` has on disk. At last, the cores that feed an accelerator which
trains on `--images_per_second`.
"""

import contextlib
import math
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import report
import tensorflow as tf
from absl import app, flags
from PIL import Image

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_integer("photos", 512, "JPEG files.")
flags.DEFINE_integer("height", 375, "Their height in pixels.")
flags.DEFINE_integer("width", 500, "Their width in pixels.")
flags.DEFINE_integer("batch_size", 32, "Images in a batch.")
flags.DEFINE_integer("batches", 16, "Batches in a run.")
flags.DEFINE_integer("runs", 7, "Runs of each; the median counts.")
flags.DEFINE_integer("workers", 2, "Processes of Pillow, and of Lightly.")
flags.DEFINE_string(
    "lightly_python", None, "Python that has Lightly, to compare with it too."
)
flags.DEFINE_integer(
    "images_per_second", 1000, "What an accelerator takes, two views of each."
)
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")

SIZE = 224


def make_photos(folder):
    """Smooth colours with noise, whose files are as large as photos'."""
    os.makedirs(folder)
    paths = []
    for k in range(FLAGS.photos):
        rng = np.random.default_rng(k)
        shape = (FLAGS.height // 8, FLAGS.width // 8, 3)
        colors = Image.fromarray(rng.integers(0, 256, shape).astype("uint8"))
        colors = colors.resize((FLAGS.width, FLAGS.height))
        pixels = np.asarray(colors) + rng.normal(
            0, 8, (FLAGS.height, FLAGS.width, 3)
        )
        paths.append(os.path.join(folder, f"{k}.jpg"))
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(
            paths[-1], quality=90, subsampling="4:2:0"
        )
    return paths


def make_ours(folder, crop=None, **kwargs):
    images = simclr_keras.data.load_image_folder(
        folder, image_size=256, in_memory=False, **kwargs
    ).train
    dataset = simclr_keras.data.training_dataset(
        images, FLAGS.batch_size, crop=crop
    ).repeat()
    return lambda: measure_dataset(dataset)


def google_view(content):
    """One view of a file, as in Google's pipelines for ImageNet."""
    shape = tf.io.extract_jpeg_shape(content)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=100,
    )
    window = tf.concat([begin[:2], size[:2]], axis=0)
    image = tf.io.decode_and_crop_jpeg(content, window, channels=3)
    return tf.image.resize([image], (SIZE, SIZE), method="bicubic")[0]


def make_google(paths):
    def views(path):
        content = tf.io.read_file(path)
        return google_view(content), google_view(content)

    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.shuffle(len(paths)).repeat().map(views, tf.data.AUTOTUNE)
    dataset = dataset.batch(FLAGS.batch_size, drop_remainder=True)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return lambda: measure_dataset(dataset)


def measure_dataset(dataset):
    """Views a second over one run."""
    # Begun anew: a pipeline that waits would go on in the background while
    # another is measured.
    batches = iter(dataset)
    for _ in range(4):
        next(batches)  # Fills the prefetch.
    started = time.perf_counter()
    for _ in range(FLAGS.batches):
        next(batches)
    seconds = time.perf_counter() - started
    return 2 * FLAGS.batches * FLAGS.batch_size / seconds


def pillow_view(image, rng):
    """The `RandomResizedCrop` of torchvision, with its defaults."""
    width, height = image.size
    box = None
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = (
                rng.integers(height - h + 1),
                rng.integers(width - w + 1),
            )
            box = (left, top, left + w, top + h)
            break
    if box is None:  # The middle of an image that is too long.
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    crop = image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(crop, "float32")


def pillow_views(path):
    """Makes the two views of a file, and says that they are made."""
    rng = np.random.default_rng()
    image = Image.open(path).convert("RGB")
    for _ in range(2):
        pillow_view(image, rng)
    return 2


def make_pillow(paths, pool):
    def measure():
        count = FLAGS.batches * FLAGS.batch_size
        some = [paths[k % len(paths)] for k in range(count)]
        started = time.perf_counter()
        made = sum(pool.imap_unordered(pillow_views, some, chunksize=8))
        return made / (time.perf_counter() - started)

    return measure


def make_lightly(folder, processes):
    """Lightly's transform, in a process of another environment."""
    script = pathlib.Path(__file__).parent / "peers" / "lightly_photos.py"
    numbers = (FLAGS.batch_size, FLAGS.batches, FLAGS.workers)
    process = processes.enter_context(
        subprocess.Popen(
            [FLAGS.lightly_python, str(script), folder, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    # Its input's end is its own; `Popen` waits for it.
    processes.callback(process.stdin.close)

    def measure():
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return measure


def main(_):
    # Started afresh: a fork of a process with TensorFlow's threads may hang.
    context = multiprocessing.get_context("forkserver")
    with (
        tempfile.TemporaryDirectory() as folder,
        context.Pool(FLAGS.workers) as pool,
        contextlib.ExitStack() as processes,
    ):
        photos = os.path.join(folder, "photos")
        paths = make_photos(photos)
        crop = simclr_keras.augmentation.RandomResizedCrop(SIZE, SIZE, seed=0)
        ways = {
            "training_dataset(crop=...)": make_ours(photos, crop),
            "tf.data, each view decoded": make_google(paths),
            f"Pillow, {FLAGS.workers} processes": make_pillow(paths, pool),
            "decoded to 256 pixels": make_ours(photos),
            "cache_dir, 256 pixels": make_ours(photos, cache_dir=folder),
        }
        if FLAGS.lightly_python:
            ways["Lightly's whole transform"] = make_lightly(photos, processes)
        for measure in ways.values():
            measure()
        runs = [
            {name: measure() for name, measure in ways.items()}
            for _ in range(FLAGS.runs)
        ]
    ours = next(iter(ways))
    results = {
        name: {
            "views_per_second": statistics.median(run[name] for run in runs),
            "ours_to_this": statistics.median(
                run[ours] / run[name] for run in runs
            ),
        }
        for name in ways
    }
    cores = len(os.sched_getaffinity(0))
    for name, result in results.items():
        per_core = result["views_per_second"] / 2 / cores
        result["images_per_second_and_core"] = per_core
        result["cores_needed"] = FLAGS.images_per_second / per_core
        print(
            f"{name:30} {result['views_per_second']:8,.0f} views/s, ours is "
            f"{result['ours_to_this']:5.2f} x; {per_core:6,.0f} images/s and "
            f"core, {result['cores_needed']:5.1f} cores for "
            f"{FLAGS.images_per_second}"
        )
    report.write_json(
        FLAGS.json,
        benchmark="decoding",
        photo=[FLAGS.height, FLAGS.width],
        batch_size=FLAGS.batch_size,
        runs=FLAGS.runs,
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
