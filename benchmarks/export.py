"""What an exported encoder costs beside the encoder itself.

    python benchmarks/export.py --depth=50 --json=export.json

The folder of `export_saved_model`, without a projection head, against the
encoder's `.keras` file: bytes on disk. The loaded module against the encoder
in a `tf.function`: seconds for a batch, float images in, representations out,
in inference and for a gradient in training mode. Runs alternate, and the
median of the ratios counts.
"""

import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import report
import tensorflow as tf
from absl import app, flags, logging

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 50, "Of the ResNet.")
flags.DEFINE_float("width_multiplier", 1.0, "Of the ResNet.")
flags.DEFINE_integer("image_size", 224, "Pixels, height and width.")
flags.DEFINE_integer("batch_size", 8, "Images in a batch.")
flags.DEFINE_integer("runs", 15, "Batches of each; the median counts.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")


def count_bytes(path):
    """Of a file, or of all files of a folder."""
    path = pathlib.Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def make_inference(function, images):
    return lambda: function(images, training=False).numpy()


def make_gradient(function, variables, images):
    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(function(images, training=True))
        return tape.gradient(loss, variables)

    return lambda: gradient(images)[0].numpy()


def compare(plain, exported):
    """Median seconds of each, and the median of the ratios."""
    plain(), exported()  # traces
    times = [(measure(plain), measure(exported)) for _ in range(FLAGS.runs)]
    return {
        "encoder_seconds": statistics.median(a for a, _ in times),
        "exported_seconds": statistics.median(b for _, b in times),
        "ratio": statistics.median(b / a for a, b in times),
    }


def measure(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(_):
    logging.set_verbosity(logging.ERROR)  # TensorFlow lists every variable.
    size = FLAGS.image_size
    encoder = simclr_keras.encoders.ResNet(
        FLAGS.depth,
        width_multiplier=FLAGS.width_multiplier,
        input_shape=(size, size, 3),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "encoder.keras")
        encoder.save(file)
        start = time.perf_counter()
        path = simclr_keras.export_saved_model(
            encoder, os.path.join(folder, "module")
        )
        export_seconds = time.perf_counter() - start
        sizes = count_bytes(file), count_bytes(path)
        module = tf.saved_model.load(path)
    images = tf.random.uniform((FLAGS.batch_size, size, size, 3))
    results = {
        "export_seconds": export_seconds,
        "size": {
            "encoder_bytes": sizes[0],
            "exported_bytes": sizes[1],
            "ratio": sizes[1] / sizes[0],
        },
        "inference": compare(
            make_inference(tf.function(encoder), images),
            make_inference(module, images),
        ),
        "gradient": compare(
            make_gradient(encoder, encoder.trainable_weights, images),
            make_gradient(module, module.trainable_variables, images),
        ),
    }
    print(f"ResNet-{FLAGS.depth}, {FLAGS.batch_size} images of {size} pixels")
    for name in ("size", "inference", "gradient"):
        plain, exported, ratio = results[name].values()
        print(f"{name:10} {plain:12.4g} {exported:12.4g}  ratio {ratio:.3f}")
    report.write_json(
        FLAGS.json,
        benchmark="export",
        depth=FLAGS.depth,
        width_multiplier=FLAGS.width_multiplier,
        image_size=size,
        batch_size=FLAGS.batch_size,
        runs=FLAGS.runs,
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
