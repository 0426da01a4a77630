"""Backbones of `keras.applications` as encoders."""

import keras
import numpy as np
import pytest

from simclr_keras.encoders import BackboneEncoder
from tests.partners import pretraining

SHAPE = (32, 32, 3)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def backbone(name, **kwargs):
    return getattr(keras.applications, name)(
        input_shape=SHAPE, include_top=False, weights=None, **kwargs
    )


# Name, how it wants its images, size of h. MobileNetV3 has a rescaling layer
# inside, which expects [0, 255]; so have EfficientNetV2 and ConvNeXt, which
# tests/export exports.
BACKBONES = [
    ("MobileNetV3Small", (0, 255), 576),
    ("ResNet50", "caffe", 2048),
]


@pytest.mark.slow  # Minutes in all, on two cores.
@pytest.mark.parametrize(("name", "input_scaling", "size"), BACKBONES)
def test_pretrains(name, input_scaling, size, tmp_path):
    encoder = BackboneEncoder(backbone(name), input_scaling=input_scaling)
    assert encoder.output_shape == (None, size)
    model = pretraining.pretrained(encoder)
    pretraining.check_saves_and_loads(model, tmp_path, fresh=True)


def test_scaling_and_pool_are_those_of_the_network_itself():
    inner = backbone("MobileNetV3Small", pooling="avg")
    encoder = BackboneEncoder(
        backbone("MobileNetV3Small"), input_scaling=(0, 255)
    )
    encoder.backbone.set_weights(inner.get_weights())
    pixels = pretraining.images()
    # float32: representations of size 0.1 after some fifty convolutions.
    np.testing.assert_allclose(
        encoder(pixels / np.float32(255)), inner(pixels), atol=1e-5
    )


def test_endpoint_is_a_layer():
    encoder = BackboneEncoder(
        backbone("MobileNetV3Small", minimalistic=True),
        endpoint="expanded_conv_2_add",
        input_scaling=(0, 255),
    )
    assert encoder.output_shape == (None, 24)
    pretraining.pretrained(encoder)


@pytest.mark.slow
def test_one_that_pools_by_itself_needs_no_adapter(tmp_path):
    encoder = backbone(
        "MobileNetV3Small",
        minimalistic=True,
        pooling="avg",
        include_preprocessing=False,
    )
    model = pretraining.pretrained(encoder)
    pretraining.check_saves_and_loads(model, tmp_path)
