"""Trains on and on, with a checkpoint after each step, until power fails.

    python power_cut.py FOLDER [careless]

It says on its standard output what is done, a line each. A careless run leaves
it to the system when files reach the disk.
"""

import pathlib
import sys

import keras
import numpy as np

from simclr_keras import write_aside
from simclr_keras.callbacks import Checkpoints, HistoryCSV

STEPS, BATCH = 4, 2
X, Y = np.ones((STEPS * BATCH, 2)), np.zeros((STEPS * BATCH, 1))


class Say(keras.callbacks.Callback):
    """A line after what the callbacks before this one have done."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        print(epoch, 0, flush=True)

    def on_train_batch_end(self, batch, logs=None):
        print(self.epoch, batch + 1, flush=True)


def make_model():
    """Of which a checkpoint has half a megabyte: many blocks of a disk."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(16_000),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(1e-5, momentum=0.9), "mse")
    return model


def fit(model, folder, epochs):
    """A user's program, which goes on where it was; the epoch it begins at."""
    checkpoints = Checkpoints(folder / "checkpoints", every_steps=1)
    epoch = checkpoints.restore(model)
    model.fit(
        X,
        Y,
        batch_size=BATCH,
        initial_epoch=epoch,
        epochs=epoch + epochs,
        verbose=0,
        callbacks=[HistoryCSV(folder / "history.csv"), checkpoints, Say()],
    )
    return epoch, checkpoints.step


if __name__ == "__main__":
    if sys.argv[2:] == ["careless"]:
        write_aside._flush = lambda path: None
    fit(make_model(), pathlib.Path(sys.argv[1]), epochs=10**6)
