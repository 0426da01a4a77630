"""Five steps in micro-batches, on one device and on two replicas.

python tests/distribution/micro_batches.py OUTPUT
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import simclr_keras
from simclr_keras import distribution
from tests.model.models import random_images

layers = keras.layers
BATCH, STEPS = 20, 5
# Replicas and micro-batch size: 20 and 7 do not divide each other.
RUNS = [(1, None), (1, 7), (2, None), (2, 4), (2, 10)]


def train(replicas, micro_batch_size):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    strategy = None
    if replicas > 1:
        devices = [f"CPU:{i}" for i in range(replicas)]
        strategy = tf.distribute.MirroredStrategy(devices)
    with distribution.scope(strategy):
        encoder = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(8, 3, strides=2, kernel_regularizer="l2"),
                layers.GroupNormalization(4),
                layers.Activation("tanh"),
                layers.GlobalAveragePooling2D(),
            ]
        )
        head = keras.Sequential(
            [keras.Input((8,)), layers.Dense(16, "tanh"), layers.Dense(6)]
        )
        model = simclr_keras.SimCLRModel(
            encoder,
            head,
            simclr_keras.augmentation.RandomGaussianNoise(
                seed=3, dtype="float64"
            ),
        )
        model.compile(
            simclr_keras.LARS(0.3, weight_decay=1e-4),
            simclr_keras.NTXentLoss(
                simclr_keras.losses.LearnedTemperature(0.5)
            ),
            jit_compile=False,
            micro_batch_size=micro_batch_size,
        )
    images = random_images(BATCH * STEPS)
    dataset = tf.data.Dataset.from_tensor_slices(images)
    dataset = dataset.batch(BATCH, drop_remainder=True)
    logs = model.fit(dataset, verbose=0).history
    variables = [*model.weights, *model.optimizer.variables]
    arrays = {str(i): v.numpy() for i, v in enumerate(variables)}
    return {**logs, **arrays}


def main(path):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    keras.config.set_floatx("float64")
    np.savez(
        path,
        **{
            f"{i}/{name}": value
            for i, run in enumerate(RUNS)
            for name, value in train(*run).items()
        },
    )


if __name__ == "__main__":
    main(sys.argv[1])
