import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import ProjectionHead, encoders
from simclr_keras.batch_norm import (
    BatchNormalization,
    batch_norm,
    fuse_batch_norm,
)
from tests import checks

SHAPE = (4, 5, 3, 6)
KERAS_ARGUMENTS = inspect.signature(keras.layers.BatchNormalization).parameters
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
# float32: sums of 60 numbers of size 1. 16 bits: one rounding of the output,
# and of the gradient of the input; Keras's own layer rounds at the same places.
TOLERANCE = {
    "float32": {"rtol": 1e-5, "atol": 1e-5},
    "mixed_bfloat16": {"rtol": 2**-7, "atol": 2**-7},
    "mixed_float16": {"rtol": 2**-9, "atol": 2**-9},
}


def numbers(shape=SHAPE, seed=0, mean=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(mean, 1.5, shape).astype("float32")


def built(cls=BatchNormalization, shape=SHAPE, **kwargs):
    """A layer whose weights are not the initial ones."""
    layer = cls(**{"momentum": 0.9, "epsilon": 1e-5, **kwargs})
    layer.build((None, *shape[1:]))
    rng = np.random.default_rng(1)
    layer.set_weights(
        [rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()]
    )
    return layer


def trace(layer, inputs, jit_compile=None, **kwargs):
    """A function of a layer's inputs, and the names of the operations in it."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def function(x):
        return layer(x, **kwargs)

    concrete = function.get_concrete_function(tf.convert_to_tensor(inputs))
    return function, {op.type for op in concrete.graph.get_operations()}


def is_fused(layer, inputs, **kwargs):
    kwargs = {"training": True, **kwargs}
    return "FusedBatchNormV3" in trace(layer, inputs, **kwargs)[1]


def step(layer, inputs, training=True):
    """Outputs, statistics after the call, gradients of all variables."""
    x = tf.cast(inputs, layer.compute_dtype)
    weights = numbers(inputs.shape, seed=2, mean=0.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        # Not a sum, whose gradient of the input would be 0.
        loss = tf.reduce_sum(tf.cast(y, "float32") * weights)
    variables = layer.trainable_variables
    gradients = tape.gradient(loss, [x, *(v.value for v in variables)])
    return {
        "outputs": y,
        "input_gradient": gradients[0],
        **{f"gradient_{v.name}": g for v, g in zip(variables, gradients[1:])},
        **{v.name: v.value for v in layer.non_trainable_variables},
    }


def assert_equal_steps(found, expected, rtol, atol):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        value = np.asarray(value, "float32")
        # Of a sum, by its size.
        scale = np.abs(value).max(initial=1.0) if "gradient" in name else 1.0
        np.testing.assert_allclose(
            np.asarray(found[name], "float32"),
            value,
            rtol=rtol,
            atol=atol * scale,
            err_msg=name,
        )


# --- Values ----------------------------------------------------------------


@pytest.mark.parametrize("mode", list(checks.MODES))
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_keras(dtype, training, mode):
    layers = [
        built(cls, dtype=dtype)
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    for seed in (0, 1):  # the second step starts from moved statistics
        found, expected = (
            checks.MODES[mode](lambda x, layer=layer: step(layer, x, training))(
                numbers(seed=seed)
            )
            for layer in layers
        )
        assert_equal_steps(found, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize(
    "kwargs",
    [
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
        {"epsilon": 1e-7},
        {"epsilon": 1e-3, "momentum": 0.5},
        {"axis": 3},
        {"axis": 1},
        {"synchronized": True},
        {"dtype": "float64"},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_equals_keras_with(kwargs):
    # Small variances, where epsilon counts.
    x = numbers() * 1e-2
    found, expected = (
        step(built(cls, **kwargs), x)
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    )
    tolerance = TOLERANCE[
        "mixed_bfloat16" if "bf" in str(kwargs) else "float32"
    ]
    assert_equal_steps(found, expected, **tolerance)


@pytest.mark.parametrize(
    "shape",
    [
        (4, 5, 3, 1),
        (1, 1, 1, 6),  # a variance of 0, unbiased 0 / 0
        (2, 1, 1, 6),  # unbiased twice the biased one
        (8, 6),
        (4, 5, 6),
        (2, 2, 2, 2, 6),
    ],
    ids=str,
)
def test_shapes(shape):
    found, expected = (
        step(built(cls, shape), numbers(shape))
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    )
    # Two values: their gradient is a difference of nearly equal numbers.
    assert_equal_steps(found, expected, rtol=1e-5, atol=1e-4)


def test_empty_batch():
    shape = (0, *SHAPE[1:])
    found, expected = (
        step(built(cls), numbers(shape))
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    )
    # The mean of nothing is NaN. Keras's gradient of gamma is NaN too.
    assert np.isnan(expected.pop("gradient_gamma")).all()
    assert not np.any(found.pop("gradient_gamma"))
    assert np.isnan(found["moving_mean"]).all()
    assert_equal_steps(found, expected, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("mode", list(checks.MODES))
def test_a_large_mean_costs_no_digits(mode):
    x = numbers(mean=1000.0)
    layer = built()
    before = layer.moving_variance.numpy()
    checks.MODES[mode](lambda x: layer(x, training=True))(x)
    variance = x.astype("float64").var(axis=(0, 1, 2))
    # float32: the mean, 1000, has 6e-5; E[x^2] - E[x]^2 would be out by 0.1.
    np.testing.assert_allclose(
        layer.moving_variance, 0.9 * before + 0.1 * variance, rtol=1e-5
    )


def loop(x, gamma, beta, mean, variance, momentum, epsilon):
    """Ioffe and Szegedy's Algorithm 1, a channel at a time, in float64.

    The moving statistics are Keras's: of the biased variance, where the paper's
    Algorithm 2 takes the unbiased one.
    """
    x = x.astype("float64")
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        values = x[..., c].ravel()
        m = len(values)
        mu = sum(values) / m
        sigma2 = sum((v - mu) ** 2 for v in values) / m
        normalized = [(v - mu) / (sigma2 + epsilon) ** 0.5 for v in values]
        y[..., c] = np.reshape(
            [gamma[c] * v + beta[c] for v in normalized], x.shape[:-1]
        )
        mean[c] = momentum * mean[c] + (1 - momentum) * mu
        variance[c] = momentum * variance[c] + (1 - momentum) * sigma2
    return y, mean, variance


def test_equals_the_papers_algorithm():
    layer = built()
    assert is_fused(layer, numbers())
    weights = [w.astype("float64") for w in layer.get_weights()]
    expected, mean, variance = loop(numbers(), *weights, 0.9, 1e-5)
    found = layer(numbers(), training=True)
    # float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


def test_frozen_is_inference():
    layer = built(trainable=False)
    before = layer.get_weights()
    np.testing.assert_array_equal(
        layer(numbers(), training=True), layer(numbers(), training=False)
    )
    for old, new in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(new, old)


# --- Which form ------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("synchronized", [False, True])
def test_is_fused_on_one_replica(dtype, synchronized):
    layer = built(dtype=dtype, synchronized=synchronized)
    assert is_fused(layer, numbers())
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        layer = built(dtype=dtype, synchronized=synchronized)
        assert is_fused(layer, numbers())


@pytest.mark.parametrize(
    ("kwargs", "call"),
    [
        ({}, {"training": False}),
        ({}, {"training": None}),
        ({"trainable": False}, {}),
        ({}, {"mask": np.ones(SHAPE[:-1], bool)}),
        ({}, {"jit_compile": True}),
        ({"axis": 1}, {}),
        ({"axis": 2}, {}),
        ({"dtype": "float64"}, {}),
        pytest.param(
            {"renorm": True},
            {},
            marks=pytest.mark.skipif(
                "renorm" not in KERAS_ARGUMENTS,
                reason="this Keras has no batch renormalization",
            ),
        ),
    ],
    ids=str,
)
def test_is_keras_form(kwargs, call):
    assert not is_fused(built(**kwargs), numbers(), **call)


def test_takes_a_mask():
    mask = np.random.default_rng(0).random(SHAPE[:-1]) < 0.5
    found, expected = (
        built(cls)(numbers(), training=True, mask=mask)
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    )
    np.testing.assert_array_equal(found, expected)


def test_keras_does_not_use_the_kernel():
    """Once this fails, `BatchNormalization` can go."""
    assert not is_fused(built(keras.layers.BatchNormalization), numbers())


def test_unknown_batch_size_and_image_size():
    layer = built()
    function = tf.function(
        lambda x: layer(x, training=True),
        input_signature=[tf.TensorSpec((None, None, None, 6))],
    )
    expected = built(keras.layers.BatchNormalization)
    for shape in (SHAPE, (2, 7, 7, 6)):
        np.testing.assert_allclose(
            function(numbers(shape)),
            expected(numbers(shape), training=True),
            rtol=1e-5,
            atol=1e-5,
        )
        for a, b in zip(layer.get_weights(), expected.get_weights()):
            np.testing.assert_allclose(a, b, rtol=1e-5)


# --- Saving ----------------------------------------------------------------


def test_config():
    layer = built(center=False, synchronized=True, gamma_regularizer="l2")
    keras_layer = keras.layers.BatchNormalization.from_config(
        layer.get_config()
    )
    assert layer.get_config() == keras_layer.get_config()
    again = BatchNormalization.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_saves_and_loads(tmp_path):
    checks.check_saves_and_loads(built(), (numbers(),), tmp_path, training=True)


@pytest.mark.parametrize("saved", ["ours", "keras"])
def test_weights_load_both_ways(saved, tmp_path):
    models = {
        name: keras.Sequential(
            [keras.Input(SHAPE[1:]), built(cls, name="norm")]
        )
        for name, cls in (
            ("ours", BatchNormalization),
            ("keras", keras.layers.BatchNormalization),
        )
    }
    source = models.pop(saved)
    (target,) = models.values()
    assert [v.path.split("/")[-2:] for v in source.variables] == [
        v.path.split("/")[-2:] for v in target.variables
    ]
    source.layers[-1].set_weights(
        [numbers(w.shape, seed=3) for w in source.get_weights()]
    )
    path = tmp_path / "saved.weights.h5"
    source.save_weights(path)
    target.load_weights(path)
    for a, b in zip(source.get_weights(), target.get_weights()):
        np.testing.assert_array_equal(a, b)
    path = tmp_path / "saved.keras"
    source.save(path)
    target.set_weights([np.zeros_like(w) for w in target.get_weights()])
    target.load_weights(path)
    for a, b in zip(source.get_weights(), target.get_weights()):
        np.testing.assert_array_equal(a, b)


# --- Where it is used ------------------------------------------------------


def norms(layer):
    return [
        each
        for each in layer._flatten_layers()
        if isinstance(each, keras.layers.BatchNormalization)
    ]


def test_encoders_and_head_use_it():
    kwargs = {"width_multiplier": 1 / 16, "stem": "cifar"}
    encoder = encoders.ResNet(18, **kwargs)
    head = ProjectionHead(4)
    head.build((None, 8))
    for layer in (
        encoder,
        head,
        encoders.ResNet(50, sk_ratio=1 / 16, **kwargs),
    ):
        assert norms(layer)
        assert {type(each) for each in norms(layer)} == {BatchNormalization}
    # One kernel for each layer.
    function = tf.function(lambda x: encoder(x, training=True))
    graph = function.get_concrete_function(tf.TensorSpec((2, 8, 8, 3))).graph
    operations = [op.type for op in graph.get_operations()]
    assert operations.count("FusedBatchNormV3") == len(norms(encoder))


def test_defaults():
    layer = batch_norm()
    assert (layer.momentum, layer.epsilon, layer.axis) == (0.9, 1e-5, -1)


# --- fuse_batch_norm -------------------------------------------------------


class Own(keras.layers.BatchNormalization):
    """Somebody's own batch norm."""


def backbone():
    inner = keras.Sequential(
        [keras.layers.BatchNormalization(name="inner"), keras.layers.ReLU()]
    )
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(epsilon=1e-2, name="first"),
            inner,
            Own(),
        ]
    )


def test_fuse_batch_norm(tmp_path):
    keras.utils.set_random_seed(0)
    expected, model = backbone(), backbone()
    model.set_weights(expected.get_weights())
    variables = [id(v) for v in model.variables]
    assert fuse_batch_norm(model) is model
    assert [type(each).__name__ for each in norms(model)].count("Own") == 1
    assert [type(n) for n in norms(model)].count(BatchNormalization) == 2
    assert [id(v) for v in model.variables] == variables
    assert fuse_batch_norm(model) is model  # a second time too
    x = numbers((4, 6, 6, 3))
    for training in (True, False):
        np.testing.assert_allclose(
            model(x, training=training),
            expected(x, training=training),
            rtol=1e-5,
            atol=1e-5,
        )
    for a, b in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    with keras.saving.custom_object_scope({"Own": Own}):
        loaded = checks.save_and_load(model, tmp_path)
    assert [type(n) for n in norms(loaded)].count(BatchNormalization) == 2
    np.testing.assert_array_equal(loaded(x), model(x))


def test_fuse_batch_norm_of_keras_applications():
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, include_top=False, pooling="avg"
    )
    x = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3))
    before = model.get_weights()
    expected = model(x, training=True)
    moved = model.get_weights()
    model.set_weights(before)
    fuse_batch_norm(model)
    assert {type(each) for each in norms(model)} == {BatchNormalization}
    _, operations = trace(model, x.astype("float32"), training=True)
    assert "FusedBatchNormV3" in operations
    # 34 layers of float32 with variances from four images.
    np.testing.assert_allclose(
        model(x, training=True), expected, rtol=1e-3, atol=1e-3
    )
    for a, b in zip(model.get_weights(), moved):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
