import importlib.util
import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import SimCLRAugmentation, SimCLRModel
from simclr_keras.encoders import ResNet18
from simclr_keras.export import converters, export_litert, export_onnx
from tests import checks
from tests.export.models import (
    RawLayer,
    RawModel,
    random_images,
    scramble,
    tiny_encoder,
)

needs_onnx = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("tf2onnx", "onnxruntime")
    ),
    reason="tf2onnx or onnxruntime not installed",
)
OLD_KERAS = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 13)
needs_litert = pytest.mark.skipif(
    OLD_KERAS, reason="Keras before 3.13 does not write LiteRT"
)
EXPORTS = [
    pytest.param(export_onnx, "encoder.onnx", marks=needs_onnx),
    pytest.param(export_litert, "encoder.tflite", marks=needs_litert),
]


def resnet():
    keras.utils.set_random_seed(0)
    encoder = ResNet18(
        width_multiplier=1 / 16, stem="cifar", input_shape=(None, None, 3)
    )
    scramble(encoder)
    return encoder


@needs_onnx
def test_onnx_takes_every_batch_and_size(tmp_path):
    import onnxruntime

    encoder = resnet()
    path = export_onnx(encoder, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    for shape in ((1, 16, 16, 3), (3, 20, 36, 3)):
        images = random_images(shape) / 255
        (found,) = session.run(None, {"images": images})
        # float32 in other kernels.
        np.testing.assert_allclose(found, encoder(images), rtol=1e-4, atol=1e-5)


@needs_litert
def test_litert_takes_every_batch(tmp_path):
    encoder = tiny_encoder((16, 16, 3))
    path = export_litert(encoder, tmp_path / "encoder.tflite")
    model = tf.lite.Interpreter(path)
    index = model.get_input_details()[0]["index"]
    for batch in (1, 3):
        images = random_images((batch, 16, 16, 3)) / 255
        model.resize_tensor_input(index, images.shape)
        model.allocate_tensors()
        model.set_tensor(index, images)
        model.invoke()
        found = model.get_tensor(model.get_output_details()[0]["index"])
        # float32 in other kernels.
        np.testing.assert_allclose(found, encoder(images), rtol=1e-4, atol=1e-5)


def read_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"images": images})[0]


def read_litert(path, images):
    model = tf.lite.Interpreter(path)
    index = model.get_input_details()[0]["index"]
    model.resize_tensor_input(index, images.shape)
    model.allocate_tensors()
    model.set_tensor(index, images)
    model.invoke()
    return model.get_tensor(model.get_output_details()[0]["index"])


READERS = [
    pytest.param(export_onnx, "encoder.onnx", read_onnx, marks=needs_onnx),
    pytest.param(
        export_litert, "encoder.tflite", read_litert, marks=needs_litert
    ),
]


def cropping_model(value_range):
    return SimCLRModel(
        tiny_encoder((8, 8, 3)),
        augmentation=SimCLRAugmentation(
            8, 8, blur=False, value_range=value_range
        ),
    )


def check_against_predict(model, read, path, shape):
    """A file gives for images in [0, 1] what the model does for its range."""
    low, high = model.value_range
    images = random_images(shape) / 255
    expected = model.predict(images * (high - low) + low, verbose=0)
    # float32 in other kernels.
    np.testing.assert_allclose(
        read(path, images), expected, rtol=1e-4, atol=1e-4
    )


@needs_onnx
@pytest.mark.parametrize(
    "value_range", [pytest.param((0, 255), marks=pytest.mark.slow), (-1, 1)]
)
def test_onnx_of_a_model_crops_as_the_model(value_range, tmp_path):
    model = cropping_model(value_range)
    path = export_onnx(model, tmp_path / "encoder.onnx")
    for shape in ((5, 8, 8, 3), (2, 12, 10, 3)):
        check_against_predict(model, read_onnx, path, shape)


@needs_litert
@pytest.mark.parametrize("value_range", [(0, 255), (-1, 1)])
def test_litert_of_a_model_crops_from_one_size(value_range, tmp_path):
    model = cropping_model(value_range)
    for size in (None, (12, 10)):
        path = export_litert(
            model, tmp_path / "encoder.tflite", image_size=size
        )
        check_against_predict(
            model, read_litert, path, (2, *(size or (8, 8)), 3)
        )


@pytest.mark.parametrize(("export", "name", "read"), READERS)
def test_model_without_its_preprocessing(export, name, read, tmp_path):
    model = cropping_model((0, 255))
    images = random_images((3, 12, 12, 3)) / 255
    layer = keras.layers.Resizing(8, 8)
    kwargs = {"image_size": (12, 12)} if export is export_litert else {}
    path = export(model, tmp_path / name, preprocessing=layer, **kwargs)
    # float32 in other kernels.
    np.testing.assert_allclose(
        read(path, images), model.encoder(layer(images)), rtol=1e-4, atol=1e-4
    )
    path = export(model, tmp_path / name, preprocessing=False)
    np.testing.assert_allclose(
        read(path, images[:, :8, :8]),
        model.encoder(images[:, :8, :8]),
        rtol=1e-4,
        atol=1e-4,
    )


@needs_litert
def test_litert_of_a_size_that_the_encoder_does_not_take(tmp_path):
    with pytest.raises(ValueError, match=r"\(8, 8\).*image_size=\(12, 12\)"):
        export_litert(
            tiny_encoder((8, 8, 3)),
            tmp_path / "encoder.tflite",
            image_size=(12, 12),
        )


@pytest.mark.parametrize(("export", "name"), EXPORTS)
@pytest.mark.parametrize("cls", [RawModel, RawLayer])
def test_subclassed_encoder(cls, export, name, tmp_path):
    encoder = cls()
    with pytest.raises(ValueError, match="not been built"):
        export(encoder, tmp_path / name)
    encoder(np.zeros((2, 8, 8, 3), "float32"))
    assert export(encoder, tmp_path / name) == str(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(("export", "name"), EXPORTS)
def test_a_file_that_differs_is_not_kept(export, name, tmp_path, monkeypatch):
    encoder = tiny_encoder((8, 8, 3))
    check_same = converters.check_same
    monkeypatch.setattr(
        converters,
        "check_same",
        lambda found, *args: check_same(
            {name: 1.001 * value for name, value in found.items()}, *args
        ),
    )
    with pytest.raises(ValueError, match="differs from the model"):
        export(encoder, tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("export", "name"), EXPORTS)
def test_folder_is_made(export, name, tmp_path):
    path = tmp_path / "new" / "folder" / name
    assert export(tiny_encoder((8, 8, 3)), path) == str(path)
    assert os.listdir(path.parent) == [name]


@needs_litert
def test_folder_that_cannot_be_made_is_found_first(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(keras.Model, "export", None)  # is not called
    with pytest.raises(OSError, match="file"):
        export_litert(
            tiny_encoder((8, 8, 3)), tmp_path / "file" / "encoder.tflite"
        )


@pytest.mark.parametrize(("export", "name"), EXPORTS)
def test_rejects(export, name, tmp_path):
    with pytest.raises(TypeError, match="model='encoder'"):
        export("encoder", tmp_path / name)
    with checks.dtype_policy("mixed_bfloat16"):
        encoder = tiny_encoder((8, 8, 3))
    with pytest.raises(ValueError, match="must compute in float32"):
        export(encoder, tmp_path / name)


def test_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install simclr_keras\[onnx\]"):
        export_onnx(tiny_encoder((8, 8, 3)), tmp_path / "encoder.onnx")


@pytest.mark.skipif(not OLD_KERAS, reason="this Keras writes LiteRT")
def test_a_keras_that_does_not_write_litert(tmp_path):
    with pytest.raises(ImportError, match=r"needs Keras 3\.13"):
        export_litert(tiny_encoder((8, 8, 3)), tmp_path / "encoder.tflite")
