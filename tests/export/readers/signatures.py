"""Calls a folder's signatures as TF Serving does."""

import sys

import numpy as np
import tensorflow as tf

path, values = sys.argv[1], np.load(sys.argv[2])
signatures = tf.saved_model.load(path).signatures
images = tf.constant(values["images"] / 255)
same = {"rtol": 1e-5, "atol": 1e-5}  # float32 in another process

assert set(signatures) == {
    "serving_default",
    "representation",
    "projection",
    "endpoints",
}
for name, key in (
    ("serving_default", "representation"),
    ("representation", "representation"),
    ("projection", "projection"),
):
    outputs = signatures[name](images=images)
    assert set(outputs) == {key}
    np.testing.assert_allclose(outputs[key], values[key], **same)
outputs = signatures["endpoints"](images=images)
expected = {n.removeprefix("endpoint_") for n in values if "endpoint_" in n}
assert set(outputs) == expected | {"representation", "projection"}
for name in expected:
    np.testing.assert_allclose(
        outputs[name], values[f"endpoint_{name}"], **same
    )
