"""The images that the replicas of a strategy get, saved for the tests.

python tests/data/replicas.py OUTPUT

Two replicas on this machine or, where TF_CONFIG is set, two workers.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import simclr_keras
from simclr_keras import augmentation, data

BATCH_SIZE = 8
EPOCHS = 3
TRAINED = 2  # epochs


def training_dataset(input_context=None, **kwargs):
    """Images that hold their own number."""
    numbers = np.arange(19, dtype="uint8")[:, None, None, None]
    train = data.from_arrays(numbers).train
    return data.training_dataset(
        train, BATCH_SIZE, seed=1, input_context=input_context, **kwargs
    )


def views(input_context=None):
    """The same images with noise."""
    return data.augment(
        training_dataset(input_context),
        augmentation.RandomGaussianNoise(seed=2),
        input_context=input_context,
    )


def numbers(strategy, batch):
    """The images of this process's replicas, in their order."""
    if isinstance(batch, dict):
        batch = batch["view_1"]
    parts = strategy.experimental_local_results(batch)
    return np.concatenate([np.ravel(part) for part in parts])


def passes(strategy, dataset):
    """(epoch, step, image), a pass for each epoch."""
    return [
        [numbers(strategy, batch) for batch in dataset] for _ in range(EPOCHS)
    ]


def stream(strategy, dataset):
    """The same from one pass over a dataset without end."""
    iterator = iter(dataset)
    return [
        [numbers(strategy, next(iterator)) for _ in range(2)]
        for _ in range(EPOCHS)
    ]


def after_fit(strategy, dataset):
    """The passes that follow those that a model was trained on."""
    with strategy.scope():
        model = simclr_keras.SimCLRModel(
            keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)]),
            augmentation=augmentation.RandomGaussianNoise(seed=2),
        )
        model.compile("sgd", simclr_keras.NTXentLoss(), run_eagerly=True)
    model.fit(dataset, epochs=TRAINED, verbose=0)
    return passes(strategy, dataset)


def main(path):
    """Every way in which a strategy takes a dataset."""
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    whole = strategy.experimental_distribute_dataset
    shared = strategy.distribute_datasets_from_function
    found = {
        "whole": passes(strategy, whole(training_dataset())),
        "shared": passes(strategy, shared(training_dataset)),
        "whole_stream": stream(strategy, whole(training_dataset().repeat())),
        "shared_stream": stream(
            strategy, shared(lambda c: training_dataset(c).repeat())
        ),
        "trained": after_fit(strategy, shared(training_dataset)),
    }
    with strategy.scope():
        found["shared_in_scope"] = passes(strategy, shared(training_dataset))
        found["whole_views"] = passes(strategy, whole(views()))
        found["shared_views"] = passes(strategy, shared(views))
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
