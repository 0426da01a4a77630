"""A user's own `fit` with `Checkpoints` alone, to be killed anywhere.

    python run.py FOLDER REPLICAS

With TF_CONFIG in the environment it is one of several workers. It says on its
standard output what it is about to do, a line each. The second start goes on
where the first was killed; at the end it writes `end.npz`.
"""

import json
import os
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

import simclr_keras
from simclr_keras.callbacks import Checkpoints

EPOCHS, STEPS, BATCH = 4, 6, 8
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (STEPS * BATCH, 8, 8, 3), dtype="uint8")
LABELS = RNG.integers(0, 3, len(IMAGES))


class Say(keras.callbacks.Callback):
    """A line before and after all that there is to interrupt."""

    def say(self, *words):
        print(*words, flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.say("epoch", epoch)

    def on_train_batch_begin(self, batch, logs=None):
        self.say("begin", self.epoch, batch)

    def on_train_batch_end(self, batch, logs=None):
        self.say("end", self.epoch, batch)

    def on_test_batch_begin(self, batch, logs=None):
        self.say("validate", self.epoch, batch)

    def on_epoch_end(self, epoch, logs=None):
        self.say("over", epoch)


def make_model():
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(4, 3),
                keras.layers.GroupNormalization(2),
                keras.layers.Dropout(0.2, seed=1),
                keras.layers.Flatten(),
                keras.layers.Dense(6),
            ]
        ),
        simclr_keras.ProjectionHead(4),
        simclr_keras.augmentation.RandomResizedCrop(8, 8, seed=1),
        num_classes=3,
    )
    model.compile(
        simclr_keras.LARS(
            simclr_keras.WarmupCosineDecay(0.1, EPOCHS * STEPS, warmup_steps=3)
        ),
        jit_compile=False,
    )
    return model


def main(folder, num_replicas):
    is_chief = True
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        is_chief = simclr_keras.distribution.is_chief(strategy)
    elif num_replicas > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * num_replicas,
        )
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(num_replicas)]
        )
    else:
        strategy = tf.distribute.get_strategy()
    data = simclr_keras.data.from_arrays(IMAGES, LABELS)
    with strategy.scope():
        model = make_model()
    checkpoints = Checkpoints(folder / "checkpoints", every_steps=2)
    print("ready", flush=True)
    epoch = checkpoints.restore(model)
    print("restored", epoch, checkpoints.step, flush=True)
    dataset = simclr_keras.data.training_dataset(
        data.train,
        BATCH,
        with_labels=True,
        initial_epoch=epoch,
        initial_step=checkpoints.step,
    )
    if epoch < EPOCHS:
        model.fit(
            dataset,
            epochs=EPOCHS,
            initial_epoch=epoch,
            validation_data=(IMAGES[:16], LABELS[:16]),
            validation_batch_size=8,
            verbose=0,
            callbacks=[Say(), checkpoints],
        )
    variables = model.variables + model.optimizer.variables
    arrays = [keras.ops.convert_to_numpy(v) for v in variables]
    if not is_chief:
        return
    np.savez(folder / "end.npz", *arrays)
    with open(folder / "history.json", "w") as file:
        json.dump(checkpoints.history, file)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
