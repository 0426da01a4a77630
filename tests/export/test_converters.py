import importlib.util
import os

import keras
import numpy as np
import pytest

from simclr_keras.encoders import ResNet18
from simclr_keras.export import converters, export_litert, export_onnx
from tests import checks
from tests.export.models import random_images, scramble, tiny_encoder

needs_onnx = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("tf2onnx", "onnxruntime")
    ),
    reason="tf2onnx or onnxruntime not installed",
)
EXPORTS = [
    pytest.param(export_onnx, "encoder.onnx", marks=needs_onnx),
    (export_litert, "encoder.tflite"),
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


def test_litert_takes_every_batch(tmp_path):
    tf = pytest.importorskip("tensorflow")
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


@pytest.mark.parametrize(("export", "name"), EXPORTS)
def test_subclassed_encoder(export, name, tmp_path):
    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3)

        def call(self, images, training=None):
            return keras.ops.mean(self.conv(images), axis=(1, 2))

    encoder = Encoder()
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


def test_folder_that_cannot_be_made_is_found_first(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    encoder = tiny_encoder((8, 8, 3))
    monkeypatch.setattr(encoder, "export", None)  # is not called
    with pytest.raises(OSError, match="file"):
        export_litert(encoder, tmp_path / "file" / "encoder.tflite")


def test_copy_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    def fill_the_disk(source, target):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    path = tmp_path / "encoder.tflite"
    path.write_text("mine")
    monkeypatch.setattr(converters.shutil, "copyfile", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        export_litert(tiny_encoder((8, 8, 3)), path)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("export", "name"), EXPORTS)
def test_a_layer_is_no_model(export, name, tmp_path):
    class Encoder(keras.layers.Layer):
        def call(self, images):
            return keras.ops.mean(images, axis=(1, 2))

    encoder = Encoder()
    encoder(np.zeros((2, 8, 8, 3), "float32"))
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        export(encoder, tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("export", "name"), EXPORTS)
def test_rejects(export, name, tmp_path):
    with pytest.raises(TypeError, match="encoder='encoder'"):
        export("encoder", tmp_path / name)
    with checks.dtype_policy("mixed_bfloat16"):
        encoder = tiny_encoder((8, 8, 3))
    with pytest.raises(ValueError, match="must compute in float32"):
        export(encoder, tmp_path / name)


def test_missing_package(tmp_path, monkeypatch):
    def find_nothing(name):
        raise ImportError(name)

    monkeypatch.setattr(converters.importlib, "import_module", find_nothing)
    with pytest.raises(ImportError, match=r"pip install simclr_keras\[onnx\]"):
        export_onnx(tiny_encoder((8, 8, 3)), tmp_path / "encoder.onnx")
