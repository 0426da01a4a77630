"""Whether a SavedModel that was written does what the model does."""

import contextlib

import keras
import numpy as np

from simclr_keras.export import arguments

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

# By how much the saved model may differ, as a share of the largest output: in
# inference and, where batch norm divides by a small batch's deviation, in
# training. Another order of summation makes 1e-6 in float32. In 16 bits other
# kernels (XLA's) made 5e-3 and, in a ResNet-50's training mode, 4e-2.
_TOLERANCES = {True: (1e-4, 1e-2), False: (2e-2, 1e-1)}
_TEST_BATCH = 4
_TEST_SIZE = 96  # pixels, where the encoder takes any; a multiple of 32
_MARGIN = 7, 3  # pixels by which an image is not of the views' size


def compare(path, encoder, head, prepare, image_shape, views=None):
    """Compares what was written with the model.

    Args:
        path: String, the folder that was written.
        encoder: Keras layer.
        head: Keras layer or None.
        prepare: Function from images to those that the encoder gets.
        image_shape: Tuple (H, W, C) of what it takes; H and W may be None.
        views: Tuple (H, W) of images that `prepare` leaves as they are while
            it changes others, so that both kinds are compared; or None.

    Returns:
        The largest difference of the representations in inference.
    """
    module = tf.saved_model.load(path)
    batches = _test_images(image_shape, views)
    parts = [part for part in (encoder, head) if part is not None]
    variables = [v for part in parts for v in part.variables]
    weights = [v for part in parts for v in part.weights]
    before = [keras.ops.convert_to_numpy(v) for v in variables]
    tolerances = _TOLERANCES[arguments.is_float32(encoder)]
    try:
        with _full_precision():
            differences = []
            for images in batches:
                floats = images.astype("float32") / 255
                expected = _outputs(encoder, head, prepare(floats), False)
                found = module.endpoints(floats)
                differences.append(check_same(found, expected, tolerances[0]))
                expected.pop("projection", None)
                for batch in (floats, images):
                    found = {"representation": module(batch)}
                    check_same(found, expected, tolerances[0])

            for images in batches:
                floats = images.astype("float32") / 255
                expected = _outputs(encoder, head, prepare(floats), True)
                found = module.endpoints(floats, training=True)
                check_same(found, expected, tolerances[1])
            copies = [*module.variables]
            if head is not None:
                copies += module.projection_head.variables
            names = [v.path for v in weights]
            check_same(
                dict(zip(names, copies)),
                dict(zip(names, weights)),
                tolerances[1],
            )
    finally:
        for variable, value in zip(variables, before):
            variable.assign(value)
    return max(differences)


def _test_images(image_shape, views):
    """Batches of uint8 images, of each kind that is prepared otherwise."""
    height, width, channels = (size or _TEST_SIZE for size in image_shape)
    sizes = [(height, width)]
    if views is not None:
        sizes = [views, (views[0] + _MARGIN[0], views[1] + _MARGIN[1])]
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (_TEST_BATCH, *size, channels), "uint8")
        for size in sizes
    ]


def _outputs(encoder, head, images, training):
    """What Keras makes of images, by the names of the endpoints."""
    outputs = {"representation": encoder(images, training=training)}
    if head is not None:
        outputs["projection"] = head(
            outputs["representation"], training=training
        )
    return outputs


def check_same(found, expected, tolerance):
    """Raises unless `found` is near to `expected`, name by name.

    Args:
        found: Dictionary of arrays or tensors: what the file gives.
        expected: Dictionary of what the model gives.
        tolerance: Float, share of the largest value of an output.

    Returns:
        The largest difference of the first.

    Raises:
        ValueError: If one differs by more, or is not finite.
    """
    differences = []
    for name, value in expected.items():
        value = keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))
        result = keras.ops.convert_to_numpy(
            keras.ops.cast(found[name], "float32")
        )
        scale = max(np.abs(value).max(initial=0), 1e-2)
        differences.append(float(np.abs(result - value).max(initial=0)))
        if not differences[-1] <= tolerance * scale:  # Catches NaN too.
            raise ValueError(
                "What was written differs from the model, so that nothing is "
                f"exported. Expected {name!r} to be within {tolerance} of its "
                f"largest value {scale:.3g}. Received: a difference of "
                f"{differences[-1]:.3g}. The cause may be weights that are "
                "not finite, random layers without a seed generator, or "
                "layers that compute with TensorFlow variables of their own."
            )
    return differences[0]


@contextlib.contextmanager
def _full_precision():
    """No TensorFloat-32, which rounds at 1e-3, for a while."""
    precision = tf.config.experimental
    enabled = precision.tensor_float_32_execution_enabled()
    precision.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        precision.enable_tensor_float_32_execution(enabled)
