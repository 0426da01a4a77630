"""What a training step does on an accelerator: images/s, memory, overhead.

    KERAS_BACKEND=jax python benchmarks/gpu.py --json=gpu.json
    python benchmarks/gpu.py --torch_python=torch-venv/bin/python
    python benchmarks/gpu.py --image_size=32 --batch_size=8 --depth=18 \
        --width=0.0625 --largest=32 --micro_batch_size=4  # tries it, anywhere

On the backend of Keras, JAX or TensorFlow: steps of `fit` (two views of uint8
images in the host's memory, encoder, projection head, NT-Xent, LARS) against
the forward and backward pass of the bare encoder on as many views in the
device's memory; the largest batch, a power of two times `--batch_size`, that
fits, as a whole and in micro-batches; and Lightly's step on PyTorch, compiled,
where `--torch_python` has it. Each in a process of its own, with the whole
device for itself. Without an accelerator, memory is the process's peak.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# JAX takes three quarters of the device's memory unless it is told otherwise.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")

import keras
import numpy as np
import report
from absl import app, flags

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 50, "Of the ResNet.")
flags.DEFINE_float("width", 1.0, "Of the ResNet.")
flags.DEFINE_integer("image_size", 224, "Pixels, height and width.")
flags.DEFINE_integer("batch_size", 128, "Images in a batch; twice the views.")
flags.DEFINE_string("dtype", "mixed_bfloat16", "Policy of Keras.")
flags.DEFINE_integer("steps", 20, "Steps in a run.")
flags.DEFINE_integer("runs", 5, "Runs; the median counts.")
flags.DEFINE_integer("largest", 16384, "Largest batch to try; 0 tries none.")
flags.DEFINE_integer("micro_batch_size", 64, "Of the largest batch.")
flags.DEFINE_string("torch_python", None, "Python with Lightly. None is this.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")
flags.DEFINE_enum("child", None, ["speed", "fits"], "What this process does.")
flags.DEFINE_boolean("in_micro_batches", False, "Of this process.")

LIGHTLY = pathlib.Path(__file__).parent / "peers" / "lightly_step.py"


class SameBatch(keras.utils.PyDataset):
    """One batch of random images, again and again."""

    def __init__(self, num_steps):
        super().__init__()
        size = FLAGS.image_size
        rng = np.random.default_rng(0)
        shape = (FLAGS.batch_size, size, size, 3)
        self.images = rng.integers(0, 256, shape, "uint8")
        self.num_steps = num_steps

    def __len__(self):
        return self.num_steps

    def __getitem__(self, index):
        return self.images


def build_encoder():
    size = FLAGS.image_size
    return simclr_keras.encoders.ResNet(
        FLAGS.depth,
        width_multiplier=FLAGS.width,
        stem="imagenet" if size > 64 else "cifar",
        input_shape=(size, size, 3),
    )


def build_model():
    size = FLAGS.image_size
    model = simclr_keras.SimCLRModel(
        build_encoder(),
        augmentation=simclr_keras.SimCLRAugmentation(size, size),
    )
    micro_batch_size = FLAGS.micro_batch_size
    model.compile(
        simclr_keras.LARS(1.0, weight_decay=1e-6),
        simclr_keras.NTXentLoss(0.1),
        micro_batch_size=micro_batch_size if FLAGS.in_micro_batches else None,
    )
    return model


def make_bare_step():
    """Function that runs the encoder forward and backward, and waits."""
    encoder = build_encoder()
    shape = (2 * FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3)
    if keras.backend.backend() == "jax":
        return bare_step_of_jax(encoder, shape)
    return bare_step_of_tensorflow(encoder, shape)


def bare_step_of_jax(encoder, shape):
    import jax

    trainable = [v.value for v in encoder.trainable_variables]
    others = [v.value for v in encoder.non_trainable_variables]
    views = jax.random.uniform(jax.random.key(0), shape)

    # The views as an argument: of a constant XLA computes what it can ahead.
    def total(trainable, views):
        h, _ = encoder.stateless_call(trainable, others, views, training=True)
        return h.sum()

    gradient = jax.jit(jax.grad(total))
    return lambda: jax.block_until_ready(gradient(trainable, views))


def bare_step_of_tensorflow(encoder, shape):
    import tensorflow as tf

    views = tf.random.uniform(shape)
    # As `fit` decides by itself.
    on_accelerator = bool(tf.config.list_physical_devices("GPU"))

    @tf.function(jit_compile=on_accelerator)
    def gradient(views):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(views, training=True))
        return tape.gradient(loss, encoder.trainable_variables)

    return lambda: gradient(views)[0].numpy()  # waits


def peak_mebibytes():
    """Of the device's memory, or of the process where there is no device."""
    stats = None
    if keras.backend.backend() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats()
        peak = stats and stats["peak_bytes_in_use"]
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            stats = tf.config.experimental.get_memory_info("GPU:0")
        peak = stats and stats["peak"]
    if stats:
        return peak / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def device():
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu"
    return tf.config.experimental.get_device_details(gpus[0])["device_name"]


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def speed():
    """Seconds of steps and of the bare encoder, in this process."""
    model = build_model()
    batches = SameBatch(FLAGS.steps)

    def steps():
        model.fit(batches, verbose=0)

    steps()  # traces and compiles
    peak = peak_mebibytes()
    bare = make_bare_step()
    bare()

    def bare_steps():
        for _ in range(FLAGS.steps):
            bare()

    times = [(seconds(steps), seconds(bare_steps)) for _ in range(FLAGS.runs)]
    step = statistics.median(a for a, _ in times) / FLAGS.steps
    return {
        "device": device(),
        "step_seconds": step,
        "images_per_second": FLAGS.batch_size / step,
        "bare_encoder_seconds": statistics.median(b for _, b in times)
        / FLAGS.steps,
        "share_beside_encoder": statistics.median(1 - b / a for a, b in times),
        "peak_mebibytes": peak,
    }


def fits():
    """One step; the error is the answer where there is no memory."""
    build_model().fit(SameBatch(1), verbose=0)
    return {"peak_mebibytes": peak_mebibytes()}


def in_child(**changed):
    """Answer of a process of this script with other flags."""
    names = ("depth", "width", "image_size", "batch_size", "dtype", "steps")
    names += ("runs", "micro_batch_size")
    values = {**{n: FLAGS[n].value for n in names}, **changed}
    arguments = [f"--{name}={value}" for name, value in values.items()]
    try:
        return report.of_child(__file__, *arguments)
    except subprocess.CalledProcessError as error:
        # Killed, most likely for the memory that it took.
        return {"error": f"ended with {error.returncode}"}


def largest_batch(in_micro_batches):
    """The last power of two that fits, and why the next one does not."""
    found = {"batch_size": None, "stopped_by": "--largest"}
    batch_size = FLAGS.batch_size
    while batch_size <= FLAGS.largest:
        answer = in_child(
            child="fits",
            batch_size=batch_size,
            in_micro_batches=in_micro_batches,
        )
        if "error" in answer:
            return {**found, "stopped_by": answer["error"]}
        found = {**found, "batch_size": batch_size, **answer}
        batch_size *= 2
    return found


def lightly():
    """Answer of Lightly's step, or why there is none."""
    names = ("depth", "width", "image_size", "batch_size", "steps", "runs")
    config = {name: FLAGS[name].value for name in names}
    config["bfloat16"] = FLAGS.dtype == "mixed_bfloat16"
    python = FLAGS.torch_python or sys.executable
    child = subprocess.run(
        [python, LIGHTLY, json.dumps(config)],
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.returncode:
        return {"error": f"ended with {child.returncode}"}
    return json.loads(child.stdout.splitlines()[-1])


def main(_):
    if FLAGS.child:
        keras.config.set_dtype_policy(FLAGS.dtype)
        try:
            answer = {"speed": speed, "fits": fits}[FLAGS.child]()
        except Exception as error:
            text = (str(error).splitlines() or [""])[0]
            answer = {"error": f"{type(error).__name__}: {text}"}
        print(json.dumps(answer))
        return
    results = {"speed": in_child(child="speed")}
    print("speed", json.dumps(results["speed"], indent=2), flush=True)
    for in_micro_batches in (False, True):
        name = "in micro-batches" if in_micro_batches else "as a whole"
        results[name] = largest_batch(in_micro_batches)
        print("largest batch", name, results[name], flush=True)
    results["lightly"] = lightly()
    print("lightly", json.dumps(results["lightly"], indent=2))
    names = ("depth", "width", "image_size", "batch_size", "dtype", "steps")
    report.write_json(
        FLAGS.json,
        benchmark="gpu",
        backend=keras.backend.backend(),
        settings={name: FLAGS[name].value for name in names},
        micro_batch_size=FLAGS.micro_batch_size,
        runs=FLAGS.runs,
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
