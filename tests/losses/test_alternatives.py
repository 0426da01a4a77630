"""The losses beside NT-Xent against loops from their papers, in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras import losses
from tests import checks
from tests.losses import references

LABELS = np.array([0, 2**31 - 1, 0, 5, 0, 5, 7])

# Name -> (loss in float64, its reference of z; weights are those at `at`).
CASES = {
    "nt_logistic": (
        losses.NTLogisticLoss(0.3, reduction=None, dtype="float64"),
        lambda z, at=None: references.nt_logistic(z, 0.3),
    ),
    "nt_logistic_semi_hard": (
        losses.NTLogisticLoss(
            0.3, semi_hard=True, reduction=None, dtype="float64"
        ),
        lambda z, at=None: references.nt_logistic(z, 0.3, semi_hard=True),
    ),
    "margin_triplet": (
        losses.MarginTripletLoss(0.7, reduction=None, dtype="float64"),
        lambda z, at=None: references.margin_triplet(z, 0.7),
    ),
    "margin_triplet_semi_hard": (
        losses.MarginTripletLoss(
            0.7, semi_hard=True, reduction=None, dtype="float64"
        ),
        lambda z, at=None: references.margin_triplet(z, 0.7, semi_hard=True),
    ),
    "weighted_decoupled": (
        losses.NTXentLoss(
            0.2,
            decoupled=True,
            positive_weighting=0.5,
            reduction=None,
            dtype="float64",
        ),
        lambda z, at=None: references.nt_xent(
            z, 0.2, decoupled=True, sigma=0.5, at=at
        ),
    ),
    "not_normalized": (
        losses.NTXentLoss(
            0.2, normalize=False, reduction=None, dtype="float64"
        ),
        lambda z, at=None: references.nt_xent(z, 0.2, normalize=False),
    ),
    "not_normalized_in_blocks": (
        losses.NTXentLoss(
            0.2, normalize=False, block_size=3, reduction=None, dtype="float64"
        ),
        lambda z, at=None: references.nt_xent(z, 0.2, normalize=False),
    ),
    "sup_con": (
        losses.SupConLoss(0.2, reduction=None, dtype="float64"),
        lambda z, at=None: references.sup_con(z, 0.2, LABELS[: z.shape[1]]),
    ),
    "sup_con_in_blocks": (
        losses.SupConLoss(0.2, block_size=4, reduction=None, dtype="float64"),
        lambda z, at=None: references.sup_con(z, 0.2, LABELS[: z.shape[1]]),
    ),
    "debiased": (
        losses.HardNegativeLoss(0.5, 0.0, 0.1, reduction=None, dtype="float64"),
        lambda z, at=None: references.hard_negatives(z, 0.5, 0.0, 0.1),
    ),
    "hard_negatives": (
        losses.HardNegativeLoss(
            0.5, 2.0, 0.05, reduction=None, dtype="float64"
        ),
        lambda z, at=None: references.hard_negatives(z, 0.5, 2.0, 0.05),
    ),
    "hard_negatives_in_blocks": (
        losses.HardNegativeLoss(
            0.3, 1.0, 0.3, reduction=None, dtype="float64", block_size=3
        ),
        lambda z, at=None: references.hard_negatives(z, 0.3, 1.0, 0.3),
    ),
}


def views(num_images=7, dim=4, seed=0, spread=1.0):
    """Two views (2, N, D) whose partners are near each other."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(num_images, dim))
    noise = spread * rng.normal(size=(num_images, dim))
    return np.stack([first, first + noise])


def call(loss, z):
    labels = LABELS[: z.shape[1]] if loss.uses_labels else None
    return loss(z[0], z[1], labels=labels)


def value_and_gradient(loss, z, **function):
    @tf.function(**function)
    def step(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            values = call(loss, z)
            total = tf.reduce_sum(values)
        return values, tape.gradient(total, z)

    return [x.numpy() for x in step(tf.constant(z))]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("num_images", "spread"), [(2, 1.0), (7, 1.0), (7, 0.1), (7, 5.0)]
)
def test_value(name, num_images, spread):
    loss, reference = CASES[name]
    z = views(num_images, spread=spread)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(call(loss, tf.constant(z))),
        reference(z),
        rtol=1e-10,  # float64, some hundred terms
        atol=1e-12,
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_gradient_is_that_of_differences(name, jit_compile):
    loss, reference = CASES[name]
    z, h = views(), 1e-6
    expected = np.zeros_like(z)
    for place in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[place] = h
        expected[place] = np.sum(
            reference(z + step, at=z) - reference(z - step, at=z)
        )
    expected /= 2 * h
    values, gradient = value_and_gradient(loss, z, jit_compile=jit_compile)
    np.testing.assert_allclose(values, reference(z), rtol=1e-10, atol=1e-12)
    # Central differences: h**2 of curvatures up to 1 / t**3, and 1e-16 / h.
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize(
    ("cls", "reference"),
    [
        (losses.NTLogisticLoss, references.nt_logistic),
        (losses.MarginTripletLoss, references.margin_triplet),
    ],
)
def test_gradient_is_that_of_table_2(cls, reference, semi_hard):
    z = views(16, dim=8)
    loss = cls(0.5, semi_hard=semi_hard, reduction=None, dtype="float64")
    expected, c = reference(z, 0.5, semi_hard, coefficients=True)
    values, gradient = value_and_gradient(loss, z)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(
        gradient, references.gradient(z, c), rtol=1e-10, atol=1e-13
    )


def test_semi_hard_cases_have_views_without_a_farther_negative():
    z = views(7, spread=5.0)
    u = references.unit(z)
    s = u @ u.T
    none_is_farther = [
        min(s[i, negatives]) > s[i, partner]
        for i, partner, negatives in references.roles(z)
    ]
    assert any(none_is_farther)
    assert not all(none_is_farther)


def test_special_cases():
    z = tf.constant(views())
    nt_xent = losses.NTXentLoss(0.2, dtype="float64")
    expected = float(nt_xent(z[0], z[1]))
    plain = losses.HardNegativeLoss(0.2, 0.0, 0.0, dtype="float64")
    assert float(plain(z[0], z[1])) == pytest.approx(expected, rel=1e-12)
    classes = losses.SupConLoss(0.2, dtype="float64")
    value = classes(z[0], z[1], labels=np.arange(7))
    assert float(value) == pytest.approx(expected, rel=1e-12)
    # One class: every view is a positive.
    value = classes(z[0], z[1], labels=np.zeros(7, int))
    assert float(value) == pytest.approx(
        references.sup_con(z.numpy(), 0.2, np.zeros(7)).mean(), rel=1e-12
    )
    # Projections that are all equal.
    ones = tf.ones((4, 3))
    assert float(losses.MarginTripletLoss(0.4)(ones, ones)) == pytest.approx(
        0.4
    )
    assert float(losses.NTLogisticLoss(1.0)(ones, ones)) == pytest.approx(
        np.log(1 + np.exp(-1)) + np.log(1 + np.e)
    )


@pytest.mark.parametrize("name", CASES)
def test_survives_a_file(name):
    loss, _ = CASES[name]
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert copy.get_config() == loss.get_config()
    z = tf.constant(views())
    np.testing.assert_array_equal(call(copy, z), call(loss, z))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "dtype", ["float16", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_hard_numbers_stay_finite(name, dtype):
    """Zero projections, equal ones, opposite ones; 16 bits; a low t."""
    config = {**CASES[name][0].get_config(), "reduction": "none"}
    if config.get("normalize", True):
        config["temperature"] = 0.01
    if name.startswith("margin"):
        del config["temperature"]
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 6, 4))
    z[:, 0] = 0
    z[1, 1] = z[0, 1]
    z[1, 2] = -z[0, 2]
    loss = type(CASES[name][0]).from_config({**config, "dtype": dtype})
    values, gradient = value_and_gradient(loss, z.astype(dtype))
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("cls", "argument", "value", "error"),
    [
        (losses.NTLogisticLoss, "semi_hard", 1, TypeError),
        (losses.MarginTripletLoss, "semi_hard", None, TypeError),
        (losses.MarginTripletLoss, "margin", -0.1, ValueError),
        (losses.MarginTripletLoss, "margin", "0.1", TypeError),
        (losses.HardNegativeLoss, "concentration", -1, ValueError),
        (losses.HardNegativeLoss, "concentration", 1e30, ValueError),
        (losses.MarginTripletLoss, "margin", 1e300, ValueError),
        (losses.HardNegativeLoss, "prior", 1.0, ValueError),
        (losses.HardNegativeLoss, "prior", True, TypeError),
        (losses.HardNegativeLoss, "prior", float("nan"), ValueError),
        (losses.SupConLoss, "block_size", 0, ValueError),
        (losses.NTXentLoss, "normalize", "yes", TypeError),
    ],
)
def test_refuses(cls, argument, value, error):
    with pytest.raises(error, match=f"`{argument}`") as raised:
        cls(**{argument: value})
    assert repr(value) in str(raised.value)


def test_weighting_belongs_to_the_decoupled_loss():
    with pytest.raises(ValueError, match="decoupled=False"):
        losses.NTXentLoss(positive_weighting=0.5)
    with pytest.raises(ValueError, match="normalize=False"):
        losses.NTXentLoss(
            decoupled=True, positive_weighting=0.5, normalize=False
        )
    checks.check_rejects(
        lambda positive_weighting: losses.NTXentLoss(
            decoupled=True, positive_weighting=positive_weighting
        ),
        "positive_weighting",
        0,
    )


@pytest.mark.parametrize("name", CASES)
def test_a_single_image_has_no_negatives(name):
    z = views(1)
    with pytest.raises(ValueError, match="at least two images"):
        call(CASES[name][0], tf.constant(z))


@pytest.mark.parametrize(
    "loss",
    [
        losses.SupConLoss(0.1),
        losses.MarginTripletLoss(0.8, semi_hard=True),
        losses.HardNegativeLoss(losses.LearnedTemperature(0.5)),
    ],
    ids=lambda loss: loss.name,
)
@pytest.mark.slow
def test_trains_and_is_saved_with_the_model(loss, tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 4
    images = rng.integers(0, 80, (32, 8, 8, 3), "uint8")
    images += 50 * labels[:, None, None, None].astype("uint8")
    model = simclr_keras.SimCLRModel(
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()]),
        simclr_keras.ProjectionHead(8),
        simclr_keras.SimCLRAugmentation(8, 8, seed=1),
    )
    model.compile(keras.optimizers.SGD(0.01), loss)
    history = model.fit(
        images, labels, batch_size=16, epochs=4, shuffle=False, verbose=0
    ).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()
    if loss.temperature is not None:
        assert float(loaded.loss.temperature) == float(loss.temperature)


@pytest.mark.parametrize("sigma", [1e-3, 1e-2, 100.0])
def test_weights_of_any_sigma(sigma):
    loss = losses.NTXentLoss(
        0.1, decoupled=True, positive_weighting=sigma, reduction=None
    )
    z = views(8).astype("float32")
    values, gradient = value_and_gradient(loss, z)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    # Equal pairs weigh the same, which is 1.
    plain = losses.NTXentLoss(0.1, decoupled=True)
    equal = np.stack([z[0], z[0]])
    np.testing.assert_allclose(
        np.mean(call(loss, tf.constant(equal))),
        call(plain, tf.constant(equal)),
        rtol=1e-4,  # float32, divided by sigma
    )


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.arange(8) / 10, TypeError, "integers.*float64"),
        (np.arange(8) * 2**32, ValueError, "32 bits"),
        (np.arange(8)[:, None] * 2**32, ValueError, "32 bits"),
        (np.eye(8, dtype=int), ValueError, r"shape \(N,\)"),
        (np.arange(7), ValueError, r"shape \(N,\)"),
        (list("abcdefgh"), TypeError, "integers"),
    ],
)
def test_refuses_labels(labels, error, message):
    z = views(8)
    with pytest.raises(error, match=message):
        losses.SupConLoss()(z[0], z[1], labels=labels)


@pytest.mark.parametrize("name", CASES)
def test_an_empty_batch_has_no_loss(name):
    with pytest.raises(ValueError, match="D at least 1"):
        call(CASES[name][0], tf.zeros((2, 3, 0)))
    with pytest.raises(ValueError, match="at least two images"):
        call(CASES[name][0], tf.zeros((2, 0, 4)))


def test_a_weighting_that_float32_does_not_hold():
    checks.check_rejects(
        lambda positive_weighting: losses.NTXentLoss(
            decoupled=True, positive_weighting=positive_weighting
        ),
        "positive_weighting",
        1e-320,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "loss",
    [
        losses.NTXentLoss(0.2),
        losses.NTXentLoss(0.2, block_size=None),
        losses.NTXentLoss(0.2, block_size=3),
        losses.NTXentLoss(0.2, decoupled=True, positive_weighting=0.5),
        losses.NTXentLoss(0.2, normalize=False),
        losses.NTLogisticLoss(0.3),
        losses.NTLogisticLoss(0.3, semi_hard=True),
        losses.MarginTripletLoss(0.7),
        losses.MarginTripletLoss(0.7, semi_hard=True),
        losses.SupConLoss(0.2),
        losses.HardNegativeLoss(0.2),
    ],
    ids=lambda loss: loss.name,
)
def test_what_is_not_finite_is_not_hidden(loss, value):
    z = np.random.default_rng(0).normal(size=(2, 7, 4)).astype("float32")
    arguments = {"labels": LABELS} if loss.uses_labels else {}
    assert np.isfinite(loss(*z, **arguments))
    for rows in ([2], slice(None)):
        spoilt = z.copy()
        spoilt[0, rows, 1] = value
        assert not np.isfinite(loss(*spoilt, **arguments))


def test_margin_triplet_has_no_temperature():
    loss = losses.MarginTripletLoss()
    assert loss.temperature is None
    with pytest.raises(AttributeError, match="temperature"):
        loss.temperature = 0.5
