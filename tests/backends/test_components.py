"""Each component against NumPy, on whatever backend Keras runs."""

import importlib.util
import math
import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import simclr_keras
from simclr_keras import losses
from tests.backends import scenarios
from tests.losses import references

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "published_weights"


def assert_near(result, expected, atol, rtol=0.0):
    np.testing.assert_allclose(
        ops.convert_to_numpy(result), expected, atol=atol, rtol=rtol
    )


def gradient(function, array):
    """d function / d array in float32, by the backend's own means."""
    backend = keras.backend.backend()
    x = ops.array(array, dtype="float32")
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    if backend == "torch":
        x = x.detach().requires_grad_(True)
        function(x).backward()
        return x.grad.detach().cpu().numpy()
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = function(x)
    return tape.gradient(loss, x).numpy()


# --- Augmentation: equal to what TensorFlow's lane compares with tf.image ---


@pytest.mark.parametrize("name", scenarios.LAYERS)
def test_augmentation_equals_tensorflows(name, tensorflow_values):
    # float32 in [0, 1]: a few roundings of 6e-8, which the colour jitter
    # multiplies by up to 1.8 three times.
    expected = tensorflow_values[f"augmented/{name}"]
    assert_near(scenarios.augmented(name), expected, atol=5e-6)


def threefry(key, counter):
    """Threefry-2x32-20 in unsigned NumPy, by the paper's figure."""
    k0, k1 = (np.uint32(k) for k in key)
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    x0, x1 = counter[0] + k0, counter[1] + k1
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    for i in range(20):
        x0 = x0 + x1
        r = np.uint32(rotations[i % 8])
        x1 = ((x1 << r) | (x1 >> (np.uint32(32) - r))) ^ x0
        if i % 4 == 3:
            group = i // 4 + 1
            x0 = x0 + keys[group % 3]
            x1 = x1 + keys[(group + 1) % 3] + np.uint32(group)
    return x0, x1


def test_draws_are_threefrys():
    index = np.arange(6, dtype="uint32")[:, None]
    number = np.arange(2, dtype="uint32")[None] + np.uint32(5 << 20)
    index, number = np.broadcast_arrays(index, number)
    words = np.concatenate(threefry((7, 3), (index, number)), axis=1)
    expected = (words >> np.uint32(8)) * 2.0**-24
    result = simclr_keras.augmentation.counter_random.uniform(
        ops.array([7, 3], dtype="int32"),
        ops.arange(6, dtype="int32"),
        count=4,
        stream=5,
    )
    assert_near(result, expected, atol=0)


def test_flip_mirrors_where_it_says_so():
    images = scenarios.images((4, 5, 7, 3), 1, "float32")
    is_flipped = np.array([True, False, False, True])
    result = simclr_keras.augmentation.RandomHorizontalFlip().transform(
        ops.array(images), is_flipped=ops.array(is_flipped)
    )
    expected = np.where(
        is_flipped[:, None, None, None], images[:, :, ::-1], images
    )
    assert_near(result, expected, atol=0)


# --- Loss and metrics -------------------------------------------------------


def projections(num_images=6, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, num_images, dim))
    return np.stack([z[0], z[0] + z[1]])


def cosines(a, b):
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    return a @ (b / np.linalg.norm(b, axis=-1, keepdims=True)).T


def algorithm_1(z, temperature):
    """The mean loss of views (2, N, D), as a loop in float64."""
    num_images = z.shape[1]
    s = cosines(*[z.reshape(-1, z.shape[-1])] * 2) / temperature
    total = 0.0
    for i in range(2 * num_images):
        others = [s[i, k] for k in range(2 * num_images) if k != i]
        positive = s[i, (i + num_images) % (2 * num_images)]
        total += math.log(sum(map(math.exp, others))) - positive
    return total / (2 * num_images)


@pytest.mark.parametrize("block_size", [None, 5, 64])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_and_its_gradient(temperature, block_size):
    z = projections()
    loss = simclr_keras.NTXentLoss(temperature, block_size=block_size)

    def function(x):
        return loss(x[0], x[1])

    # float32 cosines are right to 2e-7, which the temperature divides.
    assert_near(
        function(ops.array(z, dtype="float32")),
        algorithm_1(z, temperature),
        atol=1e-6 / temperature,
    )
    expected, h = np.zeros_like(z), 1e-6
    for i in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[i] = h
        expected[i] = algorithm_1(z + step, temperature)
        expected[i] -= algorithm_1(z - step, temperature)
    expected /= 2 * h
    assert_near(gradient(function, z), expected, atol=1e-6 / temperature)


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (
            losses.NTLogisticLoss(0.3, semi_hard=True),
            lambda z, labels, at=None: references.nt_logistic(
                z, 0.3, semi_hard=True
            ),
        ),
        (
            losses.MarginTripletLoss(0.7),
            lambda z, labels, at=None: references.margin_triplet(z, 0.7),
        ),
        (
            losses.SupConLoss(0.3, block_size=5),
            lambda z, labels, at=None: references.sup_con(z, 0.3, labels),
        ),
        (
            losses.HardNegativeLoss(block_size=5),
            lambda z, labels, at=None: references.hard_negatives(
                z, 0.5, 1.0, 0.1
            ),
        ),
        (
            losses.NTXentLoss(0.3, decoupled=True, positive_weighting=0.5),
            lambda z, labels, at=None: references.nt_xent(
                z, 0.3, True, sigma=0.5, at=at
            ),
        ),
    ],
    ids=lambda case: getattr(case, "name", ""),
)
def test_other_losses(loss, reference):
    z, labels = projections(), np.arange(6) // 2

    def function(x):
        return loss(x[0], x[1], labels=labels if loss.uses_labels else None)

    # float32, divided by a temperature
    value = function(ops.array(z, dtype="float32"))
    assert_near(value, reference(z, labels).mean(), atol=5e-6)
    expected, h = np.zeros_like(z), 1e-6
    for i in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[i] = h
        expected[i] = reference(z + step, labels, at=z).mean()
        expected[i] -= reference(z - step, labels, at=z).mean()
    assert_near(gradient(function, z), expected / (2 * h), atol=5e-6)


@pytest.mark.parametrize("block_size", [None, 5, "auto"])
def test_shapes_of_any_batch(block_size):
    loss = simclr_keras.NTXentLoss(block_size=block_size, reduction="none")
    accuracy = simclr_keras.metrics.ContrastiveAccuracy()

    class Both(keras.Operation):
        def call(self, z):
            accuracy.update_state(z, z)
            return loss(z, z)

    losses = Both().compute_output_spec(keras.KerasTensor((None, 8)))
    assert (losses.shape, losses.dtype) == ((None,), "float32")


def test_contrastive_metrics():
    z = projections(num_images=16, dim=3)
    similarities = cosines(*z)
    accuracy = simclr_keras.metrics.ContrastiveAccuracy()
    entropy = simclr_keras.metrics.ContrastiveEntropy(temperature=0.5)
    for metric in (accuracy, entropy):
        metric.update_state(*(ops.array(v, dtype="float32") for v in z))
    hits = similarities.argmax(axis=1) == np.arange(16)
    assert 0 < hits.mean() < 1
    assert_near(accuracy.result(), hits.mean(), atol=1e-6)
    p = np.exp(similarities / 0.5)
    p /= p.sum(axis=1, keepdims=True)
    expected = -(p * np.log(p)).sum(axis=1).mean()
    assert_near(entropy.result(), expected, atol=1e-5)  # float32


# --- Optimizer and schedule -------------------------------------------------


def test_schedule():
    schedule = simclr_keras.WarmupCosineDecay(
        4.8, total_steps=100, warmup_steps=10
    )
    for step in (0, 1, 9, 10, 11, 55, 99, 100, 200):
        expected = 4.8 * step / 10
        if step >= 10:
            progress = min((step - 10) / 90, 1)
            expected = 4.8 * (1 + math.cos(math.pi * progress)) / 2
        assert_near(schedule(step), expected, atol=1e-6)  # float32


def test_lars_follows_its_recursion():
    rng = np.random.default_rng(0)
    w = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=(3,))}
    variables = [
        keras.Variable(value.astype("float32"), name=name)
        for name, value in w.items()
    ]
    options = {"learning_rate": 1.5, "weight_decay": 0.1}
    optimizer = simclr_keras.LARS(trust_coefficient=0.02, **options)
    v = dict.fromkeys(w, 0.0)
    for _ in range(5):
        gradients = {name: rng.normal(size=w[name].shape) for name in w}
        optimizer.apply(
            [ops.array(g, dtype="float32") for g in gradients.values()],
            variables,
        )
        for name, g in gradients.items():
            trust = 1.0
            if name == "kernel":
                g = g + 0.1 * w[name]
                trust = 0.02 * np.linalg.norm(w[name]) / np.linalg.norm(g)
            v[name] = 0.9 * v[name] + 1.5 * trust * g
            w[name] = w[name] - v[name]
        for variable in variables:
            # float32, a few roundings a step
            assert_near(variable.value, w[variable.name], 1e-6, rtol=1e-5)


# --- Networks ---------------------------------------------------------------


def test_projection_head():
    head = simclr_keras.ProjectionHead(5)
    h = np.random.default_rng(0).normal(size=(16, 6))
    head.build(h.shape)
    scenarios.assign_weights(head)
    kernels = [
        ops.convert_to_numpy(w).astype("float64")
        for w in head.trainable_weights
        if len(w.shape) == 2
    ]

    def normalized(x):
        return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)

    hidden = np.maximum(normalized(h @ kernels[0]), 0)
    result = head(ops.array(h, dtype="float32"), training=True)
    # float32, two batch norms
    assert_near(result, normalized(hidden @ kernels[1]), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18_cifar", "resnet50_sk"])
def test_published_networks(name):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow reads the file")
    weights = simclr_keras.load_published_weights(
        FIXTURES / name / "checkpoint"
    )
    expected = np.load(FIXTURES / name / "expected.npz")
    images = expected["images"].astype("float32") / 255
    h = weights.encoder(ops.array(images), training=False)
    # float32, up to 71 convolutions: sums in another order differ by 1e-6.
    assert_near(h, expected["representation"], atol=1e-5, rtol=1e-5)
    z = weights.projection_head(h, training=False)
    assert_near(z, expected["projection"], atol=1e-5, rtol=1e-5)
