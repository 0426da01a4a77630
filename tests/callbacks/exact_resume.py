"""Runs that are interrupted and resumed, each in a user's own `fit`.

    python exact_resume.py begin FOLDER
    python exact_resume.py resume FOLDER

The first trains every model of `MODELS` to the end, and once more up to each
of `ENDS`. The second, a process of its own, resumes what was ended.
Both write all that the models are at the end, for the test to compare.
"""

import json
import pathlib
import signal
import sys

import keras
import numpy as np
from keras import ops

import simclr_keras

EPOCHS = 4
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 8, 8, 3), dtype="uint8")
LABELS = RNG.integers(0, 3, (24,))
STEPS_PER_EPOCH = 3


def schedule():
    return simclr_keras.WarmupCosineDecay(
        0.1, total_steps=EPOCHS * STEPS_PER_EPOCH, warmup_steps=2
    )


def simclr():
    """Draws views, and has a probe whose optimizer state counts too."""
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    )
    model = simclr_keras.SimCLRModel(
        simclr_keras.encoders.BackboneEncoder(backbone),
        simclr_keras.ProjectionHead(16),
        simclr_keras.SimCLRAugmentation(8, 8, blur=False, seed=1),
        num_classes=3,
    )
    model.compile(simclr_keras.LARS(schedule(), weight_decay=1e-4))
    return model


def plain():
    """Draws for dropout and noise, the state of which Keras does not save."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            # PyTorch draws by a generator of the process if there is no seed.
            keras.layers.Dropout(0.5, seed=2),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule()), loss)
    return model


MODELS = {"simclr": simclr, "plain": plain}


def break_off():
    """As an error or a kill does, of which `Checkpoints` is not told."""
    raise KeyboardInterrupt


def ask_to_stop():
    """As a machine that is taken back does."""
    signal.raise_signal(signal.SIGTERM)


# How a run ends, and the steps of the epoch that are saved.
ENDS = {"broken": (break_off, 0), "stopped": (ask_to_stop, 2)}


class EndAt(keras.callbacks.Callback):
    """Ends the run in the middle of an epoch."""

    def __init__(self, end, epoch, batch):
        super().__init__()
        self.end = end
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            self.end()


def train(name, folder, *callbacks):
    """What a user's program does, the first time and every other."""
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    checkpoints = simclr_keras.callbacks.Checkpoints(folder / "checkpoints")
    done = checkpoints.restore(model)
    model.fit(
        IMAGES,
        LABELS,
        batch_size=8,
        epochs=EPOCHS,
        initial_epoch=done,
        # The other backends shuffle by a generator of the whole process.
        shuffle=keras.backend.backend() == "tensorflow",
        verbose=0,
        callbacks=[checkpoints, *callbacks],
    )
    arrays = [*model.variables, *model.optimizer.variables]
    arrays = [ops.convert_to_numpy(array) for array in arrays]
    np.savez(folder / "end.npz", *arrays, done=done, steps=checkpoints.step)
    with open(folder / "history.json", "w") as file:
        json.dump(checkpoints.history, file)


def main(command, folder):
    for name in MODELS:
        if command == "begin":
            (folder / name / "whole").mkdir(parents=True)
            train(name, folder / name / "whole")
        for kind, (end, _) in ENDS.items():
            path = folder / name / kind
            if command == "resume":
                train(name, path)
                continue
            path.mkdir()
            try:
                train(name, path, EndAt(end, epoch=2, batch=1))
            except KeyboardInterrupt:
                continue
            raise AssertionError("It was not ended.")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
