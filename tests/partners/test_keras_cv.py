"""Backbones and image layers of KerasCV, whose last release is 0.9.0.

What does not work is KerasCV 0.9.0 on Keras 3, whose last release before it
was 3.4: the test that expects it says so.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import SimCLRModel
from simclr_keras.encoders import BackboneEncoder
from tests.partners import pretraining

keras_cv = pytest.importorskip(
    "keras_cv", reason="KerasCV is not installed; pip install keras-cv"
)

SHAPE = (32, 32, 3)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


# --- Backbones -------------------------------------------------------------


def resnet():
    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 64],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        include_rescaling=True,
        input_shape=SHAPE,
        block_type="basic_block",
    )


def csp_dark_net():
    return keras_cv.models.CSPDarkNetBackbone(
        stackwise_channels=[8, 16],
        stackwise_depth=[1, 1],
        include_rescaling=True,
        input_shape=SHAPE,
    )


def efficient_net():
    return keras_cv.models.EfficientNetV2Backbone(
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0, 0.25],
        stackwise_strides=[1, 2],
        stackwise_conv_types=["fused", "unfused"],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        include_rescaling=True,
        input_shape=SHAPE,
    )


def vit_det():
    return keras_cv.models.ViTDetBackbone(
        include_rescaling=True,
        input_shape=SHAPE,
        patch_size=8,
        embed_dim=16,
        depth=2,
        mlp_dim=32,
        num_heads=2,
        out_channels=8,
        use_bias=True,
        window_size=2,
        global_attention_indices=[1],
    )


CASES = {
    "resnet": (resnet, {}, 64),
    "resnet, level": (resnet, {"endpoint": "P2"}, 64),
    "csp_dark_net": (csp_dark_net, {"pooling": "max"}, 16),
    "efficient_net": (efficient_net, {}, 1280),
    "vit_det": (vit_det, {}, 256),
}


SLOW = ("csp_dark_net", "efficient_net")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
        for n in CASES
    ],
)
def test_pretrains(name, tmp_path):
    make, options, size = CASES[name]
    encoder = BackboneEncoder(make(), input_scaling=(0, 255), **options)
    assert encoder.output_shape == (None, size)
    model = pretraining.pretrained(encoder)
    pretraining.check_saves_and_loads(
        model, tmp_path, fresh=name == "resnet, level"
    )


def test_mit_does_not_say_how_many_features_it_gives():
    """Its layers lose every static shape on Keras 3, the channels too."""
    backbone = keras_cv.models.MiTBackbone(
        include_rescaling=True,
        depths=[1, 1, 1, 1],
        embedding_dims=[32, 64, 160, 256],
        input_shape=SHAPE,
    )
    with pytest.raises(ValueError, match="known size F"):
        BackboneEncoder(backbone)


# --- Image layers ----------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras_cv.layers.RandomFlip("horizontal"),
        lambda: keras_cv.layers.RandomColorJitter(
            (0, 255), 0.2, 0.5, (0.3, 0.7), 0.2
        ),
    ],
    ids=["RandomFlip", "RandomColorJitter"],
)
def test_layers_as_augmentation(make, tmp_path):
    model = pretraining.pretrained(pretraining.tiny_encoder(), make())
    pretraining.check_saves_and_loads(model, tmp_path)


def rand_augment():
    return keras_cv.layers.RandAugment(value_range=(0, 255), seed=1)


def test_rand_augment_as_augmentation(tmp_path):
    model = pretraining.pretrained(pretraining.tiny_encoder(), rand_augment())
    pretraining.check_saves_and_loads(model, tmp_path)


@pytest.mark.slow
def test_rand_augment_in_the_input_pipeline():
    augmentation = rand_augment()

    def views(images):
        return {
            "view_1": augmentation(images, training=True),
            "view_2": augmentation(images, training=True),
        }

    data = tf.data.Dataset.from_tensor_slices(pretraining.images())
    data = data.batch(4, drop_remainder=True).map(views)
    for batch in data:
        assert np.any(batch["view_1"] != batch["view_2"])
    pretraining.pretrained(pretraining.tiny_encoder(), data=data)


def test_rand_augment_runs_eagerly():
    model = SimCLRModel(pretraining.tiny_encoder(), augmentation=rand_augment())
    model.compile("sgd", run_eagerly=True)
    history = model.fit(pretraining.images(), batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"][0])
