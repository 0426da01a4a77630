"""Trains classifiers on SavedModels of encoders, by TensorFlow Hub.

    python examples/few_labels.py images.npz hub_module [hub_module ...]

Knows nothing of the library that wrote the SavedModels: it runs wherever
TensorFlow Hub does. `transfer.py` starts it and says what it is for. The last
line that it prints is JSON.

Under a linear layer goes each encoder, and both are trained together, from the
weights that the SavedModel has. Every SavedModel gets the same steps: Adam,
cosine decay, batches of 20, images moved by up to a tenth of their side. Of the
learning rates 0.001, 0.003 and 0.01 this is the best for scikit-learn's digits
from scratch; 150 epochs were hardly better than 60.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow_hub as hub

# TensorFlow Hub's layer belongs to Keras 2, which is called tf_keras now.
import tf_keras as keras

BATCH_SIZE = 20
LEARNING_RATE = 0.01
EPOCHS = 60
SEED = 0


def train_classifier(path, images, labels):
    """An encoder with a classifier on top, trained on labelled images."""
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.layers.InputLayer(images.shape[1:]),
            keras.layers.RandomTranslation(0.1, 0.1),
            hub.KerasLayer(path, trainable=True),
            keras.layers.Dense(int(labels.max()) + 1),
        ]
    )
    steps = EPOCHS * -(-len(images) // BATCH_SIZE)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images, labels, BATCH_SIZE, EPOCHS, verbose=0)
    return model


def main(data, *paths):
    """Trains on each SavedModel and prints the accuracies."""
    data = dict(np.load(data))
    # Images as TF Hub has them: floats in [0, 1].
    images, test_images = (
        data[name].astype("float32") / 255 for name in ("images", "test_images")
    )
    accuracies = []
    for path in paths:
        model = train_classifier(path, images, data["labels"])
        _, accuracy = model.evaluate(
            test_images, data["test_labels"], verbose=0
        )
        accuracies.append(accuracy)
    print(json.dumps(accuracies))


if __name__ == "__main__":
    main(*sys.argv[1:])
