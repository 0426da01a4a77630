"""Trains a head on a folder with TensorFlow 2.15 and tensorflow-addons."""

import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
import tensorflow_hub as hub

assert tf.__version__ == "2.15.1"
assert tfa.__version__ == "0.23.0"
path, values = sys.argv[1], np.load(sys.argv[2])
images = values["images"] / 255
layer = hub.KerasLayer(path, trainable=True)
# 1e-4: this TensorFlow has other kernels than the one that exported.
np.testing.assert_allclose(
    layer(images), values["representation"], rtol=1e-4, atol=1e-5
)
np.testing.assert_allclose(
    hub.load(path)(images, training=True),
    values["training"],
    rtol=1e-3,
    atol=1e-4,
)
for trainable in (False, True):
    layer.trainable = trainable
    head = tf.keras.layers.Dense(2)
    model = tf.keras.Sequential(
        [tf.keras.layers.InputLayer((16, 16, 3)), layer, head]
    )
    before = [w.numpy() for w in layer.weights]
    start = head.kernel.numpy()
    model.compile(
        tfa.optimizers.LAMB(0.01),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images, np.arange(len(images)) % 2, epochs=2, verbose=0)
    assert np.any(head.kernel != start)
    for weight, value in zip(layer.weights, before):
        assert np.any(weight != value) == trainable, weight.name
