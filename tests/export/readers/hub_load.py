"""Reads a folder by `hub.load`: the arguments are the folder and its values."""

import sys

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

path, values = sys.argv[1], np.load(sys.argv[2])
module = hub.load(path)
floats = tf.constant(values["images"] / 255)

same = {"rtol": 1e-5, "atol": 1e-5}  # float32 in another process
np.testing.assert_allclose(module(floats), values["representation"], **same)
integers = tf.cast(values["images"], tf.uint8)
np.testing.assert_allclose(module(integers), values["representation"], **same)
assert module(floats[:1, :12, :20]).shape == (1, values["training"].shape[1])

endpoints = module.endpoints(floats)
for name in values:
    if name.startswith("endpoint_"):
        found = endpoints[name.removeprefix("endpoint_")]
        np.testing.assert_allclose(found, values[name], **same)
np.testing.assert_allclose(
    endpoints["projection"], values["projection"], **same
)

before = [v.numpy() for v in module.variables]
with tf.GradientTape() as tape:
    h = module(floats, training=True)
    loss = tf.reduce_sum(h**2)
np.testing.assert_allclose(h, values["training"], rtol=1e-4, atol=1e-5)
gradients = tape.gradient(loss, module.trainable_variables)
for variable, gradient in zip(module.trainable_variables, gradients):
    assert np.any(gradient), variable.name
trainable = {v.ref() for v in module.trainable_variables}
for variable, value in zip(module.variables, before):
    moved = np.any(variable != value)
    assert moved == (variable.ref() not in trainable), variable.name

with tf.GradientTape() as tape:
    h = module(floats)
    z = module.projection_head(h, training=True)
    loss = tf.reduce_sum(z**2)
variables = module.projection_head.trainable_variables
for variable, gradient in zip(variables, tape.gradient(loss, variables)):
    assert np.any(gradient), variable.name
