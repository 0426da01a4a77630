"""What a checkpoint within an epoch costs the training.

    python benchmarks/checkpoints.py --depth=50 --json=checkpoints.json

Epochs of `fit` with `callbacks.Checkpoints(every_steps=...)` and without it
alternate. What is longer in the one, by the checkpoints that were written in
it, is what one costs: the copy of the state, for which training waits, and the
processor that its writing takes from the steps beside it. The same for Keras's
`ModelCheckpoint(save_freq=...)`, which writes while training waits.
"""

import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import report
from absl import app, flags

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 50, "Of the ResNet.")
flags.DEFINE_float("width_multiplier", 1.0, "Of the ResNet.")
flags.DEFINE_integer("batch_size", 8, "Images in a batch, of 32 pixels.")
flags.DEFINE_integer("steps", 12, "Of an epoch.")
flags.DEFINE_integer("every_steps", 4, "From one checkpoint to the next.")
flags.DEFINE_integer("runs", 5, "Epochs of each; the median counts.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")


def make_model():
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        simclr_keras.encoders.ResNet(
            FLAGS.depth,
            width_multiplier=FLAGS.width_multiplier,
            stem="cifar",
            input_shape=(32, 32, 3),
        ),
        simclr_keras.ProjectionHead(128),
        simclr_keras.SimCLRAugmentation(32, 32, seed=0),
    )
    model.compile(simclr_keras.LARS(0.1))
    return model


class Steps(keras.callbacks.Callback):
    """Times the steps of an epoch, with what follows each.

    What is written before the first step and after the last one is not of
    interest: it is as much with every number of steps.
    """

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.started = time.perf_counter()
        self.last = time.perf_counter()

    def seconds(self):
        """Until the last step begins."""
        return self.last - self.started


def seconds_of(model, images, *callbacks):
    """Seconds of the steps of an epoch."""
    steps = Steps()
    model.fit(
        images,
        batch_size=FLAGS.batch_size,
        verbose=0,
        callbacks=[*callbacks, steps],
    )
    return steps.seconds()


def main(_):
    count = FLAGS.batch_size * FLAGS.steps
    images = np.random.default_rng(0).integers(
        0, 256, (count, 32, 32, 3), "uint8"
    )
    model = make_model()
    seconds_of(model, images)  # traces
    # The last step, which is not timed, may be followed by one more.
    writes = (FLAGS.steps - 1) // FLAGS.every_steps
    costs = {"Checkpoints": [], "ModelCheckpoint": []}
    plain = []
    for _ in range(FLAGS.runs):
        with tempfile.TemporaryDirectory() as folder:
            plain.append(seconds_of(model, images))
            checkpoints = simclr_keras.callbacks.Checkpoints(
                folder, every_steps=FLAGS.every_steps
            )
            keras_own = keras.callbacks.ModelCheckpoint(
                os.path.join(folder, "keras.weights.h5"),
                save_weights_only=True,
                save_freq=FLAGS.every_steps,
            )
            for name, callback in zip(costs, (checkpoints, keras_own)):
                seconds = seconds_of(model, images, callback)
                costs[name].append((seconds - plain[-1]) / writes)
            size = os.path.getsize(
                checkpoints.file(*checkpoints.positions()[-1])
            )
    step = statistics.median(plain) / (FLAGS.steps - 1)
    print(
        f"ResNet-{FLAGS.depth}, {size / 2**20:.0f} MiB, a step of "
        f"{FLAGS.batch_size} images {step:.3f} s"
    )
    for name, values in costs.items():
        print(
            f"{name:16} {statistics.median(values):7.3f} s a checkpoint "
            f"({min(values):.3f} to {max(values):.3f})"
        )
    report.write_json(
        FLAGS.json,
        benchmark="checkpoints",
        depth=FLAGS.depth,
        width_multiplier=FLAGS.width_multiplier,
        batch_size=FLAGS.batch_size,
        runs=FLAGS.runs,
        bytes=size,
        step_seconds=step,
        seconds=costs,
    )


if __name__ == "__main__":
    app.run(main)
