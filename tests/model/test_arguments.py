"""Arguments of the constructor, and the signatures of Keras's methods."""

import inspect
import warnings

import keras
import numpy as np
import pytest

from simclr_keras import ProjectionHead, SimCLRModel
from simclr_keras.augmentation import (
    RandomCutout,
    RandomHorizontalFlip,
)
from tests import checks
from tests.model.models import EAGER, IMAGES, fit, tiny_encoder, tiny_model


def flip(value_range=(0, 1)):
    return RandomHorizontalFlip(value_range=value_range, seed=1)


@pytest.mark.parametrize(
    "augmentation", [flip(), [flip(), RandomCutout(value_range=(0, 1))]]
)
def test_configuration(augmentation):
    arguments = {
        "encoder": tiny_encoder(),
        "projection_head": ProjectionHead(4),
        "augmentation": augmentation,
        "num_classes": 3,
        "value_range": (0, 1),
        "probe_on": "images",
    }
    model = SimCLRModel(**arguments, name="a_name")
    assert model.get_config()["name"] == "a_name"
    checks.check_config(model, arguments)


def test_defaults():
    model = SimCLRModel(tiny_encoder())
    assert type(model.projection_head) is ProjectionHead
    assert model.projection_head.output_dim == 128
    assert model.value_range == (0, 255)
    assert model.augmentation is None
    assert not hasattr(model, "linear_probe")


@pytest.mark.parametrize(
    "name",
    [
        "compile",
        "fit",
        "evaluate",
        "predict",
        "train_on_batch",
        "test_on_batch",
        "export",
    ],
)
def test_signatures_are_keras_own(name):
    own, keras_own = (
        list(inspect.signature(getattr(cls, name)).parameters.values())
        for cls in (SimCLRModel, keras.Model)
    )
    if name == "compile":
        assert own.pop().name == "micro_batch_size"
    assert [(p.name, p.kind, p.default) for p in own] == [
        (p.name, p.kind, p.default) for p in keras_own
    ]


# --- What is refused ---------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("encoder", "resnet50", TypeError),
        ("projection_head", 128, TypeError),
        ("augmentation", abs, TypeError),
        ("num_classes", 0, ValueError),
        ("num_classes", -3, ValueError),
        ("value_range", (1, 0), ValueError),
    ],
)
def test_bad_arguments(name, value, error):
    def make(**kwargs):
        return SimCLRModel(**{"encoder": tiny_encoder(), **kwargs})

    checks.check_rejects(make, name, value, error)


@pytest.mark.parametrize(
    ("augmentation", "error", "message"),
    [
        ([flip()], ValueError, "two views or more. Received a list of 1"),
        ([], ValueError, "Received a list of 0"),
        ([flip(), "flip"], TypeError, "Received: augmentation='flip'"),
        ([flip(), flip((0, 255))], ValueError, r"\[\(0, 1\), \(0, 255\)\]"),
    ],
)
def test_bad_lists_of_augmentations(augmentation, error, message):
    with pytest.raises(error, match=message):
        SimCLRModel(tiny_encoder(), augmentation=augmentation)


@pytest.mark.parametrize("augmentation", [flip(), [flip(), flip()]])
def test_value_range_must_be_the_augmentations(augmentation):
    with pytest.raises(ValueError, match="must be that of the augm") as error:
        SimCLRModel(
            tiny_encoder(), augmentation=augmentation, value_range=(0, 255)
        )
    assert "Received: value_range=(0, 255)" in str(error.value)
    assert "has (0, 1)" in str(error.value)


def headless(layer):
    """Two encoders whose output is not (B, F): a model, and a layer."""
    if layer:
        return keras.layers.Conv2D(4, 3)
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])


def test_encoder_must_give_representations():
    message = r"must be representations \(B, F\).* \(None, 6, 6, 4\)"
    with pytest.raises(ValueError, match=message) as error:
        SimCLRModel(headless(layer=False))
    assert "keras.layers.GlobalAveragePooling2D()" in str(error.value)
    assert "encoders.BackboneEncoder(encoder)" in str(error.value)
    model = tiny_model(encoder=headless(layer=True))
    with pytest.raises(ValueError, match=r"GlobalAveragePooling2D\(\)"):
        fit(model, IMAGES)


@pytest.mark.parametrize("structure", [list, dict])
def test_encoder_must_have_one_output(structure):
    inputs = keras.Input((8, 8, 3))
    h = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = [h, keras.layers.Dense(4)(h)]
    if structure is dict:
        outputs = dict(zip("ab", outputs))
    with pytest.raises(ValueError, match=r"must be representations \(B, F\)"):
        SimCLRModel(keras.Model(inputs, outputs))


def test_weights_of_images_are_refused():
    model = tiny_model(compiling=EAGER)
    for refused in (
        {"sample_weight": np.ones(16)},
        {"class_weight": {0: 1.0}},
    ):
        with pytest.raises(ValueError, match="takes no `sample_weight`"):
            fit(model, IMAGES, **refused)
    with pytest.raises(ValueError, match="takes no `sample_weight`"):
        model.evaluate(IMAGES, sample_weight=np.ones(16), verbose=0)
    with pytest.raises(ValueError, match="takes no `sample_weight`"):
        model.train_on_batch(IMAGES, sample_weight=np.ones(16))
    for name in ("loss_weights", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"takes no `{name}`"):
            model.compile("sgd", **{name: [1.0]})


def test_a_dtype_that_the_layers_do_not_have():
    with pytest.warns(UserWarning, match="dtype bfloat16.*'encoder' in float"):
        tiny_model(dtype="mixed_bfloat16")


def test_a_dtype_that_they_have():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_model(dtype="float32")
        with checks.dtype_policy("mixed_bfloat16"):
            tiny_model(dtype="mixed_bfloat16")


def test_half_precision_whose_loss_is_not_scaled():
    def make(optimizer, **kwargs):
        encoder = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(8, 3, dtype="mixed_float16"),
                keras.layers.GlobalAveragePooling2D(dtype="mixed_float16"),
            ],
            name="half",
        )
        return tiny_model(optimizer, encoder=encoder, **kwargs)

    with pytest.warns(UserWarning, match="'half' compute in float16"):
        make("sgd")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
        head = ProjectionHead(4, dtype="mixed_float16")
        # The container's own policy is float32, and says nothing.
        make("sgd", projection_head=head, dtype="mixed_float16")
