"""What models leave in memory that were made, trained for a step and dropped.

    python models.py KIND COUNT

KIND is "ours" or "keras", a classifier of the same encoder. It prints JSON:
megabytes of resident memory that each left, and how many of TensorFlow's
graphs and functions there were after the second and after the last.
"""

import gc
import json
import sys

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

import simclr_keras
from tests.reliability.soak import resident_megabytes

SIZE = 32
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (16, SIZE, SIZE, 3), dtype="uint8")
LABELS = RNG.integers(0, 3, len(IMAGES))


def make_encoder():
    return simclr_keras.encoders.ResNet18(width_multiplier=1 / 16, stem="cifar")


def train_ours():
    model = simclr_keras.SimCLRModel(
        make_encoder(),
        simclr_keras.ProjectionHead(),
        simclr_keras.SimCLRAugmentation(SIZE, SIZE),
    )
    model.compile(simclr_keras.LARS(0.1))
    model.fit(IMAGES, batch_size=16, verbose=0)


def train_keras():
    model = keras.Sequential([make_encoder(), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    model.fit(IMAGES / 255, LABELS, batch_size=16, verbose=0)


def measure():
    keras.backend.clear_session()
    gc.collect()
    return {
        "megabytes": resident_megabytes(),
        "graphs": sum(isinstance(each, tf.Graph) for each in gc.get_objects()),
        "functions": len(context.context().list_function_names()),
    }


def main(kind, count):
    train = {"ours": train_ours, "keras": train_keras}[kind]
    found = []
    # What is compiled or loaded once comes with the first two.
    for _ in range(count + 2):
        train()
        found.append(measure())
    first, last = found[1], found[-1]
    megabytes = (last["megabytes"] - first["megabytes"]) / count
    print(
        json.dumps(
            {
                "megabytes": megabytes,
                "graphs": [first["graphs"], last["graphs"]],
                "functions": [first["functions"], last["functions"]],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
