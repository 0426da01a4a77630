"""Backbones of KerasHub as encoders, at their smallest."""

import keras
import numpy as np
import pytest

from simclr_keras.encoders import BackboneEncoder
from tests.partners import pretraining

keras_hub = pytest.importorskip(
    "keras_hub", reason="KerasHub is not installed; pip install keras-hub"
)

SHAPE = (32, 32, 3)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def resnet():
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],  # the only number it takes
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=SHAPE,
    )


def densenet():
    return keras_hub.models.DenseNetBackbone(
        stackwise_num_repeats=[1, 1],
        compression_ratio=0.5,
        growth_rate=4,
        image_shape=SHAPE,
    )


def vit():
    return keras_hub.models.ViTBackbone(
        image_shape=SHAPE,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )


def swin():
    return keras_hub.models.SwinTransformerBackbone(
        image_shape=SHAPE,
        patch_size=4,
        embed_dim=8,
        window_size=4,
        depths=[2, 2],
        num_heads=[2, 2],
    )


def siglip():  # pools by itself, and its input has a name
    return keras_hub.models.SigLIPVisionEncoder(
        patch_size=8,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=32,
        image_shape=SHAPE,
    )


CASES = {
    "resnet": (resnet, {"input_scaling": "torch"}, 64),
    "resnet, level": (resnet, {"endpoint": "P2"}, 64),
    "densenet, level": (densenet, {"endpoint": "P2", "pooling": "max"}, 68),
    "vit, class token": (
        vit,
        {"pooling": "token", "input_scaling": (-1, 1)},
        16,
    ),
    "vit, mean": (vit, {}, 16),
    "swin": (swin, {}, 16),
    "siglip": (siglip, {"input_scaling": (-1, 1)}, 16),
}


SLOW = ("swin",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
        for n in CASES
    ],
)
def test_pretrains(name, tmp_path):
    make, options, size = CASES[name]
    encoder = BackboneEncoder(make(), **options)
    assert encoder.output_shape == (None, size)
    model = pretraining.pretrained(encoder)
    pretraining.check_saves_and_loads(
        model, tmp_path, fresh=name in ("resnet, level", "vit, class token")
    )


def test_levels_are_those_of_the_pyramid():
    backbone = resnet()
    images = pretraining.images() / np.float32(255)
    levels = keras.Model(backbone.input, backbone.pyramid_outputs)(images)
    for endpoint, features in levels.items():
        # float32: means of some 200 numbers of size 1.
        np.testing.assert_allclose(
            BackboneEncoder(backbone, endpoint=endpoint)(images),
            np.mean(features, axis=(1, 2)),
            atol=1e-5,
        )


def test_an_unknown_level_lists_those_there_are():
    with pytest.raises(ValueError, match=r"P2, P3.*endpoint='P7'"):
        BackboneEncoder(resnet(), endpoint="P7")
