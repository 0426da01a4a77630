"""What a replica computes compiles whole, and in TPUStrategy's trace too."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

import simclr_keras
from simclr_keras import distribution
from tests.distribution.tpu_stand_in import Lockstep, TPUStandIn

SIZE, DIM, STEPS = 16, 8, 2


def small_encoder():
    """The kinds of layers of a ResNet, few enough to compile in seconds."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.ReLU(),
            keras.layers.Conv2D(16, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def resnet():
    return simclr_keras.encoders.ResNet18(
        width_multiplier=1 / 16, stem="cifar", input_shape=(SIZE, SIZE, 3)
    )


def build_model(make_encoder=small_encoder, probe_on="views", **kwargs):
    """A model with full augmentation, LARS with decay and a schedule."""
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        make_encoder(),
        simclr_keras.ProjectionHead(DIM),
        augmentation=simclr_keras.SimCLRAugmentation(SIZE, SIZE, seed=3),
        num_classes=10,
        probe_on=probe_on,
    )
    schedule = simclr_keras.WarmupCosineDecay(0.5, 10, warmup_steps=1)
    model.compile(
        simclr_keras.LARS(schedule, weight_decay=1e-4),
        loss=simclr_keras.NTXentLoss(0.5),
        **kwargs,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def make_batch(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype="uint8")
    return images, rng.integers(0, 10, count)


def state(model):
    """Weights, statistics, slots and metrics, as arrays by number and path."""
    variables = model.variables
    return {f"{i} {v.path}": v.numpy() for i, v in enumerate(variables)}


def assert_same_state(state_, expected, rtol, atol):
    assert len(state_) == len(expected)
    for (name, a), b in zip(state_.items(), expected.values()):
        # Of the largest number of the variable: what is near to zero is a
        # difference of larger ones.
        scale = max(1e-30, np.abs(b).max())
        np.testing.assert_allclose(
            a, b, rtol=rtol, atol=atol * scale, err_msg=name
        )


# --- One device, through fit ------------------------------------------------
@pytest.mark.slow
def test_compiled_fit_equals_plain():
    images, labels = make_batch(STEPS * 8)
    states = {}
    for jit_compile in (False, True):
        # It calls the encoder in both modes.
        model = build_model(jit_compile=jit_compile, probe_on="images")
        assert model.jit_compile == jit_compile
        model.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
        states[jit_compile] = state(model)
    # Sums in float32 in another order.
    assert_same_state(states[True], states[False], rtol=1e-4, atol=1e-4)


# --- One replica of two, as TPUStrategy traces it ---------------------------
def add_up_by_xla(values):
    """An operation that XLA has between replicas, in a group of one."""
    return [
        gen_xla_ops.xla_all_reduce(
            value,
            group_assignment=[[0]],
            reduce_op="Add",
            mode="CrossReplica",
        )
        for value in values
    ]


def make_replica_step(
    make_encoder=small_encoder, add_up=add_up_by_xla, jit_compile=True
):
    """A model and the step of a replica of two, its number an argument."""
    strategy = TPUStandIn(2, add_up)
    with strategy.scope():
        model = build_model(make_encoder)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(replica_id, images, labels):
        return strategy.run_one(replica_id, model.train_step, (images, labels))

    return model, step


def dynamic_shapes(graph):
    """The nodes with a dimension that is not known, functions included."""
    graph_def = graph.as_graph_def(add_shapes=True)
    nodes = list(graph_def.node)
    for function in graph_def.library.function:
        nodes.extend(function.node_def)
    assert any("_output_shapes" in node.attr for node in nodes)
    return [
        f"{node.op} {node.name}"
        for node in nodes
        for shape in node.attr["_output_shapes"].list.shape
        if shape.unknown_rank or any(d.size < 0 for d in shape.dim)
    ]


@pytest.mark.parametrize(
    "make_encoder",
    [small_encoder, pytest.param(resnet, marks=pytest.mark.slow)],
)
def test_replica_has_static_shapes_and_what_xla_has(make_encoder):
    n = 4
    _, step = make_replica_step(make_encoder)
    args = (tf.constant(1), *map(tf.constant, make_batch(n)))
    graph = step.get_concrete_function(*args).graph
    assert dynamic_shapes(graph) == []
    # Fails with the names of the operations that XLA lacks.
    program = step.experimental_get_compiler_ir(*args)(stage="hlo")
    # XLA's dynamic dimensions have a bound, as in f32[<=8].
    assert "<=" not in re.sub(r"metadata=\{.*?\}", "", program)
    # Code for one kind of device only.
    assert "custom-call" not in program
    # The gather is a sum over (R, n, D), its gradient too, for either view;
    # one more for the metrics, unless XLA finds that it is the loss's.
    gathers = re.findall(rf"= f32\[2,{n},{DIM}\]\S* all-reduce\(", program)
    assert 4 <= len(gathers) <= 5


def test_stand_in_finds_dynamic_shapes_and_what_xla_lacks():
    strategy = TPUStandIn(2, add_up_by_xla)

    def trace(function, signature):
        step = tf.function(
            lambda x: strategy.run_one(0, function, x),
            jit_compile=True,
            input_signature=[signature],
        )
        return step, step.get_concrete_function().graph

    _, graph = trace(distribution.all_gather, tf.TensorSpec((None, 3)))
    assert dynamic_shapes(graph)
    _, graph = trace(distribution.all_gather, tf.TensorSpec((4, 3)))
    assert not dynamic_shapes(graph)
    step, _ = trace(tf.strings.as_string, tf.TensorSpec((4, 3)))
    with pytest.raises(Exception, match="AsString"):
        step.experimental_get_compiler_ir(tf.zeros((4, 3)))(stage="hlo")


@pytest.mark.slow
def test_compiled_replica_equals_plain():
    # The sum over a group of one is its argument.
    ways = {"xla": {}, "plain": {"add_up": list, "jit_compile": False}}
    states, logs = {}, {}
    for name, options in ways.items():
        model, step = make_replica_step(**options)
        for seed in range(STEPS):
            logs[name] = step(tf.constant(1), *make_batch(4, seed))
        states[name] = state(model)
    # Sums in float32 in another order.
    assert_same_state(states["xla"], states["plain"], rtol=1e-4, atol=1e-4)
    assert float(logs["xla"]["loss"]) == pytest.approx(
        float(logs["plain"]["loss"]), rel=1e-5
    )


# --- All replicas, as TPUStrategy would run them ----------------------------
@pytest.mark.parametrize("num_replicas", [2, 4])
def test_replicas_equal_one_device(num_replicas):
    lockstep = Lockstep(num_replicas)
    with lockstep.strategy.scope():
        models = [build_model() for _ in range(num_replicas)]
    single = build_model()
    logs = []
    for seed in range(STEPS):
        images, labels = make_batch(8, seed)
        shares = [np.split(a, num_replicas) for a in (images, labels)]
        logs = lockstep.run(
            lambda i, shares=shares: models[i].train_step(
                tuple(tf.constant(share[i]) for share in shares)
            )
        )
        expected = single.train_step((tf.constant(images), tf.constant(labels)))
    for model in models:
        for variable, expected_variable in zip(model.weights, single.weights):
            a, b = variable.numpy(), expected_variable.numpy()
            # float32: sums in another order, relative to the largest number.
            np.testing.assert_allclose(
                a,
                b,
                rtol=1e-5,
                atol=1e-5 * np.abs(b).max(),
                err_msg=variable.path,
            )
    # Of a replica's own images: their mean is what Keras logs.
    for name in ("loss", "contrastive_accuracy", "probe_loss"):
        mean = np.mean([float(replica_logs[name]) for replica_logs in logs])
        assert mean == pytest.approx(float(expected[name]), rel=1e-5), name


@pytest.mark.parametrize("num_replicas", [2, 4])
def test_gather_and_its_gradient(num_replicas):
    rng = np.random.default_rng(0)
    n, shape = 3, (3 * num_replicas, 2, 5)
    x = rng.standard_normal(shape).astype("float32")
    # Each replica makes something else of what it gathered.
    weight = rng.standard_normal((num_replicas, *shape)).astype("float32")

    def replica(i):
        rows = tf.constant(x[i * n : (i + 1) * n])
        with tf.GradientTape() as tape:
            tape.watch(rows)
            gathered = distribution.all_gather(rows)
            value = tf.reduce_sum(weight[i] * gathered)
        return gathered, tape.gradient(value, rows)

    results = Lockstep(num_replicas).run(replica)
    for gathered, _ in results:
        np.testing.assert_array_equal(gathered, x)  # adding zeros is exact
    gradient = np.concatenate([g for _, g in results])
    # float32: sums of up to four numbers in another order.
    np.testing.assert_allclose(gradient, weight.sum(axis=0), atol=1e-6)


def test_batch_of_unknown_size_says_drop_remainder():
    strategy = TPUStandIn(2, list)

    @tf.function(input_signature=[tf.TensorSpec((None, DIM))])
    def replica(z):
        return strategy.run_one(0, simclr_keras.NTXentLoss(), z, z)

    with pytest.raises(ValueError, match="drop_remainder=True"):
        replica.get_concrete_function()
