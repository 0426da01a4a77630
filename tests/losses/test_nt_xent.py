import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.losses import NTXentLoss
from tests import checks


def algorithm_1(z_1, z_2, temperature):
    """The paper's Algorithm 1 as loops: the losses (2N,), first views first."""
    num_images = len(z_1)
    z = np.zeros((2 * num_images, z_1.shape[1]))
    z[0::2], z[1::2] = z_1, z_2  # z_{2k-1} and z_{2k}

    def s(i, j):
        lengths = math.sqrt(sum(z[i] ** 2)) * math.sqrt(sum(z[j] ** 2))
        return sum(z[i] * z[j]) / lengths

    def loss(i, j):  # Equation 1
        others = [
            s(i, k) / temperature for k in range(2 * num_images) if k != i
        ]
        largest = max(others)
        log_sum = largest + math.log(sum(np.exp(np.array(others) - largest)))
        return log_sum - s(i, j) / temperature

    first = [loss(2 * k, 2 * k + 1) for k in range(num_images)]
    second = [loss(2 * k + 1, 2 * k) for k in range(num_images)]
    return np.array(first + second)


def projections(num_images, dim, seed=0):
    rng = np.random.default_rng(seed)
    z_1 = rng.normal(size=(num_images, dim))
    return z_1, z_1 + rng.normal(size=(num_images, dim))


def call(loss, z_1, z_2, dtype="float32"):
    result = loss(tf.constant(z_1, dtype), tf.constant(z_2, dtype))
    return keras.ops.convert_to_numpy(result)


def gradients(function, *arrays, dtype="float32"):
    tensors = [tf.constant(a, dtype) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = function(*tensors)
    return [g.numpy() for g in tape.gradient(loss, tensors)]


# --- The value -------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("num_images", "dim"), [(2, 2), (5, 3), (16, 64)])
def test_equals_algorithm_1(num_images, dim, temperature):
    z_1, z_2 = projections(num_images, dim)
    expected = algorithm_1(z_1, z_2, temperature)
    # float32 cosines are right to 2e-7, which the temperature divides.
    tolerance = 1e-6 / temperature
    np.testing.assert_allclose(
        call(NTXentLoss(temperature, reduction=None), z_1, z_2),
        expected,
        rtol=0,
        atol=tolerance,
    )
    np.testing.assert_allclose(
        call(NTXentLoss(temperature), z_1, z_2),
        expected.mean(),
        rtol=0,
        atol=tolerance,
    )


def test_equals_algorithm_1_in_float64():
    z_1, z_2 = projections(8, 16)
    loss = NTXentLoss(0.1, reduction=None, dtype="float64")
    result = call(loss, z_1, z_2, "float64")
    assert result.dtype == "float64"
    np.testing.assert_allclose(
        result, algorithm_1(z_1, z_2, 0.1), rtol=1e-12, atol=1e-12
    )


def test_reductions():
    z_1, z_2 = projections(6, 8)
    expected = algorithm_1(z_1, z_2, 0.1)  # the default temperature
    # 1e-5 for float32 logits of up to 10, a sum of twelve for "sum".
    losses = call(NTXentLoss(reduction=None), z_1, z_2)
    assert losses.shape == (12,)
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    total = call(NTXentLoss(reduction="sum"), z_1, z_2)
    np.testing.assert_allclose(total, expected.sum(), atol=1e-4)
    mean = call(NTXentLoss(), z_1, z_2)
    assert mean.shape == ()
    np.testing.assert_allclose(mean, expected.mean(), atol=1e-5)


def test_is_half_of_the_published_codes():
    # Google's code adds the cross entropies of the two directions up, each
    # over [the views of the other kind, those of one's own kind].
    def softmax_cross_entropy(logits):
        log_sum = np.log(np.exp(logits).sum(axis=1))
        return (log_sum - np.diag(logits)).mean()

    z_1, z_2 = projections(8, 16)
    a = z_1 / np.linalg.norm(z_1, axis=1, keepdims=True)
    b = z_2 / np.linalg.norm(z_2, axis=1, keepdims=True)
    masked = np.eye(8) * 1e9
    published = softmax_cross_entropy(
        np.hstack([a @ b.T, a @ a.T - masked]) / 0.5
    ) + softmax_cross_entropy(np.hstack([b @ a.T, b @ b.T - masked]) / 0.5)
    # float32
    np.testing.assert_allclose(
        2 * call(NTXentLoss(0.5), z_1, z_2), published, rtol=1e-6
    )


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("num_images", [2, 5, 64])
def test_constant_projections_give_log_2n_minus_1(num_images, temperature):
    z = np.full((num_images, 8), 0.3)
    # float32: the logits stand at 1 / temperature, 6e-8 of which is rounding.
    np.testing.assert_allclose(
        call(NTXentLoss(temperature), z, z),
        math.log(2 * num_images - 1),
        rtol=0,
        atol=1e-6 + 2e-7 / temperature,
    )


def test_perfect_projections_give_almost_nothing():
    z = np.eye(8)
    # 14 negatives at cosine 0 against a positive at cosine 1.
    expected = math.log(1 + 14 * math.exp(-1 / 0.1))
    np.testing.assert_allclose(call(NTXentLoss(0.1), z, z), expected, atol=1e-6)


# --- Invariances -----------------------------------------------------------


def test_is_symmetric_in_the_views():
    z_1, z_2 = projections(8, 16)
    one = call(NTXentLoss(reduction=None), z_1, z_2)
    other = call(NTXentLoss(reduction=None), z_2, z_1)
    # float32 logits of up to 10, added up in another order.
    np.testing.assert_allclose(one, np.roll(other, 8), rtol=0, atol=5e-6)


def test_follows_a_permutation_of_the_images():
    z_1, z_2 = projections(8, 16)
    order = np.random.default_rng(1).permutation(8)
    one = call(NTXentLoss(reduction=None), z_1, z_2)
    other = call(NTXentLoss(reduction=None), z_1[order], z_2[order])
    # float32, as above.
    np.testing.assert_allclose(
        other, np.concatenate([one[:8][order], one[8:][order]]), atol=5e-6
    )


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_is_invariant_to_scale(scale):
    z_1, z_2 = projections(8, 16)
    scales = scale * np.random.default_rng(1).uniform(0.1, 10, (8, 1))
    # float32 logits of up to 10.
    np.testing.assert_allclose(
        call(NTXentLoss(), z_1 * scales, z_2 / scale),
        call(NTXentLoss(), z_1, z_2),
        atol=5e-6,
    )


# --- The gradient ----------------------------------------------------------


@pytest.mark.parametrize(
    # float32 gradients of logits of up to 10; float64's central differences
    # with a step of 1e-5 are right to about 1e-9.
    ("dtype", "tolerance"),
    [("float32", 1e-5), ("float64", 1e-8)],
)
def test_gradient_equals_finite_differences(dtype, tolerance):
    views = np.stack(projections(4, 3))  # (2, N, D)
    expected = np.zeros_like(views)
    for place in np.ndindex(views.shape):
        step = np.zeros_like(views)
        step[place] = 1e-5
        above = algorithm_1(*(views + step), 0.1).mean()
        below = algorithm_1(*(views - step), 0.1).mean()
        expected[place] = (above - below) / 2e-5
    result = gradients(NTXentLoss(0.1, dtype=dtype), *views, dtype=dtype)
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)


def test_large_logits_are_finite():
    z_1, z_2 = projections(8, 16)
    z_2[0] = -z_1[0]  # a positive pair at cosine -1: a logit of -1000
    loss = NTXentLoss(1e-3)
    # Logits of 1000 are rounded by 6e-5 in float32.
    np.testing.assert_allclose(
        call(loss, z_1, z_2), algorithm_1(z_1, z_2, 1e-3).mean(), rtol=1e-5
    )
    for gradient in gradients(loss, z_1, z_2):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("all_zero", [False, True])
def test_zero_projections_are_finite(all_zero):
    z_1, z_2 = projections(4, 8)
    z_1[1] = 0
    if all_zero:
        z_1, z_2 = 0 * z_1, 0 * z_2
        # Equal projections once more.
        np.testing.assert_allclose(
            call(NTXentLoss(), z_1, z_2), math.log(7), rtol=1e-6
        )
    assert np.isfinite(call(NTXentLoss(), z_1, z_2))
    for gradient in gradients(NTXentLoss(), z_1, z_2):
        assert np.isfinite(gradient).all()


# --- Dtypes, graphs, shapes ------------------------------------------------


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype, policy):
    halves = [tf.cast(tf.constant(z), dtype) for z in projections(8, 16)]
    with checks.dtype_policy(policy):
        result = NTXentLoss(0.1)(*halves)
    assert result.dtype == "float32"
    # Only the inputs are rounded: the rest is right to float32.
    expected = algorithm_1(
        *[tf.cast(z, "float64").numpy() for z in halves], 0.1
    )
    np.testing.assert_allclose(result, expected.mean(), atol=1e-5)


def test_views_of_two_dtypes():
    z_1, z_2 = projections(8, 16)
    half = tf.constant(z_2, "float16")
    expected = algorithm_1(z_1, tf.cast(half, "float64").numpy(), 0.1).mean()
    # float32
    np.testing.assert_allclose(
        NTXentLoss(0.1)(tf.constant(z_1, "float32"), half), expected, atol=1e-5
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_and_xla_equal_eager(jit_compile):
    views = projections(8, 16)
    loss = NTXentLoss(0.1)
    signature = [tf.TensorSpec((None, 16))] * 2

    @tf.function(jit_compile=jit_compile, input_signature=signature)
    def compiled(z_1, z_2):
        with tf.GradientTape() as tape:
            tape.watch([z_1, z_2])
            value = loss(z_1, z_2)
        return value, *tape.gradient(value, [z_1, z_2])

    value, *compiled_gradients = compiled(
        *[tf.constant(z, "float32") for z in views]
    )
    # float32 in another order of operations.
    np.testing.assert_allclose(value, call(loss, *views), atol=5e-6)
    for one, other in zip(compiled_gradients, gradients(loss, *views)):
        np.testing.assert_allclose(one, other, atol=5e-6)


def test_serves_as_the_loss_of_any_model():
    z_1, z_2 = projections(8, 16)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Identity()])
    model.compile(loss=NTXentLoss(0.5))
    loss = model.evaluate(z_2, z_1, batch_size=8, verbose=0)
    # float32
    np.testing.assert_allclose(
        loss, algorithm_1(z_1, z_2, 0.5).mean(), rtol=1e-5
    )


# --- Configuration and errors ----------------------------------------------


def test_configuration():
    arguments = {
        "temperature": 0.25,
        "reduction": "sum",
        "name": "a_name",
        "dtype": "float64",
        "block_size": 5,
        "decoupled": True,
        "positive_weighting": 0.4,
    }
    loss = NTXentLoss(**arguments)
    checks.check_config(loss, arguments, excluded=("normalize",))
    raw = {**arguments, "normalize": False}
    del raw["positive_weighting"]
    checks.check_config(
        NTXentLoss(**raw), raw, excluded=("positive_weighting",)
    )
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    z_1, z_2 = projections(4, 8)
    assert call(copy, z_1, z_2) == call(loss, z_1, z_2)


@pytest.mark.parametrize("temperature", [0, 0.0, -0.1, float("nan")])
def test_temperature_must_be_positive(temperature):
    checks.check_rejects(NTXentLoss, "temperature", temperature)


@pytest.mark.parametrize("constant", [False, True])
def test_a_single_image_has_no_negatives(constant):
    z = np.ones((1, 8), "float32")
    with pytest.raises(ValueError, match=r"at least two images .* \(1, 8\)"):
        NTXentLoss()(tf.constant(z) if constant else z, z)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4, 8), (4, 7)),
        ((4, 8), (3, 8)),
        ((4, 8), (8,)),
        ((8,), (8,)),
        ((4, 2, 8), (4, 2, 8)),
    ],
)
def test_shapes_must_be_equal_and_of_rank_2(a, b):
    with pytest.raises(ValueError, match="same shape") as error:
        NTXentLoss()(np.ones(a, "float32"), np.ones(b, "float32"))
    assert f"Received: z_i.shape={a}, z_j.shape={b}." in str(error.value)


def test_shapes_are_checked_in_a_graph():
    @tf.function(
        input_signature=[tf.TensorSpec((None, 8)), tf.TensorSpec((None, 7))]
    )
    def compiled(z_1, z_2):
        return NTXentLoss()(z_1, z_2)

    with pytest.raises(ValueError, match=r"z_j.shape=\(None, 7\)"):
        compiled.get_concrete_function()


def test_zero_projections_are_finite_under_xla():
    # XLA's gradient of a square root at zero is not TensorFlow's.
    z_1, z_2 = (tf.constant(z) for z in projections(4, 8))
    z_1 = z_1 * np.array([[0], [1], [1], [1]], "float32")

    @tf.function(jit_compile=True)
    def gradient(z_1, z_2):
        with tf.GradientTape() as tape:
            tape.watch(z_1)
            loss = NTXentLoss()(z_1, z_2)
        return tape.gradient(loss, z_1)

    assert np.isfinite(gradient(z_1, z_2)).all()


@pytest.mark.parametrize("block_size", [None, 3])
def test_a_row_of_zeros_has_no_gradient(block_size):
    rng = np.random.default_rng(0)
    z_i, z_j = (tf.Variable(rng.normal(size=(6, 4))) for _ in range(2))
    z_i[2].assign(tf.zeros(4, "float64"))
    loss = NTXentLoss(0.5, dtype="float64", block_size=block_size)
    with tf.GradientTape() as tape:
        value = loss(z_i, z_j)
    gradients = tape.gradient(value, [z_i, z_j])
    np.testing.assert_array_equal(gradients[0][2], np.zeros(4))
    assert max(np.abs(g).max() for g in gradients) < 1
    # The others are those of a row that is all but at right angles to them.
    u_i, u_j = (np.array(z) for z in (z_i, z_j))
    with_zero = [
        u / np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-30)
        for u in (u_i, u_j)
    ]
    u = np.concatenate(with_zero)
    s = u @ u.T / 0.5
    np.fill_diagonal(s, -np.inf)
    expected = np.log(np.exp(s).sum(1)) - s[np.arange(12), np.arange(12) - 6]
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
def test_half_precision_of_any_size(scale, block_size, dtype):
    z = scale * np.eye(4, 5)
    loss = NTXentLoss(0.1, dtype=dtype, block_size=block_size)
    found = float(loss(z, z))
    # Three pairs of other images, at right angles; with zeros, all are.
    s = 1 / 0.1 if scale else 0.0
    expected = np.log(np.exp(s) + 6) - s
    # The mean has the loss's dtype: 3 to 8 digits of a number below 2.
    assert found == pytest.approx(expected, abs=0.02)


def test_weights_are_of_views_and_not_for_a_plain_mean():
    z = np.eye(4, 5)
    with pytest.raises(ValueError, match="mean_with_sample_weight"):
        NTXentLoss()(z, z, sample_weight=np.arange(8.0))
    loss = NTXentLoss(reduction="none")
    with pytest.raises(ValueError, match=r"shape=\(4,\) for 4 images"):
        loss(z, z, sample_weight=np.arange(4.0))
    assert loss(z, z, sample_weight=np.arange(8.0)).shape == (8,)
