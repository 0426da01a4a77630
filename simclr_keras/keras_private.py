"""Names of Keras and TensorFlow that are not public, all in one place.

Nothing else in this package uses one. Each says what breaks without it, and
when it can go; `tests/test_keras_private.py` fails once that time has come.
All were seen in Keras 3.15.1 and TensorFlow 2.21.
"""

import contextlib

import keras
from keras.src.backend.common import global_state as _global_state
from keras.src.backend.common.stateless_scope import (
    in_stateless_scope as _in_stateless_scope,
)
from keras.src.trainers.data_adapters import array_data_adapter as _arrays

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.framework import ops as _ops
else:
    tf = None


def flatten_layers(layer):
    """A layer and all layers in it, however deep: `Layer._flatten_layers`.

    `keras.Model.layers` has the direct ones alone and `keras.layers.Layer` has
    no such attribute. Without it, batch norm that sees one replica's images
    and layers that compute in 16 bits are not found in a user's encoder. It
    can go when `keras.layers.Layer` lists its sublayers.
    """
    return list(layer._flatten_layers())


def added_losses(layer):
    """What `add_loss`, or penalties on activities, gave in a layer's last call.

    `Layer.losses` holds the penalties on weights among them, and another call
    forgets all. Without it, of views of several sizes those of the last alone
    are penalized. It can go when `keras.layers.Layer` tells the two apart.
    """
    return [
        loss
        for each in flatten_layers(layer)
        for loss in each._get_own_losses()
    ]


def cross_device_ops(strategy):
    """What a `tf.distribute.Strategy` was given as `cross_device_ops`.

    Without it, `steps_per_execution` above 1 ends in TensorFlow's "You must
    feed a value for placeholder tensor" under the default ones, with no word
    on the cause. It can go when a strategy says what it was given.
    """
    return getattr(strategy.extended, "_cross_device_ops", None)


def remember_what_is_not_saved():
    """Makes Keras find what it has noted of attributes that are not saved.

    It notes them under one name and looks under another (seen in Keras 3.15),
    so that each `save_weights` makes an optimizer to ask for its attributes,
    and TensorFlow keeps 35 KB for every name that a variable ever had. It can
    go when `saving_lib.get_attr_skipset` finds them.
    """
    for kind in ("Layer", "Functional", "Sequential", "Metric", "Optimizer"):
        found = _global_state.get_global_attribute(
            f"saving_attr_skipset_{kind}"
        )
        if found is not None:
            _global_state.set_global_attribute(
                f"saving_attr_skiplist_{kind}", found
            )


@contextlib.contextmanager
def forgets_custom_gradients():
    """Lets go of what `tf.custom_gradient` remembers of a trace.

    TensorFlow registers the gradient of each call in a graph under a name of
    its own, for good, and with it the whole graph: every model that was ever
    trained stays in memory (seen in TensorFlow 2.21). The names are asked for
    while gradients are taken. It can go when they end with their graphs.
    """
    if tf is None or tf.executing_eagerly():
        yield
        return
    found = _ops.gradient_registry._registry
    before = set(found)
    try:
        yield
    finally:
        for name in set(found) - before:
            if name.startswith("CustomGradient-"):
                # Each replica has a thread of its own.
                found.pop(name, None)


def in_dataset_function():
    """Whether this is traced as a function of a `tf.data.Dataset`.

    TensorFlow names such graphs after the dataset's method, `Dataset_map_...`,
    and says nothing else of where they run. Without it, a random layer in
    `Dataset.map` draws some numbers twice and others never, in silence. It can
    go when `tf.data` runs stateful functions one at a time or says that it
    does not.
    """
    if tf is None or tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if str(getattr(graph, "name", "")).startswith("Dataset_"):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def in_xla():
    """Whether this is traced in a `tf.function(jit_compile=True)`.

    TensorFlow notes it in a control flow context of the graph, which has no
    public name. Without it, batch norm that XLA compiles takes its variance as
    E[x^2] - E[x]^2, whose digits are lost where the mean is large. It can go
    when XLA's `FusedBatchNormV3` subtracts the mean first.
    """
    if tf is None or tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def with_autograph(function):
    """A function as TensorFlow's AutoGraph rewrites it, in a graph.

    Keras switches AutoGraph off in a step. Layers such as KerasCV's rely on
    it: they branch in functions that they hand to `tf.map_fn`. A new
    `tf.function` turns it on by a public name; one for each call, as each
    replica has variables of its own.
    """
    if tf is None or tf.executing_eagerly():
        return function
    if in_stateless_scope():
        # What is assigned belongs to the graph in which it was computed.
        return tf.function(lambda *arguments: _forgetting(function, arguments))
    return tf.function(function)


def _forgetting(function, arguments):
    with keras.StatelessScope():
        return function(*arguments)


def in_stateless_scope():
    """Whether assignments are kept apart from the variables, in a scope.

    Keras has a public `StatelessScope` and no public way to ask for it.
    Without it, `fit` fails for a foreign augmentation that draws without a
    seed, by Keras's global generator: the state after the draw is looked for
    in another graph. It can go when Keras says it in public.
    """
    return _in_stateless_scope()


class _Arrays(_arrays.ArrayDataAdapter):
    def get_tf_dataset(self):
        options = tf.data.Options()
        options.autotune.enabled = False
        return super().get_tf_dataset().with_options(options)


def arrays_for_steps(x, y=None, batch_size=None, steps=None, shuffle=False):
    """Arrays as Keras passes them to its steps: a data adapter, not autotuned.

    On TensorFlow, the thread that tunes Keras's dataset of arrays sleeps for as
    long as the pass has taken so far, up to a minute, and often misses that
    the pass is over, which waits for it. Without this, an epoch of five
    seconds can take ten, in `fit` as in `predict`. Keras takes the adapters of
    others and has none in public. It can go when its own ends in time.

    Args:
        x, y: As given to `fit`.
        batch_size, steps, shuffle: As given to `fit`.

    Returns:
        x, y: An adapter and None for arrays, others as they are.
    """
    if tf is None or not _arrays.can_convert_arrays((x, y)):
        return x, y
    # Of which the size of a batch is made where none is given.
    most = keras.config.max_steps_per_epoch()
    if most:
        steps = min(steps or most, most)
    return _Arrays(
        x, y, batch_size=batch_size, steps=steps, shuffle=shuffle
    ), None


class BuildsBeforeSteps:
    """A model that makes its variables in `fit`, by shapes: `_symbolic_build`.

    Keras reads a first batch for its shapes and calls the model on it. Without
    this, a shuffle buffer is filled twice and the model is called on images
    where a step makes views of them. It can go when Keras builds from an
    `element_spec` and by `compute_loss`.
    """

    def _symbolic_build(self, iterator=None, data_batch=None):
        if self.is_complete():
            return
        if data_batch is None:
            for _, _, data in iterator:
                is_batch = isinstance(data, (list, tuple))
                data_batch = data[0] if is_batch else next(data)
                break
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data_batch)
        self.complete(x, y)


class BuildsBeforeTensorFlowSteps(BuildsBeforeSteps):
    """The same under `tf.distribute`: `_maybe_symbolic_build`.

    Keras takes the mean over the replicas of a batch that is spread over them.
    Without this, `fit` fails for a ragged batch and, for any model, with
    several workers (seen in Keras 3.15, keras-team/keras#20585). It can go
    when `fit` works for any model under `MultiWorkerMirroredStrategy`.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        self.before_steps(is_single_batch=iterator is None)
        if not self.has_replicas() or self.is_complete():
            return
        # A generator: nothing but a batch says what it holds.
        share = self.one_share(next(next(iter(iterator))[-1]))
        self._symbolic_build(data_batch=share)


class LossWithoutForward:
    """On JAX, a loss that calls the model itself: `compute_loss_and_updates`.

    Keras calls the model on the images before the loss, whose views are
    others. Without this, batch norm's moving statistics see the images too,
    every step costs a forward pass more, and what layers add to the loss, which
    Keras keeps of that forward pass alone, is lost. It can go when Keras's step
    leaves the forward pass to a loss that wants to make it.
    """

    def compute_loss_and_updates(
        self,
        trainable_variables,
        non_trainable_variables,
        metrics_variables,
        x,
        y,
        sample_weight,
        training=False,
        optimizer_variables=None,
    ):
        mapping = [
            *zip(self.trainable_variables, trainable_variables),
            *zip(self.non_trainable_variables, non_trainable_variables),
            *zip(self.metrics_variables, metrics_variables),
        ]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            loss = self.compute_loss(
                x, y, None, sample_weight, training=training
            )
        non_trainable_variables, metrics_variables = (
            [scope.get_current_value(variable) for variable in variables]
            for variables in (
                self.non_trainable_variables,
                self.metrics_variables,
            )
        )
        scaled_loss = loss
        if training:
            mapping = list(zip(self.optimizer.variables, optimizer_variables))
            with keras.StatelessScope(state_mapping=mapping):
                scaled_loss = self.optimizer.scale_loss(loss)
        return scaled_loss, (
            loss,
            None,
            non_trainable_variables,
            metrics_variables,
        )


class OwnWeightDecay:
    """Mixin for an optimizer that applies its `weight_decay` itself.

    Keras's `_apply_weight_decay` shrinks the weights by an attribute of that
    name, decoupled from the gradient. Without this mixin, an optimizer that
    adds the decay to the gradient would decay twice. It cannot be switched off
    by excluding every variable in `exclude_from_weight_decay`: on PyTorch,
    Keras then passes an empty list to `torch._foreach_mul_`. It can go when an
    optimizer can turn Keras's decay off in public.
    """

    def _apply_weight_decay(self, variables):
        pass


def variable_index(optimizer, variable):
    """Position of `update_step`'s variable among those given to `build`.

    `Optimizer._get_variable_index`, which Keras's own docstring on custom
    optimizers uses. Without it, `update_step` cannot find the slots of its
    variable: on TensorFlow that is a `tf.Variable` without a path, and under
    `tf.distribute` one replica's. It can go when `update_step` receives the
    `keras.Variable`, or Keras has a public name for this.
    """
    return optimizer._get_variable_index(variable)
