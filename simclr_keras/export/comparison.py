"""Compares an exported SavedModel with the model.

Both run with TensorFlow's graph optimizer (Grappler) switched off. The
optimizer moves constants from one product into another, so that 16-bit numbers
are rounded elsewhere. In training mode a deep network can amplify one such
rounding to the size of its output, since every batch norm divides by the
standard deviation of a few images: MobileNetV3Small in bfloat16 differed by 0.4
of its largest output, as much as a broken export would, and no tolerance tells
the two apart. Without the optimizer, a model and its export are equal to the
last bit.
"""

import contextlib

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

# As a fraction of an output's largest value. The measured difference of correct
# exports is 0 in float32, bfloat16 and float16.
_TOLERANCE = 1e-4
# Rounding of a float32 variable, and so of its update, as a fraction of it.
_ROUNDING = 5e-7
# For models that are not deterministic: the allowed difference, in units of the
# difference between two runs of the model.
_NOISE_FACTOR = 4
_BATCH_SIZE = 4
_ANY_SIZE = 96  # pixels, for encoders that take any size; a multiple of 32
_MARGIN = 7, 3  # pixels by which images differ from the encoder's size
_UPDATE = "the update of "


def compare(path, parts):
    """Compares an exported folder with the model.

    Variables must be equal. Outputs and the updates of moving statistics are
    compared on random images, in inference and training mode.

    Args:
        path: String, the folder.
        parts: `Parts` of the model.

    Returns:
        The largest difference of the representations in inference mode.

    Raises:
        ValueError: If anything differs.
    """
    module = tf.saved_model.load(path)
    variables = _by_name(parts)
    copies = dict(zip(variables, _copies(module)))
    check_same(copies, variables, tolerance=0)
    state = [name for name, v in variables.items() if not v.trainable]
    variables = {name: variables[name] for name in state}
    copies = {name: copies[name] for name in state}
    written = _Run(module.endpoints, copies)
    eager = _Run(parts.call, variables)
    traced = _Run(_in_graph(parts), variables)
    differences = []
    with _operation_by_operation():
        for images in sample_images(parts, _BATCH_SIZE):
            floats = images.astype("float32") / 255
            found = written(floats, training=False)
            differences.append(_check(found, eager, traced, floats, False))
            expected = {"representation": found["representation"]}
            for batch in (floats, images):
                check_same(
                    {"representation": module(batch)}, expected, _TOLERANCE
                )
            found = written(floats, training=True)
            _check(found, eager, traced, floats, True)
    return max(differences)


def check_same(found, expected, tolerance, slack=None):
    """Raises unless all of `expected` was found.

    Args:
        found: Dictionary of arrays or tensors from the exported file.
        expected: Dictionary of arrays or tensors from the model.
        tolerance: Float, allowed difference as a fraction of the largest value
            of each expected array.
        slack: Dictionary of floats, differences that are allowed in addition.
            Defaults to None, no such differences.

    Returns:
        The largest difference of the first array.

    Raises:
        ValueError: If an array is missing, differs, or is not finite.
    """
    differences = []
    for name, value in expected.items():
        if name not in found:
            raise ValueError(
                "The exported file differs from the model, so nothing was "
                f"exported. Expected {name!r}. Received: {sorted(found)}."
            )
        value, result = _array(value), _array(found[name])
        if result.shape != value.shape:
            raise ValueError(
                "The exported file differs from the model, so nothing was "
                f"exported. Expected {name!r} of shape {value.shape}. "
                f"Received: the shape {result.shape}."
            )
        scale = _largest(value)
        allowed = tolerance * scale + (slack or {}).get(name, 0)
        differences.append(_largest(result - value))
        if not differences[-1] <= allowed:  # Catches NaN too.
            raise ValueError(
                "The exported file differs from the model, so nothing was "
                f"exported. Expected {name!r} to be within {allowed:.3g} of "
                f"the model's, whose largest value is {scale:.3g}. Received: a "
                f"difference of {differences[-1]:.3g}. Possible "
                "causes: weights or outputs that are not finite, random "
                "numbers drawn in Python, or layers with TensorFlow variables "
                "of their own."
            )
    return differences[0] if differences else 0.0


def sample_images(parts, batch_size):
    """Makes random images, a batch for each way in which they are prepared.

    Args:
        parts: `Parts` of a model.
        batch_size: Integer.

    Returns:
        List of uint8 arrays (B, H, W, C).
    """
    height, width, channels = (size or _ANY_SIZE for size in parts.image_shape)
    sizes = [(height, width)]
    if parts.crops:
        height, width, _ = parts.encoder_shape
        sizes = [(height, width), (height + _MARGIN[0], width + _MARGIN[1])]
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (batch_size, *size, channels), "uint8")
        for size in sizes
    ]


def _check(found, eager, traced, images, training):
    """Raises unless what was found is what the model gives.

    Args:
        found: Dictionary of outputs and updates.
        eager: `_Run` of the model.
        traced: `_Run` of the model as a graph.
        images: Float array (B, H, W, C) in [0, 1].
        training: Whether they are of training mode.

    Returns:
        The largest difference of the representations.
    """
    rounding = {
        f"{_UPDATE}{name}": _ROUNDING * _largest(_array(variable))
        for name, variable in eager.variables.items()
    }
    try:
        expected = eager(images, training)
        return check_same(found, expected, _TOLERANCE, rounding)
    except ValueError:
        # Operations may be fused in graphs only, depending on the processor,
        # and some kernels, like layers without a seed, are not deterministic.
        expected, again = (traced(images, training) for _ in range(2))
        slack = {
            name: _NOISE_FACTOR * _largest(again[name] - value)
            + rounding.get(name, 0)
            for name, value in expected.items()
        }
        return check_same(found, expected, _TOLERANCE, slack)


class _Run:
    """Calls a function and observes how it updates variables.

    Args:
        function: Function from `images` and `training` to a dictionary of
            outputs.
        variables: Dictionary of the variables that it may update. They are
            restored after each call.
    """

    def __init__(self, function, variables):
        self.function = function
        self.variables = variables

    def __call__(self, images, training):
        """Returns a dictionary of the outputs and the variables' updates."""
        before = {
            name: keras.ops.convert_to_numpy(variable)
            for name, variable in self.variables.items()
        }
        try:
            outputs = self.function(images, training=training)
            seen = {name: _array(value) for name, value in outputs.items()}
            for name, variable in self.variables.items():
                seen[f"{_UPDATE}{name}"] = _array(variable) - _array(
                    before[name]
                )
        finally:
            for name, variable in self.variables.items():
                variable.assign(before[name])
        return seen


def _in_graph(parts):
    """Returns the model as a function, traced like the export."""
    function = tf.function(parts.call, autograph=False)
    spec = tf.TensorSpec((None, *parts.image_shape), tf.float32)

    def call(images, training):
        traced = function.get_concrete_function(spec, training)
        return traced(tf.constant(images))

    return call


def _by_name(parts):
    """Returns all variables of the model, with the states of random layers."""
    variables = [v for layer in parts.layers() for v in layer.variables]
    # With a number, since two layers may have the same path.
    return {f"{v.path} ({i})": v for i, v in enumerate(variables)}


def _copies(module):
    """Returns the variables of an exported module, in the model's order."""
    copies = list(module.state)
    if hasattr(module, "projection_head"):
        copies += module.projection_head.state
    return copies


def _array(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64")


def _largest(array):
    return float(np.abs(array).max(initial=0))


@contextlib.contextmanager
def _operation_by_operation():
    """Switches the graph optimizer and TensorFloat-32 off in a `with` block."""
    options, precision = tf.config.optimizer, tf.config.experimental
    name = "disable_meta_optimizer"
    disabled = options.get_experimental_options().get(name, False)
    enabled = precision.tensor_float_32_execution_enabled()
    options.set_experimental_options({name: True})
    precision.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        options.set_experimental_options({name: disabled})
        precision.enable_tensor_float_32_execution(enabled)
