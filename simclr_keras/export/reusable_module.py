"""A Keras encoder as a reusable SavedModel: an object ready to be saved.

What TF Hub asks of such an object is a `__call__` with an argument `training`,
and the lists `variables`, `trainable_variables` and `regularization_losses`.

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
    """The object to save, with its signatures.

    Args:
        parts: `Parts` of a model.

    Returns:
        The trackable object; a dictionary of its signatures; and a dictionary
        of the endpoints' shapes.
    """
    encode = _Copy(parts.encoder, _with_endpoints(parts.encoder))
    project = None
    if parts.projection_head is not None:
        project = _Copy(parts.projection_head, parts.projection_head)

    # Every way in calls these two, which are so stored only once.
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
    # NumPy's floats are float64 if nothing else is said.
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
    # As Keras's TFSMLayer calls them: one argument, one mode each.
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
    """Functions to be saved, with the inputs and modes they are traced for.

    TensorFlow keeps what it traces while it saves apart from what was traced
    before, and saves the former: functions that are traced beforehand are
    traced twice. So they are traced by the first of the signatures, which is
    traced while saving, before anything else is.
    """

    def __init__(self):
        self.traces = []

    def add(self, function, specs, modes=((),)):
        """A `tf.function` for the inputs, in each mode; not traced yet."""
        function = tf.function(function, autograph=False)
        self.traces += [(function, s, mode) for s in specs for mode in modes]
        return function

    def trace(self):
        """Traces what is not traced yet."""
        with tf.init_scope():  # Outside of the signature's own graph.
            for function, spec, mode in self.traces:
                function.get_concrete_function(spec, *mode)


class _Copy:
    """A Keras layer that computes with TensorFlow variables of its own.

    The copies bear the whole path as their name, by which readers tell them
    apart, and are plain variables where a strategy has mirrored the layer's.
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
        """The copies of some of the layer's variables."""
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
    """An object with what TF Hub's interface asks for."""
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
    # With the states of random layers, which are no weights.
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
    """The ids of variables that a loaded SavedModel in the layer computes with.

    Its functions know their variables by themselves and take no others.
    """
    return {
        id(v)
        for sublayer in keras_private.flatten_layers(layer)
        if isinstance(sublayer, (keras.layers.TFSMLayer, SavedModelEncoder))
        for v in sublayer.variables
    }


@contextlib.contextmanager
def unsynchronized(*layers):
    """Batch norm takes its own replica's statistics for a while.

    A saved function has one replica, and the all-reduce that would be left of
    it there is a custom gradient, which readers warn of.
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
    """The encoder as a function to a dictionary, with every endpoint."""
    endpoints = getattr(encoder, "endpoints", None)
    if isinstance(endpoints, dict) and hasattr(encoder, "input"):
        outputs = {**endpoints, "representation": encoder.output}
        return keras.Model(encoder.input, outputs)
    return lambda images, training: {
        "representation": encoder(images, training=training)
    }


def _to_unit_range(images):
    """Floats as float32, uint8 from [0, 255] to [0, 1]."""
    floats = tf.cast(images, tf.float32)
    return floats / 255.0 if images.dtype == tf.uint8 else floats


def _to_float32(tensor):
    # Readers of other languages know no bfloat16.
    return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor
