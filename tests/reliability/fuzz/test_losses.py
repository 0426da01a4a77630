"""Losses: any argument, any projections."""

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from simclr_keras import losses
from tests.losses import references
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import (
    BAD_DTYPES,
    DTYPES,
    Refused,
    attempt,
    positive,
)

pytestmark = pytest.mark.slow

TEMPERATURES = positive(1e-3, 1e3)
COMMON = {
    "temperature": TEMPERATURES,
    "reduction": st.sampled_from(
        ["sum_over_batch_size", "sum", "none", None, "mean"]
    ),
    "dtype": st.sampled_from([None, "float32", "float64"]),
}
BLOCKS = {"block_size": st.one_of(st.sampled_from(["auto", None, 3, 5, 2**70]))}
LOSSES = {
    losses.NTXentLoss: {
        **COMMON,
        **BLOCKS,
        "decoupled": st.booleans(),
        "positive_weighting": st.one_of(st.none(), positive(1e-3, 1e3)),
        "normalize": st.booleans(),
    },
    losses.SupConLoss: {**COMMON, **BLOCKS},
    losses.HardNegativeLoss: {
        **COMMON,
        **BLOCKS,
        "concentration": st.floats(0, 20),
        "prior": st.one_of(st.sampled_from([0, 1e-300]), st.floats(0, 0.999)),
    },
    losses.NTLogisticLoss: {**COMMON, "semi_hard": st.booleans()},
    losses.MarginTripletLoss: {
        **{name: COMMON[name] for name in ("reduction", "dtype")},
        "margin": st.floats(0, 10),
        "semi_hard": st.booleans(),
    },
}
every_loss = pytest.mark.parametrize("cls", LOSSES, ids=lambda c: c.__name__)


def wrong():
    # Keras checks its own arguments, with its own messages.
    return properties.odd()


@st.composite
def projections(draw, least=2, largest=12, dtypes=DTYPES, scale=None):
    """Two views' projections (N, D), near each other or not."""
    count, dim = draw(st.integers(least, largest)), draw(st.integers(1, 9))
    scale = draw(positive(1e-6, 1e4)) if scale is None else scale
    first = draw(properties.values_in((count, dim), -scale, scale))
    second = draw(properties.values_in((count, dim), -scale, scale))
    nearness = draw(st.sampled_from([0.0, 0.5, 1.0]))
    second = nearness * first + (1 - nearness) * second
    if draw(st.booleans()):
        first[draw(st.integers(0, count - 1))] = 0
    dtype = draw(st.sampled_from(dtypes))
    if dtype.startswith("uint"):
        first, second = np.abs(first) % 256, np.abs(second) % 256
    return [properties.array_of(dtype, z) for z in (first, second)]


def call(loss, z_i, z_j, labels=None):
    if not loss.uses_labels:
        return loss(z_i, z_j)
    if labels is None:
        labels = np.arange(len(z_i)) % 3
    return loss(z_i, z_j, labels=labels)


@every_loss
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_arguments_and_projections(cls, data):
    strategies = dict(LOSSES[cls])
    given_to_keras = {n: strategies.pop(n) for n in ("reduction", "dtype")}
    kwargs, bad = data.draw(properties.arguments(**strategies))
    for name, strategy in given_to_keras.items():
        kwargs[name] = data.draw(strategy)
    loss = attempt(cls, **kwargs)
    if bad is None:
        # Pairs are weighted in the decoupled loss of normalized ones alone.
        is_weighted = kwargs.get("positive_weighting") is not None
        has_weights = kwargs.get("decoupled") and kwargs.get("normalize", True)
        assert (loss is Refused) == bool(is_weighted and not has_weights)
    if loss is Refused:
        return
    # Without a division by lengths the products must fit into float32.
    scale = None if getattr(loss, "normalize", True) else 10.0
    z_i, z_j = data.draw(projections(scale=scale))

    def value_and_gradient(z_i, z_j):
        z_i, z_j = (tf.cast(z, loss.dtype) for z in (z_i, z_j))
        with tf.GradientTape() as tape:
            tape.watch([z_i, z_j])
            value = call(loss, z_i, z_j)
        return value, tape.gradient(value, [z_i, z_j])

    value, gradients = value_and_gradient(z_i, z_j)
    is_reduced = kwargs["reduction"] not in ("none", None)
    found = properties.check_finite(
        value, *(() if is_reduced else (2 * len(z_i),))
    )
    assert value.dtype == (kwargs["dtype"] or "float32")
    for gradient in gradients:
        properties.check_finite(gradient, *z_i.shape)
    # What NumPy gives is converted as the loss says.
    again = cls.from_config(loss.get_config())
    np.testing.assert_allclose(
        properties.as_array(call(again, z_i, z_j)),
        found,
        rtol=1e-6,
        atol=1e-6 * max(1, np.abs(found).max()),
    )


def expected_losses(loss, z, labels):
    z = np.asarray(z, "float64")
    if isinstance(loss, losses.SupConLoss):
        return references.sup_con(z, loss.temperature, labels)
    if isinstance(loss, losses.HardNegativeLoss):
        return references.hard_negatives(
            z, loss.temperature, loss.concentration, loss.prior
        )
    if isinstance(loss, losses.NTLogisticLoss):
        return references.nt_logistic(z, loss.temperature, loss.semi_hard)
    if isinstance(loss, losses.MarginTripletLoss):
        return references.margin_triplet(z, loss.margin, loss.semi_hard)
    return references.nt_xent(
        z,
        loss.temperature,
        loss.decoupled,
        loss.positive_weighting,
        loss.normalize,
    )


@every_loss
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_loops_from_the_papers(cls, data):
    strategies = {n: s for n, s in LOSSES[cls].items() if n in ("semi_hard",)}
    # The loops write out exponentials of 1 / t.
    for name, strategy in {
        "temperature": positive(0.02, 10.0),
        "margin": st.floats(0, 3),
        "concentration": st.floats(0, 3),
        "prior": st.floats(0, 0.5),
        "block_size": BLOCKS["block_size"],
        "decoupled": st.booleans(),
        "positive_weighting": positive(0.05, 10.0),
        "normalize": st.booleans(),
    }.items():
        if name in LOSSES[cls]:
            strategies[name] = strategy
    kwargs, _ = data.draw(
        properties.arguments(wrong=lambda: st.just("auto"), **strategies)
    )
    kwargs = {k: v for k, v in kwargs.items() if v != "auto"}
    if not kwargs.get("decoupled") or not kwargs.get("normalize", True):
        kwargs.pop("positive_weighting", None)
    loss = cls(reduction=None, dtype="float64", **kwargs)
    count = data.draw(st.integers(2, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    z = rng.normal(size=(2, count, data.draw(st.integers(2, 5))))
    labels = rng.integers(0, 3, count)
    found = properties.as_array(call(loss, z[0], z[1], labels))
    expected = expected_losses(loss, z, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    # The order of the images says nothing, nor which view is the first.
    order = rng.permutation(count)
    moved = call(loss, z[0][order], z[1][order], labels[order])
    np.testing.assert_allclose(
        properties.as_array(moved),
        found[np.concatenate([order, count + order])],
        rtol=1e-8,
        atol=1e-8,
    )
    swapped = properties.as_array(call(loss, z[1], z[0], labels))
    np.testing.assert_allclose(
        np.roll(swapped, count), found, rtol=1e-8, atol=1e-8
    )


@every_loss
@properties.fuzz(0.02)
@hypothesis.given(
    count=st.sampled_from([513, 1024, 2000]), seed=st.integers(0, 99)
)
def test_large_batches(cls, count, seed):
    if seed < 10 and cls not in (
        losses.NTLogisticLoss,
        losses.MarginTripletLoss,
    ):
        count = 8192
    z = np.random.default_rng(seed).normal(size=(2, count, 4))
    value = call(cls(), *z.astype("float32"))
    found = properties.check_finite(value)
    if count <= 1024 and "block_size" in LOSSES[cls]:
        dense = call(cls(block_size=None), *z.astype("float32"))
        np.testing.assert_allclose(found, dense, rtol=1e-5)


# Projections of no images, of one, and of no dimensions.
WITHOUT_PAIRS = [np.ones(s, "float32") for s in ((0, 3), (1, 3), (4, 0))]


@st.composite
def anything(draw):
    dtype = draw(st.sampled_from((*DTYPES, *BAD_DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    array = properties.array_of(dtype, np.ones(shape))
    return draw(
        st.one_of(
            properties.odd(),
            st.sampled_from(WITHOUT_PAIRS),
            st.just(array),
            st.just(array.tolist() if hasattr(array, "tolist") else array),
        )
    )


@every_loss
@properties.fuzz()
@hypothesis.given(data=st.data())
def test_what_are_no_projections(cls, data):
    z = np.ones((4, 3), "float32")
    labels = np.zeros(4, int)
    loss = cls(reduction=data.draw(COMMON["reduction"]))
    which = data.draw(st.sampled_from(["z_i", "z_j", "both", "labels"]))
    hypothesis.assume(which != "labels" or loss.uses_labels)
    value = data.draw(anything())
    z_i = value if which in ("z_i", "both") else z
    z_j = value if which in ("z_j", "both") else z
    kwargs = {}
    if loss.uses_labels:
        kwargs["labels"] = value if which == "labels" else labels
    result = attempt(loss, z_i, z_j, **kwargs)
    if result is not Refused:
        found = properties.check_finite(result)
        assert found.shape in ((), (2 * len(z_i),))


@every_loss
@properties.fuzz(0.5)
@hypothesis.given(data=st.data())
def test_weights(cls, data):
    z = np.random.default_rng(0).normal(size=(2, 4, 3))
    reduction = data.draw(
        st.sampled_from(["sum", "none", "mean_with_sample_weight", "mean"])
    )
    loss = cls(reduction=reduction)
    weights = data.draw(
        st.one_of(anything(), st.lists(st.floats(0, 2), min_size=8, max_size=8))
    )
    z_i, z_j = data.draw(st.sampled_from([z, z.tolist()]))
    kwargs = {"labels": [0, 1, 0, 1]} if loss.uses_labels else {}
    result = attempt(loss, z_i, z_j, sample_weight=weights, **kwargs)
    if result is not Refused and np.shape(weights) == (8,):
        properties.check_finite(result)


@properties.fuzz()
@hypothesis.given(
    kwargs=properties.arguments(
        initial=TEMPERATURES, minimum=TEMPERATURES, maximum=TEMPERATURES
    ),
    assigned=st.one_of(TEMPERATURES, properties.odd()),
)
def test_learned_temperature(kwargs, assigned):
    temperature = attempt(losses.LearnedTemperature, **kwargs[0])
    if temperature is Refused:
        return
    assert 0 < temperature.minimum <= temperature.initial <= temperature.maximum
    copy = losses.LearnedTemperature.from_config(temperature.get_config())
    assert copy.get_config() == temperature.get_config()
    loss = losses.NTXentLoss(temperature)
    before = float(loss.temperature)

    def assign():
        loss.temperature = assigned

    if attempt(assign) is Refused:
        assert float(loss.temperature) == before
    else:
        assert float(loss.temperature) == pytest.approx(float(assigned), 1e-4)
    z = np.eye(3, dtype="float32")
    properties.check_finite(loss(z, z))


@properties.fuzz()
@hypothesis.given(assigned=st.one_of(TEMPERATURES, properties.odd()))
def test_assigned_temperature(assigned):
    loss = losses.NTXentLoss(0.5)
    loss.build()

    def assign():
        loss.temperature = assigned

    if attempt(assign) is Refused:
        assert float(loss.temperature) == 0.5
    else:
        assert float(loss.temperature) == pytest.approx(float(assigned), 1e-6)
    z = np.eye(3, dtype="float32")
    properties.check_finite(loss(z, z))
    config = keras.losses.serialize(loss)
    assert keras.losses.deserialize(config).get_config() == loss.get_config()
