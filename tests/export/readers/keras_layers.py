"""Fine-tunes a folder by `TFSMLayer` and by our layer, in models of Keras 3."""

import sys

import keras
import numpy as np

import simclr_keras

path, values = sys.argv[1], np.load(sys.argv[2])
images = values["images"] / 255
for make, optimizer in (
    # Keras 3.15's own layer trains with optimizers that have no slots.
    (lambda: keras.layers.TFSMLayer(path, "serve", "train"), "sgd"),
    (lambda: simclr_keras.export.SavedModelEncoder(path), "adam"),
):
    layer = make()
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), layer, keras.layers.Dense(2)]
    )
    np.testing.assert_allclose(
        layer(images), values["representation"], rtol=1e-5, atol=1e-5
    )
    before = [w.numpy() for w in layer.weights]
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images, np.arange(len(images)) % 2, epochs=2, verbose=0)
    for weight, value in zip(layer.weights, before):
        assert np.any(weight.numpy() != value), weight.path
