"""Whether a SavedModel that was written does what the model does.

Both run with TensorFlow's graph optimizer (Grappler) switched off. It moves
constants from one product into another, which rounds 16 bits in other places,
and a deep network in training mode makes one such rounding as large as its
output: batch norm divides by the deviation of a few images, layer after layer.
In bfloat16, MobileNetV3Small so differed by 0.4 of its largest output, as much
as from a wrong export, and no tolerance could tell the two apart. Operation by
operation, a model and its export are equal to the last bit.
"""

import contextlib

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

# As a share of an output's largest value. Correct exports measure 0, in
# float32, bfloat16 and float16 alike.
_TOLERANCE = 1e-4
# By how much float32 rounds a variable, and so its move, as a share of it.
_ROUNDING = 5e-7
# Where a model does not repeat itself, by how many times the difference of two
# of its runs another run may differ.
_NOISE_FACTOR = 4
_BATCH_SIZE = 4
_ANY_SIZE = 96  # pixels, where the encoder takes any; a multiple of 32
_MARGIN = 7, 3  # pixels by which an image is not of the views' size
_MOVE = "the move of "


def compare(path, parts):
    """Compares what was written with the model.

    Args:
        path: String, the folder that was written.
        parts: `Parts` of the model.

    Returns:
        The largest difference of the representations in inference.

    Raises:
        ValueError: If variables, outputs, or the moves of moving statistics
            differ.
    """
    module = tf.saved_model.load(path)
    variables = _by_name(parts)
    copies = dict(zip(variables, _copies(module)))
    check_same(copies, variables, tolerance=0)
    moved = [name for name, v in variables.items() if not v.trainable]
    variables = {name: variables[name] for name in moved}
    copies = {name: copies[name] for name in moved}
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
    """Raises unless `found` is near to `expected`, name by name.

    Args:
        found: Dictionary of arrays or tensors: what the file gives.
        expected: Dictionary of what the model gives.
        tolerance: Float, share of an output's largest value.
        slack: Dictionary of floats by which an output may differ beside.
            Defaults to None, which is 0 for each.

    Returns:
        The largest difference of the first.

    Raises:
        ValueError: If one is missing, differs by more, or is not finite.
    """
    differences = []
    for name, value in expected.items():
        if name not in found:
            raise ValueError(
                "What was written differs from the model, so that nothing is "
                f"exported. Expected {name!r}. Received: {sorted(found)}."
            )
        value, result = _array(value), _array(found[name])
        if result.shape != value.shape:
            raise ValueError(
                "What was written differs from the model, so that nothing is "
                f"exported. Expected {name!r} of shape {value.shape}. "
                f"Received: the shape {result.shape}."
            )
        scale = _largest(value)
        allowed = tolerance * scale + (slack or {}).get(name, 0)
        differences.append(_largest(result - value))
        if not differences[-1] <= allowed:  # Catches NaN too.
            raise ValueError(
                "What was written differs from the model, so that nothing is "
                f"exported. Expected {name!r} to be within {allowed:.3g} of "
                f"the model's, whose largest value is {scale:.3g}. Received: a "
                f"difference of {differences[-1]:.3g}. The cause may be "
                "weights or outputs that are not finite, random numbers drawn "
                "in Python, or layers that compute with TensorFlow variables "
                "of their own."
            )
    return differences[0] if differences else 0.0


def sample_images(parts, batch_size):
    """Batches of uint8 images, one of each kind that is prepared otherwise.

    Args:
        parts: `Parts` of a model.
        batch_size: Integer.

    Returns:
        List of arrays (B, H, W, C).
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
    """Raises unless what was found is what the model does.

    Returns:
        The largest difference of the representations.
    """
    rounding = {
        f"{_MOVE}{name}": _ROUNDING * _largest(_array(variable))
        for name, variable in eager.variables.items()
    }
    try:
        expected = eager(images, training)
        return check_same(found, expected, _TOLERANCE, rounding)
    except ValueError:
        # Some processors fuse operations in a graph alone; and on some, as in
        # layers without a seed, no two runs are the same.
        expected, again = (traced(images, training) for _ in range(2))
        slack = {
            name: _NOISE_FACTOR * _largest(again[name] - value)
            + rounding.get(name, 0)
            for name, value in expected.items()
        }
        return check_same(found, expected, _TOLERANCE, slack)


class _Run:
    """Calls a function of images, and sees what it does to variables.

    Args:
        function: From images and `training` to a dictionary of outputs.
        variables: Dictionary of those that it may change. They are put back,
            so that every call starts from the same.
    """

    def __init__(self, function, variables):
        self.function = function
        self.variables = variables

    def __call__(self, images, training):
        """The outputs and the variables' moves, by name."""
        before = {
            name: keras.ops.convert_to_numpy(variable)
            for name, variable in self.variables.items()
        }
        try:
            outputs = self.function(images, training=training)
            seen = {name: _array(value) for name, value in outputs.items()}
            for name, variable in self.variables.items():
                seen[f"{_MOVE}{name}"] = _array(variable) - _array(before[name])
        finally:
            for name, variable in self.variables.items():
                variable.assign(before[name])
        return seen


def _in_graph(parts):
    """What the model does as a graph, traced as the export is."""
    function = tf.function(parts.call, autograph=False)
    spec = tf.TensorSpec((None, *parts.image_shape), tf.float32)

    def call(images, training):
        traced = function.get_concrete_function(spec, training)
        return traced(tf.constant(images))

    return call


def _by_name(parts):
    """All variables of the model, the states of random layers included."""
    variables = [v for layer in parts.layers() for v in layer.variables]
    # Paths need not differ, as of two layers of one name.
    return {f"{v.path} ({i})": v for i, v in enumerate(variables)}


def _copies(module):
    """The variables of what was written, in the model's order."""
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
    """No graph optimizer and no TensorFloat-32 for a while.

    The one rounds 16 bits in other places, the other at 1e-3.
    """
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
