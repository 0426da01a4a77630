"""NT-Xent in blocks against the paper's formula in NumPy, in float64."""

import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.losses import LearnedTemperature, NTXentLoss, log_sums, pairs
from tests import checks

DIM = 8


def projections(num_images, seed=0):
    rng = np.random.default_rng(seed)
    z_1 = rng.normal(size=(num_images, DIM))
    return z_1, z_1 + rng.normal(size=(num_images, DIM))


def reference(z_1, z_2, temperature, weights=None, decoupled=False):
    """Equation 1 and its gradient, view by view, in float64.

    Returns:
        Losses (2N,); gradients of their sum by `weights`, (N, D) twice and a
        number: that of the temperature.
    """
    n = len(z_1)
    weights = np.ones(2 * n) if weights is None else weights
    lengths = np.linalg.norm(np.concatenate([z_1, z_2]), axis=1, keepdims=True)
    z = np.concatenate([z_1, z_2]) / lengths
    losses, dz, dt = np.zeros(2 * n), np.zeros_like(z), 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        logits = z @ z[i] / temperature
        out = [i, partner] if decoupled else [i]
        kept = np.delete(logits, out)
        log_sum = kept.max() + np.log(np.exp(kept - kept.max()).sum())
        losses[i] = log_sum - logits[partner]
        p = np.exp(np.minimum(logits - log_sum, 0))
        p[out] = 0
        p[partner] -= 1  # d loss_i / d logits
        dz[i] += weights[i] * (p @ z) / temperature
        dz += weights[i] * p[:, None] * z[i] / temperature
        dt -= weights[i] * (p @ logits) / temperature
    dz = (dz - (dz * z).sum(axis=1, keepdims=True) * z) / lengths
    return losses, dz[:n], dz[n:], dt


def nt_xent(z_1, z_2, temperature, **arguments):
    """What `NTXentLoss` computes, of a temperature that has a gradient."""
    z = pairs.stack_views(z_1, z_2)
    return log_sums.log_sums(z, temperature, **arguments)[0]


def computed(z_1, z_2, temperature, weights, dtype, mode="graph", **arguments):
    """The same of `nt_xent`."""
    inputs = [tf.constant(x, dtype) for x in (z_1, z_2, temperature)]
    weights = tf.constant(weights, dtype)

    def function(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            losses = nt_xent(*inputs, **arguments)
            total = tf.reduce_sum(losses * weights)
        return losses, *tape.gradient(total, inputs)

    if mode.endswith("unknown"):
        views = tf.TensorSpec((None, DIM), dtype)
        function = tf.function(
            function,
            jit_compile=mode.startswith("xla"),
            input_signature=[views, views, tf.TensorSpec((), dtype)],
        )
    else:
        function = checks.MODES[mode](function)
    return [x.numpy() for x in function(*inputs)]


def assert_equal(result, expected, tolerance):
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1)
        )


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 0.02])
@pytest.mark.parametrize(
    ("num_images", "block_size"),
    [(2, 1), (2, 3), (5, 4), (5, 10), (8, 4), (13, 7), (13, 64)],
)
def test_value_and_gradient(num_images, block_size, temperature, decoupled):
    z_1, z_2 = projections(num_images)
    # Each loss counts otherwise, some of them less than nothing.
    weights = np.random.default_rng(1).normal(size=2 * num_images)
    result = computed(
        z_1,
        z_2,
        temperature,
        weights,
        "float64",
        mode="eager",
        block_size=block_size,
        decoupled=decoupled,
    )
    expected = reference(z_1, z_2, temperature, weights, decoupled)
    assert_equal(result, expected, 1e-12)


@pytest.mark.parametrize("block_size", [None, "auto", 128, 300])
def test_many_images_in_float32(block_size):
    z_1, z_2 = projections(1000)
    weights = np.full(2000, 1 / 2000)
    result = computed(z_1, z_2, 0.1, weights, "float32", block_size=block_size)
    expected = reference(z_1, z_2, 0.1, weights)
    assert_equal(result[:1], expected[:1], 1e-5)
    # Of numbers up to 10, which cancel.
    np.testing.assert_allclose(result[3], expected[3], rtol=0, atol=1e-4)
    # Small numbers, as the losses are a mean.
    for a, b in zip(result[1:3], expected[1:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("mode", ["graph", "xla", "unknown", "xla_unknown"])
@pytest.mark.parametrize(
    "block_size", [4, pytest.param(64, marks=pytest.mark.slow)]
)
def test_modes(block_size, mode):
    z_1, z_2 = projections(7)
    weights = np.arange(14.0) - 3
    result = computed(
        z_1, z_2, 0.1, weights, "float64", mode, block_size=block_size
    )
    assert_equal(result, reference(z_1, z_2, 0.1, weights), 1e-12)


@pytest.mark.parametrize("temperature", [1e-3, 0.02, 0.1])
@pytest.mark.parametrize("decoupled", [False, True])
def test_dense_and_blocks_agree_on_the_edges(temperature, decoupled):
    """Rows of zeros, opposite partners, logits of a thousand."""
    z_1, z_2 = projections(6)
    z_1[1] = z_1[2] = z_2[2] = 0
    z_2[0] = -z_1[0]
    weights = np.ones(12)
    dense, blocks = (
        computed(
            z_1,
            z_2,
            temperature,
            weights,
            "float32",
            block_size=block_size,
            decoupled=decoupled,
        )
        for block_size in (None, 5)
    )
    for a, b in zip(blocks, dense, strict=True):
        assert np.isfinite(a).all()
        # float32 cosines are right to 2e-7, which the temperature divides.
        tolerance = 1e-5 + 1e-6 / temperature
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", None])
def test_reductions_and_weights(reduction):
    z_1, z_2 = projections(5)
    losses = reference(z_1, z_2, 0.1)[0]
    loss = NTXentLoss(reduction=reduction, dtype="float64", block_size=4)
    weights = None if reduction == "sum_over_batch_size" else np.arange(10.0)
    result = loss(tf.constant(z_1), tf.constant(z_2), sample_weight=weights)
    expected = {"sum_over_batch_size": np.mean, "sum": np.sum}.get(
        reduction, np.array
    )(losses * (1 if weights is None else weights))
    # Keras's weights and 1 / (2N) are float32.
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_learned_temperature():
    z_1, z_2 = (tf.constant(z) for z in projections(5))
    loss = NTXentLoss(LearnedTemperature(0.5), dtype="float64", block_size=4)
    loss.build()
    (log_temperature,) = loss.variables
    with tf.GradientTape() as tape:
        value = loss(z_1, z_2)
    gradient = tape.gradient(value, log_temperature.value)
    expected = reference(z_1, z_2, 0.5, np.full(10, 0.1))[-1] * 0.5
    # The variable is float32.
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_half_precision_is_computed_in_float32():
    halves = [tf.cast(tf.constant(z), "float16") for z in projections(8)]
    with checks.dtype_policy("mixed_float16"):
        result = NTXentLoss(0.1, block_size=5)(*halves)
    assert result.dtype == "float32"
    expected = reference(*[tf.cast(z, "float64").numpy() for z in halves], 0.1)
    np.testing.assert_allclose(result, expected[0].mean(), rtol=1e-5)


@pytest.mark.parametrize("num_replicas", [1, 2])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_auto(jit_compile, num_replicas):
    most, block_size = (4096, 2048) if jit_compile else (512, 512)
    few = most // num_replicas
    expected = {few: 2 * few if num_replicas == 1 else None}
    expected |= {few + 1: block_size, None: block_size}
    taken = {}

    def of_images(num_images):
        def dense(z, *_):
            taken[num_images] = None
            return z[:, 0, 0], z[:, 1, 0]

        def tiled(z, temperature, block_size, *_):
            taken[num_images] = block_size
            return z[:, 0, 0], z[:, 1, 0]

        views = tf.TensorSpec((num_images, DIM))
        with (
            mock.patch.object(log_sums, "_dense", dense),
            mock.patch.object(log_sums, "_tiled", tiled),
            mock.patch.object(
                log_sums.distribution,
                "num_replicas",
                return_value=num_replicas,
            ),
        ):
            tf.function(
                NTXentLoss(), jit_compile=jit_compile
            ).get_concrete_function(views, views)

    for num_images in expected:
        of_images(num_images)
    assert taken == expected


def test_configuration():
    loss = NTXentLoss(block_size=7, decoupled=True)
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (copy.block_size, copy.decoupled) == (7, True)
    z = projections(5)
    assert float(copy(*z)) == float(loss(*z))


@pytest.mark.parametrize("block_size", [0, -1])
def test_block_size_must_be_positive(block_size):
    checks.check_rejects(NTXentLoss, "block_size", block_size)


@pytest.mark.parametrize("block_size", [True, 1.5, "all"])
def test_block_size_must_be_an_integer(block_size):
    with pytest.raises(TypeError, match="a positive integer") as error:
        NTXentLoss(block_size=block_size)
    assert repr(block_size) in str(error.value)


def test_decoupled_must_be_a_boolean():
    with pytest.raises(TypeError, match="True or False"):
        NTXentLoss(decoupled=1)


@pytest.mark.parametrize("block_size", [None, 4])
def test_a_single_image_has_no_negatives(block_size):
    z = np.ones((1, DIM), "float32")
    with pytest.raises(ValueError, match="at least two images"):
        NTXentLoss(block_size=block_size, decoupled=True)(z, z)


@pytest.mark.slow
def test_memory():
    """Of 8192 images: a matrix of all pairs is 1 GiB."""
    script = """if True:
        import resource, sys, tensorflow as tf, simclr_keras
        def peak():
            unit = 1 if sys.platform == "darwin" else 1024
            usage = resource.getrusage(resource.RUSAGE_SELF)
            return usage.ru_maxrss * unit / 1e9
        loss = simclr_keras.NTXentLoss()
        @tf.function(input_signature=[tf.TensorSpec((2, None, 128))])
        def step(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss(z[0], z[1])
            return tape.gradient(value, z)
        step(tf.ones((2, 16, 128)))
        z = tf.random.normal((2, 8192, 128))
        before = peak()
        step(z)
        print(peak() - before)
    """
    output = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    assert float(output) < 0.2
