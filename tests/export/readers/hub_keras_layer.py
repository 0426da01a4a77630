"""Fine-tunes a folder by `hub.KerasLayer` in a model of tf_keras."""

import sys

import numpy as np
import tensorflow_hub as hub
import tf_keras

path, values = sys.argv[1], np.load(sys.argv[2])
images = values["images"] / 255
layer = hub.KerasLayer(path, trainable=True)
model = tf_keras.Sequential(
    [tf_keras.layers.InputLayer((16, 16, 3)), layer, tf_keras.layers.Dense(2)]
)
np.testing.assert_allclose(
    layer(images), values["representation"], rtol=1e-5, atol=1e-5
)
before = {w.name: w.numpy() for w in layer.weights}
assert len(before) == len(layer.weights), "names must be unique"
model.compile(
    tf_keras.optimizers.SGD(0.1),
    tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
model.fit(images, np.arange(len(images)) % 2, epochs=2, verbose=0)
kinds = {name.split("/")[-1] for name in before}
assert {"kernel:0", "gamma:0", "moving_variance:0"} <= kinds, kinds
for weight in layer.weights:
    assert np.any(weight != before[weight.name]), weight.name
