"""Each private name is needed still; the test that fails says which is not.

A test here is of Keras or TensorFlow, not of this library: it shows what goes
wrong without the name. Once it does not, what is in `keras_private` can go.
"""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.saving import saving_lib
from tensorflow.python.framework import ops

from simclr_keras import keras_private


def test_layers_do_not_list_their_sublayers():
    class Nested(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential([keras.layers.Dense(1)])

    layer = Nested()
    assert not hasattr(layer, "layers")
    assert {type(each) for each in keras_private.flatten_layers(layer)} == {
        Nested,
        keras.Sequential,
        keras.layers.Dense,
    }


def test_strategies_do_not_say_what_they_were_given():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    public = [name for name in dir(strategy) if not name.startswith("_")]
    assert not [name for name in public if "cross_device" in name]
    found = keras_private.cross_device_ops(strategy)
    assert isinstance(found, tf.distribute.ReductionToOneDevice)


def test_datasets_run_stateful_functions_side_by_side():
    inside = []

    def note(x):
        inside.append(keras_private.in_dataset_function())
        return x

    dataset = tf.data.Dataset.range(2)
    dataset.map(note, num_parallel_calls=2)
    dataset.map(tf.function(note))
    tf.function(note)(tf.constant(1))
    note(1)
    assert inside == [True, True, False, False]
    # Were they run one at a time, there would be as many values as elements.
    counter = tf.Variable(0, dtype="int64")

    def slowly(x):
        before = counter.read_value()
        with tf.control_dependencies([before]):
            wait = tf.reduce_sum(tf.random.normal((200, 200)))
        with tf.control_dependencies([wait]):
            counter.assign(before + 1)
        return before

    seen = tf.data.Dataset.range(200).map(slowly, num_parallel_calls=4)
    cores = getattr(os, "sched_getaffinity", lambda _: range(2))(0)
    if len(cores) > 1:
        assert len({int(x) for x in seen}) < 200


class TwoInputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.calls = 0

    def call(self, x):
        self.calls += 1
        return self.dense(x)


def test_keras_reads_a_batch_for_its_shapes():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = TwoInputs()
        model.compile("sgd", "mse")
    count = tf.Variable(0, dtype="int64")

    def counted(x):
        with tf.control_dependencies([count.assign_add(1)]):
            return tf.identity(x), x

    data = tf.data.Dataset.from_tensor_slices(tf.ones((4, 2))).map(counted)
    model.fit(data.batch(2), verbose=0)
    # Once for the shapes and once to train.
    assert int(count) > 4


class Still(keras.optimizers.Optimizer):
    """An optimizer that leaves its variables where they are."""

    seen = None

    def update_step(self, gradient, variable, learning_rate):
        self.seen = variable


def test_own_weight_decay():
    # With an attribute of this name Keras decays, apart from the gradient.
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = Still(learning_rate=0.5)
    optimizer.weight_decay = 0.1
    optimizer.apply([tf.zeros(3)], [variable])
    np.testing.assert_allclose(variable, 0.95, rtol=1e-6)


def test_variable_index():
    # The variable of a step can be told by nothing that is public.
    layer = keras.layers.Dense(3, name="dense")
    layer.build((None, 2))
    optimizer = Still(learning_rate=0.5)
    kernel = layer.kernel
    optimizer.apply([tf.zeros((2, 3))], [kernel])
    assert optimizer.seen is not kernel
    assert not hasattr(optimizer.seen, "path")
    with pytest.raises(AttributeError):
        optimizer.get_variable_index(kernel)


def test_xla_takes_the_variance_without_the_mean():
    inside = []

    def variance(x):
        inside.append(keras_private.in_xla())
        empty = tf.zeros(0)
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.ones(1),
            offset=tf.zeros(1),
            mean=empty,
            variance=empty,
        ).batch_variance

    x = np.random.default_rng(0).normal(1000, 1, (64, 8, 8, 1))
    x = x.astype("float32")
    plain, compiled = (
        tf.function(variance, jit_compile=jit_compile)(x)
        for jit_compile in (False, True)
    )
    nested = tf.function(tf.function(variance), jit_compile=True)
    nested(x)
    variance(x)
    assert inside == [False, True, True, False]
    np.testing.assert_allclose(plain, [x.var(dtype="float64")], rtol=1e-3)
    # Once this fails, the fused form can be compiled too, and `in_xla` can go.
    assert abs(float(compiled[0]) - float(plain[0])) > 0.01


def test_a_scope_is_not_seen_in_public():
    public = [name for name in dir(keras) if "stateless_scope" in name]
    assert not public
    assert not keras_private.in_stateless_scope()
    with keras.StatelessScope():
        assert keras_private.in_stateless_scope()


def test_keras_does_not_find_what_it_has_noted():
    for kind in ("skipset", "skiplist"):
        global_state.set_global_attribute(f"saving_attr_{kind}_Optimizer", None)

    def ask():
        return saving_lib.get_attr_skipset("Optimizer")

    assert ask() is not ask()
    keras_private.remember_what_is_not_saved()
    assert ask() is ask()


def test_custom_gradients_are_remembered_for_good():
    @tf.custom_gradient
    def double(x):
        return 2 * x, lambda upstream: 2 * upstream

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = double(x)
        return tape.gradient(y, x)

    def forgetting(x):
        with keras_private.forgets_custom_gradients():
            return gradient(x)

    registry = ops.gradient_registry._registry
    for function, is_remembered in ((gradient, True), (forgetting, False)):
        before = len(registry)
        assert float(tf.function(function)(tf.constant(3.0))) == 2.0
        assert (len(registry) > before) == is_remembered


class AddsItsSum(keras.layers.Dense):
    def call(self, x):
        self.add_loss(keras.ops.sum(x))
        return super().call(x)


def test_a_call_forgets_what_the_one_before_has_added_to_the_loss():
    layer = AddsItsSum(3, kernel_regularizer="l2")
    for scale in (1, 2):
        layer(scale * np.ones((4, 2), "float32"))
        # Of the weights and of the call, which `losses` does not tell apart.
        assert len(layer.losses) == 2
        (added,) = keras_private.added_losses(layer)
        assert float(added) == 8 * scale
