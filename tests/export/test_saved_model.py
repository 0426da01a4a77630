import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import simclr_keras
from simclr_keras import (
    ProjectionHead,
    SimCLRAugmentation,
    SimCLRModel,
    export_saved_model,
)
from simclr_keras.augmentation import (
    CenterCropAndResize,
    RandomHorizontalFlip,
    RandomResizedCrop,
)
from simclr_keras.export import comparison
from tests import checks
from tests.export.models import (
    RawLayer,
    RawModel,
    SilentLayer,
    TinyEncoder,
    random_images,
    scramble,
)
from tests.export.models import tiny_encoder as encoder_of

IMAGES = random_images((5, 8, 8, 3))
# float32, the same kernels in another graph.
SAME = {"rtol": 1e-5, "atol": 1e-5}


def tiny_model(encoder=None, **kwargs):
    keras.utils.set_random_seed(0)
    model = SimCLRModel(encoder or TinyEncoder(), ProjectionHead(4), **kwargs)
    scramble(model)
    return model


def load(model, folder, **kwargs):
    return tf.saved_model.load(
        export_saved_model(model, folder / "module", **kwargs)
    )


def arrays(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


# --- What it computes -------------------------------------------------------
def test_representations_of_any_size_and_dtype(tmp_path):
    encoder = encoder_of()
    module = load(encoder, tmp_path)
    for shape in ((1, 8, 8, 3), (5, 9, 17, 3)):
        images = random_images(shape)
        expected = encoder(images / 255)
        np.testing.assert_allclose(module(images / 255), expected, **SAME)
        np.testing.assert_allclose(
            module(tf.cast(images, tf.uint8)), expected, **SAME
        )


@pytest.mark.parametrize(
    ("dtype", "atol"),
    # The rounding of the images themselves.
    [("float64", 1e-5), ("float16", 2e-3)],
)
def test_floats_of_other_sizes(dtype, atol, tmp_path):
    model = tiny_model()
    module = load(model, tmp_path)
    images = (IMAGES / 255).astype(dtype)
    expected = model.encoder(IMAGES / 255)
    for call in (module, module.serve):
        h = call(images)
        assert h.dtype == tf.float32
        np.testing.assert_allclose(h, expected, rtol=1e-5, atol=atol)
    h = module.endpoints(images)["representation"]
    np.testing.assert_allclose(h, expected, rtol=1e-5, atol=atol)
    module(images, training=True)


def test_lists_of_numbers_are_floats(tmp_path):
    encoder = encoder_of()
    module = load(encoder, tmp_path)
    np.testing.assert_allclose(
        module((IMAGES / 255).tolist()), encoder(IMAGES / 255), **SAME
    )
    pixels = IMAGES.astype(int).tolist()
    np.testing.assert_allclose(module(pixels), encoder(IMAGES), rtol=1e-4)


def test_the_network_is_stored_once_in_each_mode(tmp_path):
    path = export_saved_model(tiny_model(), tmp_path / "module")
    graph = saved_model_pb2.SavedModel.FromString(
        pathlib.Path(path, "saved_model.pb").read_bytes()
    )
    with_convolutions = [
        function.signature.name
        for function in graph.meta_graphs[0].graph_def.library.function
        if any(node.op == "Conv2D" for node in function.node_def)
    ]
    assert len(with_convolutions) == 2, with_convolutions


def test_training_moves_the_statistics_of_the_module_alone(tmp_path):
    model = tiny_model()
    before = arrays(model.weights)
    module = load(model, tmp_path)
    checks.assert_same(arrays(model.weights), before)  # to the last bit
    head = arrays(module.projection_head.variables)

    h = module(IMAGES / 255, training=True)
    checks.assert_same(arrays(module.projection_head.variables), head)
    # Now Keras does the same.
    expected = model.encoder(IMAGES / 255, training=True)
    np.testing.assert_allclose(h, expected, **SAME)
    for copy, weight in zip(module.variables, model.encoder.weights):
        np.testing.assert_allclose(copy, weight, err_msg=copy.name, **SAME)
    z = module.projection_head(h, training=True)
    expected = model.projection_head(expected, training=True)
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-4)
    assert len(module.projection_head.variables) == len(head) > 0


def test_variables_bear_their_paths(tmp_path):
    encoder = encoder_of()
    module = load(encoder, tmp_path)
    names = [v.name.removesuffix(":0") for v in module.variables]
    assert names == [w.path for w in encoder.weights]
    trainable = [v.name.removesuffix(":0") for v in module.trainable_variables]
    assert trainable == [w.path for w in encoder.trainable_weights]


def test_model_card_lists_the_endpoints_that_there_are(tmp_path):
    module = load(tiny_model(), tmp_path)
    card = (tmp_path / "module" / "README.md").read_text()
    for name, value in module.endpoints(IMAGES / 255).items():
        assert f"| {name} | (B, " in card
        assert value.dtype == tf.float32
    assert module.endpoints(IMAGES / 255, training=True).keys() == {
        "block_group1",
        "block_group2",
        "final_avg_pool",
        "representation",
        "projection",
    }


def test_without_head(tmp_path):
    module = load(tiny_model(), tmp_path, include_head=False)
    assert not hasattr(module, "projection_head")
    assert "projection" not in module.signatures
    assert "projection" not in module.endpoints(IMAGES / 255)


def test_model_of_a_file(tmp_path):
    model = tiny_model(augmentation=SimCLRAugmentation(8, 8, blur=False))
    loaded = checks.save_and_load(model, tmp_path)
    module = load(loaded, tmp_path)
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(module(IMAGES / 255), expected, **SAME)


@pytest.mark.parametrize("policy", checks.MIXED_POLICIES)
def test_mixed_precision(policy, tmp_path):
    with checks.dtype_policy(policy):
        model = tiny_model(TinyEncoder())
        module = load(model, tmp_path)
    h = module(IMAGES / 255)
    assert h.dtype == tf.float32
    # 16 bits: another order of summation may round the last bit otherwise.
    np.testing.assert_allclose(
        h,
        keras.ops.cast(model.encoder(IMAGES / 255), "float32"),
        rtol=0.02,
        atol=0.02,
    )
    assert {v.dtype for v in module.variables} == {tf.float32}


def test_variances_that_a_difference_of_squares_loses(tmp_path):
    """As synchronized batch norm takes them, and the module does not."""
    offset = keras.initializers.Constant(300.0)
    encoder = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(6, 3, bias_initializer=offset),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    scramble(encoder)
    module = load(encoder, tmp_path)
    assert encoder.layers[1].synchronized
    images = random_images((2, 16, 16, 3)) / 255
    # Of some hundred.
    np.testing.assert_allclose(
        module(images), encoder(images), rtol=1e-4, atol=1e-3
    )


def test_random_layers_draw_anew(tmp_path):
    encoder = encoder_of((None, None, 3), keras.layers.Dropout(0.5))
    module = load(encoder, tmp_path)
    first, second = (module(IMAGES / 255, training=True) for _ in range(2))
    assert np.any(first != second)
    # The generator's state is no weight.
    assert len(module.variables) == len(encoder.weights)


def test_regularization_losses(tmp_path):
    encoder = TinyEncoder()
    module = load(encoder, tmp_path)
    losses = [loss() for loss in module.regularization_losses]
    np.testing.assert_allclose(losses, encoder.losses, rtol=1e-6)
    assert len(losses) == 2
    module.trainable_variables[0].assign_add(
        tf.ones_like(module.trainable_variables[0])
    )
    assert module.regularization_losses[0]() != losses[0]


def test_frozen_layers_stay_frozen(tmp_path):
    encoder = encoder_of()
    encoder.get_layer("norm").trainable = False
    module = load(encoder, tmp_path)
    assert len(module.trainable_variables) == 2  # the convolution's
    before = arrays(module.variables)
    module(IMAGES / 255, training=True)
    checks.assert_same(arrays(module.variables), before)


def test_subclassed_encoder(tmp_path):
    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3)

        def call(self, images, training=None):
            return keras.ops.mean(self.conv(images), axis=(1, 2))

    encoder = Encoder()
    with pytest.raises(ValueError, match=r"not been built; call it on a batch"):
        export_saved_model(encoder, tmp_path / "module")
    expected = encoder(IMAGES / 255)
    module = load(encoder, tmp_path)
    np.testing.assert_allclose(module(IMAGES / 255), expected, **SAME)
    with pytest.raises((TypeError, ValueError)):  # The size it was built for.
        module(np.zeros((1, 9, 9, 3), "float32"))
    module = load(
        encoder, tmp_path, image_shape=(None, None, 3), overwrite=True
    )
    assert module(np.zeros((1, 9, 9, 3), "float32")).shape == (1, 4)


@pytest.mark.parametrize(
    ("cls", "make_augmentation", "size"),
    [
        pytest.param(
            RawModel,
            lambda: SimCLRAugmentation(8, 8, blur=False),
            (12, 10),
            marks=pytest.mark.slow,
        ),
        (RawLayer, RandomHorizontalFlip, (8, 8)),
        pytest.param(
            SilentLayer,
            RandomHorizontalFlip,
            (8, 8),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["model", "layer", "silent"],
)
def test_subclassed_encoder_of_a_model(cls, make_augmentation, size, tmp_path):
    """Its image shape is that of what the model was fitted on."""
    model = SimCLRModel(cls(), ProjectionHead(4), make_augmentation())
    model.compile("sgd", jit_compile=False)
    with pytest.raises(ValueError, match="not been built; call it on a batch"):
        export_saved_model(model, tmp_path / "module")
    images = random_images((4, *size, 3)).astype("uint8")
    model.fit(images, verbose=0)
    module = load(model, tmp_path)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(module(images), expected, **SAME)


def test_image_shape_that_nobody_knows(tmp_path):
    encoder = SilentLayer()
    with pytest.raises(ValueError, match=r"image_shape=None.*'silent_layer"):
        export_saved_model(encoder, tmp_path / "module")
    module = load(encoder, tmp_path, image_shape=(8, 8, 3))
    np.testing.assert_allclose(
        module(IMAGES / 255), encoder(IMAGES / 255), **SAME
    )


def test_exported_again(tmp_path):
    path = export_saved_model(encoder_of(), tmp_path / "first")
    layer = simclr_keras.export.SavedModelEncoder(path)
    encoder = keras.Sequential([keras.Input((8, 8, 3)), layer])
    layer.weights[0].assign(layer.weights[0] * 2)
    module = load(encoder, tmp_path)
    np.testing.assert_allclose(
        module(IMAGES / 255), layer(IMAGES / 255), **SAME
    )
    before = arrays(module.variables)
    module(IMAGES / 255, training=True)
    moved = [np.any(a != b) for a, b in zip(before, arrays(module.variables))]
    assert sum(moved) == 2  # the moving statistics


# --- Preprocessing ----------------------------------------------------------
@pytest.mark.parametrize(
    "value_range", [(0, 255), pytest.param((-1, 1), marks=pytest.mark.slow)]
)
def test_preprocessing_is_the_model_s(value_range, tmp_path):
    model = tiny_model(
        augmentation=SimCLRAugmentation(
            8, 8, blur=False, value_range=value_range
        )
    )
    module = load(model, tmp_path)
    low, high = value_range
    for shape in ((5, 8, 8, 3), (2, 12, 10, 3)):
        images = random_images(shape) / 255
        expected = model.predict(images * (high - low) + low, verbose=0)
        np.testing.assert_allclose(module(images), expected, **SAME)


@pytest.mark.parametrize(
    ("layers", "sizes"),
    [
        ([RandomResizedCrop(8, 8), RandomHorizontalFlip()], [(8, 8), (12, 10)]),
        ([keras.layers.RandomFlip("horizontal")], [(8, 8)]),
    ],
    ids=["composition", "foreign"],
)
def test_preprocessing_of_other_augmentations(layers, sizes, tmp_path):
    model = tiny_model(augmentation=keras.Sequential(layers))
    module = load(model, tmp_path)
    for size in sizes:
        images = random_images((2, *size, 3))
        expected = model.predict(images, verbose=0)
        np.testing.assert_allclose(module(images / 255), expected, **SAME)


@pytest.mark.slow
def test_image_shape_is_that_of_the_views(tmp_path):
    model = tiny_model(augmentation=SimCLRAugmentation(8, 8, blur=False))
    with pytest.raises(ValueError, match=r"evaluates, \(8, 8\).*\(12, 8, 3\)"):
        load(model, tmp_path, image_shape=(12, 8, 3))
    assert not os.listdir(tmp_path)
    load(model, tmp_path, image_shape=(None, 8, 3))
    load(
        model,
        tmp_path,
        image_shape=(12, 12, 3),
        preprocessing=False,
        overwrite=True,
    )


def test_preprocessing_is_of_the_evaluations_size(tmp_path):
    augmentation = SimCLRAugmentation(8, 8, blur=False, evaluation_size=12)
    model = tiny_model(augmentation=augmentation)
    images = random_images((2, 20, 16, 3))
    expected = model.predict(images, verbose=0)
    views = tiny_model(augmentation=SimCLRAugmentation(8, 8, blur=False))
    assert not np.allclose(views.predict(images, verbose=0), expected, **SAME)
    module = load(model, tmp_path)
    np.testing.assert_allclose(module(images / 255), expected, **SAME)


def test_no_preprocessing(tmp_path):
    model = tiny_model(augmentation=SimCLRAugmentation(8, 8, blur=False))
    module = load(model, tmp_path, preprocessing=False)
    images = random_images((2, 12, 10, 3)) / 255
    np.testing.assert_allclose(module(images), model.encoder(images), **SAME)


@pytest.mark.parametrize(
    "layer",
    [
        CenterCropAndResize(8, 8, value_range=(0, 1)),
        keras.layers.Resizing(8, 8),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_preprocessing_layer(layer, tmp_path):
    encoder = encoder_of((8, 8, 3))
    module = load(encoder, tmp_path, preprocessing=layer)
    images = random_images((2, 12, 10, 3)) / 255
    np.testing.assert_allclose(module(images), encoder(layer(images)), **SAME)


# --- The folder -------------------------------------------------------------
def test_path_and_folder(tmp_path):
    path = tmp_path / "new" / "module"
    assert export_saved_model(encoder_of(), path) == str(path)
    assert os.listdir(path.parent) == ["module"]
    assert set(os.listdir(path)) >= {"saved_model.pb", "variables", "README.md"}
    assert os.listdir(path / "assets") == ["encoder.json"]


@pytest.mark.slow
def test_configuration_makes_the_encoder(tmp_path):
    model = tiny_model(simclr_keras.encoders.ResNet18(width_multiplier=1 / 16))
    module = load(model, tmp_path)
    path = pathlib.Path(module.configuration.asset_path.numpy().decode())
    config = json.loads(path.read_text())
    encoder = keras.saving.deserialize_keras_object(config["encoder"])
    encoder.set_weights(arrays(module.variables))
    images = random_images((2, 32, 32, 3)) / 255
    np.testing.assert_allclose(encoder(images), module(images), **SAME)
    head = keras.saving.deserialize_keras_object(config["projection_head"])
    assert head.output_dim == 4
    assert config["value_range"] == [0, 1]


def test_model_card(tmp_path):
    results = {
        "dataset": "digits",
        "accuracy": {"trained": {"10": {"mean": 0.5, "std": 0.25, "draws": 3}}},
    }
    recipe = tmp_path / "config.json"
    at_home = str(tmp_path / "secret" / "photos")
    recipe.write_text(
        json.dumps({"temperature": 0.2, "note": None, "images": at_home})
    )
    path = export_saved_model(
        tiny_model(), tmp_path / "module", results=results, recipe=recipe
    )
    card = pathlib.Path(path, "README.md").read_text()
    assert "# module\n" in card
    assert "| dataset | digits |" in card
    assert "| accuracy, trained, 10 | 0.5 ± 0.25 (3 draws) |" in card
    assert "| temperature | 0.2 |" in card
    assert "| note |" not in card
    assert "| images | photos |" in card
    assert "secret" not in card
    assert "| class | TinyEncoder |" in card
    assert f"| tensorflow | {tf.__version__} |" in card


def test_overwrite(tmp_path):
    path = export_saved_model(encoder_of(), tmp_path / "module")
    stranger = tmp_path / "module" / "notes.txt"
    stranger.write_text("mine")
    with pytest.raises(ValueError, match=r"`overwrite=True` to replace"):
        export_saved_model(encoder_of(), path)
    assert stranger.exists()
    encoder = encoder_of()
    encoder.set_weights([w * 2 for w in encoder.get_weights()])
    with pytest.raises(ValueError, match=r"and nothing else.*'notes.txt'"):
        export_saved_model(encoder, path, overwrite=True)
    assert stranger.read_text() == "mine"
    stranger.unlink()
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    for name in ("README.md", "assets/photo"):
        (page / name).write_text("mine")
        with pytest.raises(ValueError, match="and nothing else"):
            export_saved_model(encoder, page, overwrite=True)
    shutil.rmtree(page)
    (tmp_path / "module" / ".DS_Store").touch()
    export_saved_model(encoder, path, overwrite=True)
    assert os.listdir(tmp_path) == ["module"]
    module = tf.saved_model.load(path)
    np.testing.assert_array_equal(module.variables[0], encoder.weights[0])


def spoil_weights(load):
    def loaded(path):
        module = load(path)
        module.variables[0].assign(module.variables[0] * 1.01)
        return module

    return loaded


def spoil_modes(load):
    def loaded(path):
        module = load(path)
        endpoints = module.endpoints
        module.endpoints = lambda images, training=False: endpoints(images)
        return module

    return loaded


def fail_to_load(load):
    def loaded(path):
        raise KeyboardInterrupt

    return loaded


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (spoil_weights, ValueError),
        (spoil_modes, ValueError),
        (fail_to_load, KeyboardInterrupt),
    ],
)
def test_failed_export_leaves_what_was_there(
    spoil, error, tmp_path, monkeypatch
):
    path = export_saved_model(encoder_of(), tmp_path / "module")
    before = {
        file: file.read_bytes()
        for file in tmp_path.rglob("*")
        if file.is_file()
    }
    monkeypatch.setattr(
        comparison.tf.saved_model, "load", spoil(tf.saved_model.load)
    )
    encoder = encoder_of()
    weights = arrays(encoder.weights)
    with pytest.raises(error):
        export_saved_model(encoder, path, overwrite=True)
    with pytest.raises(error):
        export_saved_model(encoder, tmp_path / "other")
    checks.assert_same(arrays(encoder.weights), weights)
    assert os.listdir(tmp_path) == ["module"]
    for file, content in before.items():
        assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("size", "of_views", "training"),
    [
        (8, True, False),
        (8, False, True),
        pytest.param(96, False, False, marks=pytest.mark.slow),
    ],
)
def test_a_fault_in_either_kind_of_image_is_found(
    size, of_views, training, tmp_path, monkeypatch
):
    """Those of the views' size, and those that are cropped."""

    def spoil(path, load=tf.saved_model.load):
        module = load(path)
        endpoints = module.endpoints

        def spoiled(images, training=False):
            outputs = endpoints(images, training)
            kind = (images.shape[1:3] == (size, size), bool(training))
            if kind == wrong:
                outputs["representation"] *= 1.1
            return outputs

        module.endpoints = spoiled
        return module

    wrong = of_views, training
    monkeypatch.setattr(comparison.tf.saved_model, "load", spoil)
    model = tiny_model(augmentation=SimCLRAugmentation(size, size, blur=False))
    with pytest.raises(ValueError, match="differs from the model"):
        export_saved_model(model, tmp_path / "module")


def test_weights_that_are_not_finite(tmp_path):
    encoder = encoder_of()
    encoder.weights[0].assign(encoder.weights[0] * np.nan)
    with pytest.raises(ValueError, match=r"differs from the model.*nan"):
        export_saved_model(encoder, tmp_path / "module")
    assert not os.listdir(tmp_path)


# --- Mistakes ---------------------------------------------------------------
def test_rejects(tmp_path):
    path = tmp_path / "module"
    encoder = encoder_of()
    cases = [
        (TypeError, {"model": "encoder"}, "model='encoder'"),
        (TypeError, {"preprocessing": 224}, "preprocessing=224"),
        (
            ValueError,
            {"preprocessing": encoder},
            "make it a part of the encoder",
        ),
        (ValueError, {"image_shape": (8, 8)}, "image_shape=(8, 8)"),
        (ValueError, {"path": "gs://bucket/module"}, "a local disk"),
        (ValueError, {"path": __file__}, "a file"),
        (FileNotFoundError, {"results": tmp_path / "none.json"}, "none.json"),
        (
            ValueError,
            {"model": keras.Model(encoder.inputs, encoder.layers[0].output)},
            "GlobalAveragePooling2D()",
        ),
    ]
    for error, arguments, message in cases:
        arguments = {"model": encoder, "path": path, **arguments}
        with pytest.raises(error, match=re.escape(message)):
            export_saved_model(**arguments)
    assert not os.listdir(tmp_path)


# --- Processes of their own -------------------------------------------------
def run(code, tmp_path, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "module")],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(simclr_keras.__file__).parents[1],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


MIRRORED = """
import sys
import keras, numpy as np, simclr_keras, tensorflow as tf

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        simclr_keras.ProjectionHead(4),
        simclr_keras.SimCLRAugmentation(8, 8, blur=False),
    )
images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), "uint8")
for _ in range(3):  # moves the statistics
    strategy.run(lambda: encoder(images / np.float32(255), training=True))
with strategy.scope():
    try:
        simclr_keras.export_saved_model(model, sys.argv[1])
    except ValueError as error:
        assert "outside of `strategy.scope()`" in str(error)
    else:
        raise AssertionError
expected = model(images)
before = [v.numpy() for v in model.variables]
simclr_keras.export_saved_model(model, sys.argv[1])
assert all(map(np.array_equal, before, [v.numpy() for v in model.variables]))
assert encoder.layers[1].synchronized
module = tf.saved_model.load(sys.argv[1])
np.testing.assert_allclose(module(images), expected, rtol=1e-5, atol=1e-5)
for copy, weight in zip(module.variables, encoder.weights):
    np.testing.assert_array_equal(copy, weight.numpy())
"""


@pytest.mark.slow
def test_model_under_a_strategy(tmp_path):
    run(MIRRORED, tmp_path)


def test_other_backends_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for export in (
        export_saved_model,
        simclr_keras.export.export_onnx,
        simclr_keras.export.export_litert,
    ):
        with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
            export(encoder_of(), tmp_path / "module")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_imported_on_other_backends(backend, tmp_path):
    pytest.importorskip(backend)
    code = "import simclr_keras; print(simclr_keras.export_saved_model)"
    run(code, tmp_path, KERAS_BACKEND=backend)
