"""Makes a reusable SavedModel object of a Keras encoder.

TF Hub expects a `__call__` with a `training` argument, and the lists
`variables`, `trainable_variables` and `regularization_losses`.

Reference:
    - https://www.tensorflow.org/hub/reusable_saved_models
    - https://www.tensorflow.org/hub/common_saved_model_apis/images
"""

import contextlib
import re

import keras

from simclr_keras import keras_private
from simclr_keras.encoders.representation import check_representations
from simclr_keras.export.saved_model_encoder import SavedModelEncoder

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_MODES = (False,), (True,)  # The values of `training`.


def build_module(parts):
    """Returns the object to save, its signatures and its output shapes.

    Args:
        parts: `Parts` of a model.

    Returns:
        Tuple of the trackable object, a dictionary of signatures, and a
        dictionary of the endpoints' shapes.
    """
    encode = _Copy(parts.encoder, _with_endpoints(parts.encoder))
    project = None
    if parts.projection_head is not None:
        project = _Copy(parts.projection_head, parts.projection_head)

    # All other functions call these two, so that each network is stored once.
    @tf.function(autograph=False)
    def forward(images, training):
        outputs = encode(parts.prepare(images), training)
        return {name: _to_float32(x) for name, x in outputs.items()}

    @tf.function(autograph=False)
    def head(representations, training):
        return _to_float32(project(representations, training))

    def represent(images, training=False):
        return forward(_to_unit_range(images), training)["representation"]

    def endpoints(images, training=False):
        outputs = dict(forward(_to_unit_range(images), training))
        if project is not None:
            outputs["projection"] = head(outputs["representation"], training)
        return outputs

    images = tf.TensorSpec((None, *parts.image_shape), tf.float32, "images")
    # NumPy's default is float64.
    either = [images] + [
        tf.TensorSpec(images.shape, dtype, "images")
        for dtype in (tf.float64, tf.float16, tf.uint8)
    ]
    shapes = forward.get_concrete_function(images, False).output_shapes
    shape = shapes["representation"]
    check_representations(shape)

    functions = _Functions()
    module = _reusable(encode, functions.add(represent, either, _MODES))
    module.endpoints = functions.add(endpoints, either, _MODES)
    # For Keras's TFSMLayer, which calls them with a single argument.
    module.serve = module.__call__
    module.train = functions.add(lambda images: represent(images, True), either)
    if project is not None:
        spec = tf.TensorSpec((None, shape[-1]), tf.float32, "representations")
        module.projection_head = _reusable(
            project,
            functions.add(
                lambda h, training=False: head(h, training), [spec], _MODES
            ),
        )
        projection = head.get_concrete_function(spec, False)
        shapes = {**shapes, "projection": projection.output_shapes}

    def signature(*names):
        @tf.function(input_signature=[images], autograph=False)
        def serve(images):
            functions.trace()
            outputs = endpoints(images)
            return {name: outputs[name] for name in names or outputs}

        return serve

    signatures = {
        "representation": signature("representation"),
        "endpoints": signature(),
    }
    signatures["serving_default"] = signatures["representation"]
    if project is not None:
        signatures["projection"] = signature("projection")
    return module, signatures, shapes


class _Functions:
    """Functions to save, and the inputs and modes to trace them for.

    `tf.saved_model.save` traces functions again that were traced before it was
    called. To trace them once only, the signatures do it, which are the first
    functions that are traced during saving.
    """

    def __init__(self):
        self.traces = []

    def add(self, function, specs, modes=((),)):
        """Returns a `tf.function`, to be traced for each spec and mode."""
        function = tf.function(function, autograph=False)
        self.traces += [(function, s, mode) for s in specs for mode in modes]
        return function

    def trace(self):
        """Traces all functions that have not been traced yet."""
        with tf.init_scope():  # Out of the graph of the signature.
            for function, spec, mode in self.traces:
                function.get_concrete_function(spec, *mode)


class _Copy:
    """Runs a Keras layer with copies of its variables.

    The copies are named by the full path, so that names are unique, and are
    plain variables even if the layer's are mirrored by a strategy.
    """

    def __init__(self, layer, function):
        self.layer = layer
        self.function = function
        self.sources = list(layer.variables)
        shared = _shared_variables(layer)
        self.variables = [
            v.value if id(v) in shared else _copy_variable(v)
            for v in self.sources
        ]

    def select(self, keras_variables):
        """Returns the copies of some of the layer's variables."""
        copies = {id(v): c for v, c in zip(self.sources, self.variables)}
        return [copies[id(v)] for v in keras_variables]

    def __call__(self, inputs, training):
        before = [tf.convert_to_tensor(v) for v in self.variables]
        with keras.StatelessScope(list(zip(self.sources, before))) as scope:
            outputs = self.function(inputs, training=training)
        for source, copy, old in zip(self.sources, self.variables, before):
            new = scope.get_current_value(source)
            if new is not old:
                copy.assign(new)
        return outputs


def _reusable(copy, call):
    """Returns an object with TF Hub's interface."""
    weights = copy.layer.weights
    trainable = copy.layer.trainable_weights
    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = copy.select(weights)
    module.trainable_variables = copy.select(trainable)
    module.regularization_losses = [
        _regularization_loss(v.regularizer, *copy.select([v]))
        for v in trainable
        if v.regularizer is not None
    ]
    # With the states of random layers, which are not weights.
    module.state = copy.variables
    return module


def _regularization_loss(regularizer, variable):
    return tf.function(lambda: regularizer(variable), input_signature=[])


def _copy_variable(variable):
    return tf.Variable(
        keras.ops.convert_to_numpy(variable),
        trainable=variable.trainable,
        dtype=variable.dtype,
        name=re.sub(r"[^\w./-]", "_", variable.path),
    )


def _shared_variables(layer):
    """Returns the ids of the variables of SavedModels loaded in the layer.

    They cannot be replaced by copies: loaded functions hold their variables.
    """
    return {
        id(v)
        for sublayer in keras_private.flatten_layers(layer)
        if isinstance(sublayer, (keras.layers.TFSMLayer, SavedModelEncoder))
        for v in sublayer.variables
    }


@contextlib.contextmanager
def unsynchronized(*layers):
    """Switches synchronized batch norm off in a `with` block.

    A saved function has a single replica. An all-reduce in it would be useless,
    and its custom gradient makes readers print warnings.
    """
    found = [
        sublayer
        for layer in layers
        for sublayer in keras_private.flatten_layers(layer)
        if getattr(sublayer, "synchronized", False)
        and isinstance(sublayer, keras.layers.BatchNormalization)
    ]
    for sublayer in found:
        sublayer.synchronized = False
    try:
        yield
    finally:
        for sublayer in found:
            sublayer.synchronized = True


def _with_endpoints(encoder):
    """Returns the encoder as a function to a dictionary of endpoints."""
    endpoints = getattr(encoder, "endpoints", None)
    if isinstance(endpoints, dict) and hasattr(encoder, "input"):
        outputs = {**endpoints, "representation": encoder.output}
        return keras.Model(encoder.input, outputs)
    return lambda images, training: {
        "representation": encoder(images, training=training)
    }


def _to_unit_range(images):
    """Casts to float32, and scales uint8 to [0, 1]."""
    floats = tf.cast(images, tf.float32)
    return floats / 255.0 if images.dtype == tf.uint8 else floats


def _to_float32(tensor):
    # Not all languages that read SavedModels have bfloat16.
    return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor
