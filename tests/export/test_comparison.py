"""What the comparison lets through, and what it does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import ProjectionHead, export_saved_model
from simclr_keras.encoders import BackboneEncoder
from simclr_keras.export import comparison, reusable_module
from simclr_keras.export.parts import Parts
from tests import checks
from tests.export.models import chaotic_encoder, scramble

POLICIES = ("float32", *checks.MIXED_POLICIES)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(policy, marks=pytest.mark.slow)
        if policy == "mixed_bfloat16"
        else policy
        for policy in POLICIES
    ],
)
def exported(request, tmp_path_factory):
    """Path and parts of an export in which rounding grows."""
    encoder = chaotic_encoder(request.param)
    head = ProjectionHead(4, dtype=request.param)
    head.build((None, 16))
    path = str(tmp_path_factory.mktemp("exported") / "module")
    parts = Parts(encoder, head, lambda images: images, *[(8, 8, 3)] * 2)
    module, signatures, _ = reusable_module.build_module(parts)
    tf.saved_model.save(module, path, signatures)
    return path, parts


@pytest.fixture(scope="module")
def loaded(exported):
    """The module of the export, whose variables a comparison puts back."""
    return tf.saved_model.load(exported[0])


def compare(exported, module, monkeypatch):
    """Compares an export as if `module` had been loaded."""
    monkeypatch.setattr(comparison.tf.saved_model, "load", lambda _: module)
    return comparison.compare(*exported)


@pytest.mark.slow
def test_rounding_that_grows_is_no_fault(exported, loaded, monkeypatch):
    """With the graph optimizer it is 0.24 of the largest, in bfloat16."""
    _, parts = exported
    before = [layer.get_weights() for layer in parts.layers()]
    copies = [v.numpy() for v in loaded.state]
    options = tf.config.optimizer
    for disabled in (True, False):
        options.set_experimental_options({"disable_meta_optimizer": disabled})
        assert compare(exported, loaded, monkeypatch) == 0
        found = options.get_experimental_options()
        assert found["disable_meta_optimizer"] is disabled
    for layer, weights in zip(parts.layers(), before):
        checks.assert_same(layer.get_weights(), weights)
    checks.assert_same([v.numpy() for v in loaded.state], copies)


class Shadow:
    """Does what a module does, with a fault in each call."""

    def __init__(self, module, fault=None):
        self.module = module
        self.fault = fault or (lambda module, *args: module.endpoints(*args))
        for name in ("state", "variables", "projection_head"):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))

    def __call__(self, images, training=False):
        if images.dtype == "uint8":
            images = tf.cast(images, tf.float32) / 255
        return self.endpoints(images, training)["representation"]

    def endpoints(self, images, training=False):
        return self.fault(self.module, tf.constant(images), training)


# --- Faults in what was stored ----------------------------------------------
def swap_two_kernels(module):
    one, other = [v for v in module.variables if v.shape[-2:] == (16, 16)][:2]
    value = one.numpy()
    one.assign(other)
    other.assign(value)


def change_one_weight(module):
    kernel = module.variables[0]
    value = kernel.numpy()
    value[1, 1, 0, 0] *= 1.1
    kernel.assign(value)


def change_the_head(module):
    kernel = module.projection_head.variables[0]
    kernel.assign(kernel * 1.1)


def lose_the_head(module):
    del module.projection_head


# --- Faults in what is computed ---------------------------------------------
def ignore_training(module, images, training):
    return module.endpoints(images, False)


def always_train(module, images, training):
    return module.endpoints(images, True)


def leave_out_the_scale(module, images, training):
    # Batch norm in training mode sees no difference, its statistics do.
    return module.endpoints(images * 255, training)


def leave_out_the_projection(module, images, training):
    outputs = dict(module.endpoints(images, training))
    del outputs["projection"]
    return outputs


def change_the_output(module, images, training):
    outputs = dict(module.endpoints(images, training))
    outputs["representation"] *= 1.01
    return outputs


def keep_the_statistics(module, images, training):
    before = [v.numpy() for v in module.state]
    outputs = module.endpoints(images, training)
    for variable, value in zip(module.state, before):
        variable.assign(value)
    return outputs


def move_the_statistics_twice(module, images, training):
    module.endpoints(images, training)
    return module.endpoints(images, training)


@pytest.mark.parametrize(
    "fault",
    [swap_two_kernels, change_one_weight, change_the_head, lose_the_head],
)
def test_faults_in_what_is_stored(fault, exported, loaded, monkeypatch):
    objects = loaded, loaded.projection_head
    before = [[v.numpy() for v in part.state] for part in objects]
    module = Shadow(loaded)
    fault(module)
    try:
        with pytest.raises(ValueError, match="differs from the model"):
            compare(exported, module, monkeypatch)
    finally:
        for part, values in zip(objects, before):
            for variable, value in zip(part.state, values):
                variable.assign(value)


@pytest.mark.parametrize(
    "fault",
    [
        ignore_training,
        always_train,
        leave_out_the_scale,
        leave_out_the_projection,
        change_the_output,
        keep_the_statistics,
        move_the_statistics_twice,
    ],
)
def test_faults_in_what_is_computed(fault, exported, loaded, monkeypatch):
    with pytest.raises(ValueError, match="differs from the model"):
        compare(exported, Shadow(loaded, fault), monkeypatch)


def test_a_shadow_without_a_fault(exported, loaded, monkeypatch):
    assert compare(exported, Shadow(loaded), monkeypatch) == 0


# --- Models that do not repeat themselves -----------------------------------
class Noise(keras.layers.Layer):
    """Draws without a seed generator, in both modes."""

    def call(self, images):
        return images + 1e-3 * tf.random.normal(tf.shape(images))


class BakedNoise(keras.layers.Layer):
    """Draws in Python: what is traced has one draw for ever."""

    def call(self, images):
        rng = np.random.default_rng()
        return images + rng.normal(size=(1, 8, 8, 3)).astype("float32")


class OtherInGraphs(keras.layers.Layer):
    """As of kernels that a processor fuses in graphs alone."""

    def call(self, images):
        return images * (1.0 if tf.executing_eagerly() else 1.01)


def encoder_with(layer):
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layer,
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    scramble(encoder)
    return encoder


def test_noise_is_measured(tmp_path, monkeypatch):
    encoder = encoder_with(Noise())
    export_saved_model(encoder, tmp_path / "module")

    def fault(module, images, training):
        outputs = dict(module.endpoints(images, training))
        outputs["representation"] *= 1.1
        return outputs

    load = tf.saved_model.load
    monkeypatch.setattr(
        comparison.tf.saved_model,
        "load",
        lambda path: Shadow(load(path), fault),
    )
    with pytest.raises(ValueError, match="differs from the model"):
        export_saved_model(encoder, tmp_path / "other")


def test_a_draw_in_python_is_a_fault(tmp_path):
    with pytest.raises(ValueError, match="drawn in Python"):
        export_saved_model(encoder_with(BakedNoise()), tmp_path / "module")


def test_a_graph_that_computes_otherwise_is_compared_with_graphs(tmp_path):
    encoder = encoder_with(OtherInGraphs())
    path = export_saved_model(encoder, tmp_path / "module")
    images = np.ones((2, 8, 8, 3), "float32")
    np.testing.assert_allclose(
        tf.saved_model.load(path)(images),
        encoder.predict(images, verbose=0),
        rtol=1e-5,  # float32
    )


# --- Networks as they are used ----------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policy"),
    [
        *(("MobileNetV3Small", policy) for policy in POLICIES),
        # Those of many layers, where rounding adds up most.
        ("EfficientNetV2B0", "mixed_bfloat16"),
        ("ConvNeXtTiny", "mixed_bfloat16"),
    ],
)
def test_backbones(name, policy, tmp_path):
    with checks.dtype_policy(policy):
        keras.utils.set_random_seed(0)
        backbone = getattr(keras.applications, name)(
            input_shape=(32, 32, 3), include_top=False, weights=None
        )
        encoder = BackboneEncoder(backbone, input_scaling=(0, 255))
    export_saved_model(encoder, tmp_path / "module")
