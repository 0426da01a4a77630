"""Projection heads and encoders: any argument, any input."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import simclr_keras
from simclr_keras import encoders
from tests.reliability.fuzz import properties
from tests.reliability.fuzz.properties import (
    BAD_DTYPES,
    DTYPES,
    Refused,
    attempt,
)

pytestmark = pytest.mark.slow

FLOATS = ("float16", "bfloat16", "float32", "float64")
WIDTHS = st.integers(1, 9)
HEAD = {
    "output_dim": WIDTHS,
    "num_layers": st.integers(1, 4),
    "hidden_dim": st.one_of(st.none(), WIDTHS),
    "kind": st.sampled_from(["nonlinear", "linear", "none"]),
    "synchronized": st.sampled_from([None, True, False]),
}


def is_large(value):
    """Whether so many layers or units would fill the memory, as asked for."""
    return isinstance(value, int) and value > 1000


@st.composite
def anything(draw):
    dtype = draw(st.sampled_from((*DTYPES, *BAD_DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    array = properties.array_of(dtype, np.ones(shape))
    return draw(st.one_of(properties.odd(), st.just(array)))


@properties.fuzz(0.5)
@hypothesis.given(data=st.data())
def test_projection_head(data):
    kwargs, bad = data.draw(properties.arguments(**HEAD))
    head = attempt(simclr_keras.ProjectionHead, **kwargs)
    if head is Refused:
        assert bad is not None
        return
    if bad is not None and is_large(kwargs[bad]):
        return
    count, width = data.draw(st.integers(1, 20)), data.draw(WIDTHS)
    h = data.draw(properties.values_in((count, width), -100, 100))
    h = properties.array_of(data.draw(st.sampled_from(FLOATS)), h)
    shape = head.compute_output_shape((count, width))
    for training in (False, True):
        z = head(h, training=training)
        properties.check_finite(z, *shape)
    assert z.dtype == "float32"
    copy = type(head).from_config(head.get_config())
    copy.build(h.shape)
    copy.set_weights(head.get_weights())
    np.testing.assert_array_equal(copy(h), head(h))


@properties.fuzz(0.5)
@hypothesis.given(value=anything(), kind=HEAD["kind"], is_built=st.booleans())
def test_what_are_no_representations(value, kind, is_built):
    head = simclr_keras.ProjectionHead(3, kind=kind)
    if is_built:
        head.build((None, 4))
    z = attempt(head, value)
    if z is not Refused:
        properties.check_finite(z)
        assert len(z.shape) == 2


RESNET = {
    "depth": st.just(18),
    "width_multiplier": st.sampled_from([1 / 64, 1 / 32]),
    "sk_ratio": st.sampled_from([0.0, 1 / 16, 1]),
    "se_ratio": st.sampled_from([0.0, 0.25, 1]),
    "stem": st.sampled_from(["imagenet", "cifar"]),
    "input_shape": st.tuples(
        st.sampled_from([None, 1, 8, 17]),
        st.sampled_from([None, 1, 8, 9]),
        st.integers(1, 13),
    ),
    "synchronized": HEAD["synchronized"],
}


@properties.fuzz(0.05)
@hypothesis.given(data=st.data())
def test_resnet(data):
    kwargs, bad = data.draw(properties.arguments(**RESNET))
    kwargs.setdefault("depth", 18)
    kwargs.setdefault("width_multiplier", 1 / 64)
    if bad == "width_multiplier":
        value = kwargs[bad]
        hypothesis.assume(not isinstance(value, (int, float)) or value < 0.02)
    encoder = attempt(encoders.ResNet, **kwargs)
    if encoder is Refused:
        assert bad is not None
        return
    height, width, channels = encoder.image_shape
    shape = (2, height or 5, width or 11, channels)
    hypothesis.assume(max(shape) < 100)
    images = data.draw(properties.values_in(shape, 0, 1)).astype("float32")
    features = 512 * kwargs["width_multiplier"]
    found = properties.check_finite(encoder(images), 2, int(features))
    assert (found >= 0).all()
    copy = type(encoder).from_config(encoder.get_config())
    copy.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(copy(images), encoder(images))
    value = data.draw(anything())
    if attempt(encoder, value) is not Refused:
        assert len(value.shape) == 4


@properties.fuzz()
@hypothesis.given(data=st.data())
def test_resnet_arguments(data):
    name = data.draw(st.sampled_from(list(RESNET)))
    value = data.draw(properties.odd())
    good = {"depth": 18, "width_multiplier": 1 / 64, "stem": "cifar"}
    hypothesis.assume(name != "synchronized")
    hypothesis.assume(not _is_good(name, value))
    assert attempt(encoders.ResNet, **{**good, name: value}) is Refused


def _is_good(name, value):
    if isinstance(value, np.ndarray) and value.ndim:
        return False
    is_number = isinstance(value, (int, float, np.number))
    return (
        (name == "depth" and is_number and value in (18, 34, 50, 101, 152, 200))
        or (name == "width_multiplier" and is_number and value > 0.015)
        or (name.endswith("ratio") and is_number and 0 <= value <= 1)
    )


@properties.fuzz()
@hypothesis.given(
    backbone=properties.odd(),
    scaling=properties.odd(),
    pooling=properties.odd(),
)
def test_backbone_arguments(backbone, scaling, pooling):
    import keras

    assert attempt(encoders.BackboneEncoder, backbone) is Refused
    layer = keras.layers.Conv2D(2, 1)
    made = attempt(encoders.BackboneEncoder, layer, input_scaling=scaling)
    assert made is Refused or scaling is None or len(scaling) == 2
    made = attempt(encoders.BackboneEncoder, layer, pooling=pooling)
    is_known = isinstance(pooling, str) and pooling in ("avg", "max")
    assert (made is Refused) is not is_known
