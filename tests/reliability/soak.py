"""A long run with all that a user attaches to one, and what it takes.

    python soak.py FOLDER STEPS

It writes `measured.json` there: resident memory and functions that TensorFlow
has traced after each epoch, threads and open files before and after.
"""

import gc
import json
import os
import pathlib
import sys
import threading

import keras
import numpy as np
from tensorflow.python.eager import context

import simclr_keras
from simclr_keras import callbacks

STEPS_PER_EPOCH, BATCH, SIZE = 20, 16, 16
RNG = np.random.default_rng(0)
NUM_IMAGES = STEPS_PER_EPOCH * BATCH
IMAGES = RNG.integers(0, 256, (NUM_IMAGES, SIZE, SIZE, 3), dtype="uint8")
LABELS = RNG.integers(0, 3, NUM_IMAGES)


class Traced(keras.layers.Layer):
    """Counts how often Python goes through the encoder: once a trace."""

    count = 0

    def call(self, x):
        Traced.count += 1
        return x


class Measure(keras.callbacks.Callback):
    """Notes memory and functions after each epoch; put it last."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_epoch_end(self, epoch, logs=None):
        gc.collect()
        self.found.append(
            {
                "megabytes": resident_megabytes(),
                "functions": len(context.context().list_function_names()),
                "traces": Traced.count,
            }
        )


def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def what_is_open():
    """Threads by Python and by the system, and open files."""
    gc.collect()
    return {
        "python threads": sorted(t.name for t in threading.enumerate()),
        "threads": len(os.listdir("/proc/self/task")),
        # Less the one that lists them.
        "files": len(os.listdir("/proc/self/fd")) - 1,
    }


def make_encoder():
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            Traced(),
            keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
            simclr_keras.encoders.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def make_model(total_steps):
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        make_encoder(),
        simclr_keras.ProjectionHead(8),
        simclr_keras.SimCLRAugmentation(SIZE, SIZE, seed=1),
        num_classes=3,
    )
    model.compile(
        simclr_keras.LARS(
            simclr_keras.WarmupCosineDecay(0.1, total_steps, warmup_steps=5)
        )
    )
    return model


def train(model, folder, epochs):
    """A user's `fit`; what `Measure` found."""
    measure = Measure()
    data = simclr_keras.data.from_arrays(IMAGES, LABELS)
    model.fit(
        simclr_keras.data.training_dataset(data.train, BATCH, with_labels=True),
        epochs=epochs,
        validation_data=(IMAGES[:64], LABELS[:64]),
        validation_batch_size=16,
        verbose=0,
        callbacks=[
            callbacks.KNNEvaluation((IMAGES[:64], LABELS[:64]), k=3),
            callbacks.CollapseMonitor(IMAGES[:64], patience=10**6),
            callbacks.HistoryCSV(folder / "history.csv"),
            keras.callbacks.TensorBoard(folder / "logs"),
            callbacks.Checkpoints(folder / "checkpoints", every_steps=7),
            measure,
        ],
    )
    return measure.found


def main(folder, steps):
    epochs = steps // STEPS_PER_EPOCH
    model = make_model(steps)
    # TensorFlow makes its threads, and keeps them, when they are first needed.
    train(model, folder / "first", epochs=2)
    before = what_is_open()
    found = train(model, folder / "long", epochs)
    measured = {"epochs": found, "before": before, "after": what_is_open()}
    with open(folder / "measured.json", "w") as file:
        json.dump(measured, file)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
