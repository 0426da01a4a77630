"""uint8 is scaled and other integers refused, however an encoder is called."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import SimCLRModel, encoders
from simclr_keras.encoders import image_dtype
from tests import checks

SHAPE = (8, 8, 3)


def resnet():
    return encoders.ResNet(
        18, width_multiplier=1 / 32, stem="cifar", input_shape=SHAPE
    )


def functional_backbone():
    inputs = keras.Input(SHAPE)
    features = keras.layers.Conv2D(4, 3)(inputs)
    return encoders.BackboneEncoder(keras.Model(inputs, features))


def layer_as_backbone():
    return encoders.BackboneEncoder(keras.layers.Conv2D(4, 3))


ENCODERS = [resnet, functional_backbone, layer_as_backbone]


def images(dtype="uint8", count=4):
    return (
        np.random.default_rng(0).integers(0, 256, (count, *SHAPE)).astype(dtype)
    )


def in_fit(encoder, x):
    encoder.compile("sgd", "mse")
    encoder.fit(x, np.zeros((len(x), 4), "float32"), verbose=0)


CALLS = {
    "array": lambda encoder, x: encoder(x),
    "tensor": lambda encoder, x: encoder(tf.constant(x)),
    "training": lambda encoder, x: encoder(x, training=True),
    "graph": lambda encoder, x: tf.function(encoder)(x),
    "xla": lambda encoder, x: tf.function(encoder, jit_compile=True)(x),
    "predict": lambda encoder, x: encoder.predict(x, verbose=0),
    "predict dataset": lambda encoder, x: encoder.predict(
        tf.data.Dataset.from_tensor_slices(x).batch(2), verbose=0
    ),
    "predict_on_batch": lambda encoder, x: encoder.predict_on_batch(x),
    "fit": in_fit,
    "symbolic": lambda encoder, x: encoder(keras.Input(SHAPE, dtype=x.dtype)),
    "sublayer": lambda encoder, x: keras.Sequential(
        [keras.Input(SHAPE, dtype=x.dtype), encoder]
    )(x),
}


@pytest.mark.parametrize("call", sorted(set(CALLS) - {"fit", "symbolic"}))
@pytest.mark.parametrize("make", ENCODERS)
def test_uint8_is_scaled(make, call):
    encoder, x = make(), images()
    found = CALLS[call](encoder, x)
    training = call == "training"
    expected = encoder(x.astype("float32") / 255, training=training)
    # float32, 17 convolutions
    checks.assert_same(found, expected, atol=1e-5)


@pytest.mark.parametrize("make", ENCODERS)
def test_uint8_in_fit(make):
    encoder, x = make(), images()
    copy = keras.models.clone_model(encoder)
    copy(x[:1])
    encoder(x[:1])
    copy.set_weights(encoder.get_weights())
    for each, batch in ((encoder, x), (copy, x.astype("float32") / 255)):
        head = keras.Sequential([keras.Input(SHAPE, dtype=batch.dtype), each])
        head.compile("sgd", "mse")
        target = np.zeros((len(x), each.output_shape[-1]))
        head.fit(batch, target, shuffle=False, verbose=0)
    for found, expected in zip(encoder.weights, copy.weights):
        checks.assert_same(found, expected, atol=1e-5)


@pytest.mark.parametrize("make", ENCODERS)
def test_uint8_of_a_saved_encoder(make, tmp_path):
    encoder = make()
    expected = encoder(images("float32") / 255)
    loaded = checks.save_and_load(encoder, tmp_path)
    found = loaded.predict(images(), verbose=0)
    checks.assert_same(found, expected, atol=1e-5)


def test_uint8_in_float64():
    scaled = image_dtype.to_unit_range(images(), "float64")
    np.testing.assert_array_equal(scaled, images() / 255)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("make", ENCODERS)
def test_wider_integers_are_refused(make, call):
    encoder = make()
    with pytest.raises(TypeError, match="dtype uint16") as caught:
        CALLS[call](encoder, images("uint16"))
    assert "65535" in str(caught.value)
    assert "SimCLRModel" in str(caught.value)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "bool"])
@pytest.mark.parametrize("make", ENCODERS)
def test_other_integers_are_refused(make, dtype):
    with pytest.raises(TypeError, match=f"dtype {dtype}"):
        make()(images(dtype))


@pytest.mark.parametrize("make", ENCODERS)
def test_refused_once_built_too(make):
    encoder = make()
    encoder(images("float32") / 255)
    with pytest.raises(TypeError, match="dtype uint16"):
        encoder(images("uint16"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("make", ENCODERS)
def test_floats_of_any_size_are_taken(make, dtype):
    encoder, x = make(), images("float32") / 255
    expected = encoder(x)
    # bfloat16 has 8 bits of mantissa.
    checks.assert_same(encoder(tf.cast(x, dtype)), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("make", ENCODERS)
def test_value_range(make):
    assert make().value_range == (0, 1)
    assert type(make()).value_range == (0, 1)


@pytest.mark.parametrize("make", ENCODERS)
def test_uint8_behind_a_rescaling_layer(make, tmp_path):
    inputs = keras.Input(SHAPE, dtype="uint8")
    encoder = make()
    h = encoder(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, h)
    expected = encoder(images("float32") / 255)
    # float32, a few sums
    checks.assert_same(model(images()), expected, atol=1e-5)
    loaded = checks.save_and_load(model, tmp_path)
    checks.assert_same(loaded.predict(images(), verbose=0), expected, atol=1e-5)


def test_simclr_model_takes_uint8():
    encoder = resnet()
    model = SimCLRModel(encoder)
    h = model.predict(images(), verbose=0)
    # float32, 17 convolutions
    checks.assert_same(h, encoder(images("float32") / 255), atol=1e-5)
