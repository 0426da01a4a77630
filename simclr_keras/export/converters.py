"""ONNX and LiteRT (TFLite) files, by the converters that Keras calls.

Both hold inference alone: images (B, H, W, C), float32 in [0, 1], to
representations (B, F). What was written is run and compared before a function
returns.
"""

import importlib
import os
import shutil
import tempfile
import uuid

import keras
import numpy as np

from simclr_keras.export import arguments
from simclr_keras.export.comparison import check_same

# Float32 in other kernels, as a share of the largest output.
_TOLERANCE = 1e-4
_TEST_BATCHES = (1, 3)
_TEST_SIZE = 96  # pixels, where the encoder takes any


def export_onnx(encoder, path, opset_version=17):
    """Writes an encoder as an ONNX file.

    Args:
        encoder: Built `keras.Model`, float32, images (B, H, W, C) in
            [0, 1] to (B, F). Heights and widths that are None stay open.
        path: String or `os.PathLike`: the file to write, replaced if it is
            there. Its folder is made if there is none.
        opset_version: Integer, ONNX's version of the operators. Defaults to
            17.

    Returns:
        The path, a string.

    Raises:
        ImportError: If `onnxruntime`, which compares, or `tf2onnx`, which
            converts, is not installed.
        TypeError: If `encoder` is not a `keras.Model`.
        ValueError: If the encoder has no variables yet, computes in 16 bits,
            or differs from what was written. A failed export leaves the path
            as it was.
        RuntimeError: If Keras does not run on TensorFlow.

    Example:
        simclr_keras.export.export_onnx(encoder, "encoder.onnx")
    """
    arguments.check_backend("export_onnx")
    onnxruntime = _import("onnxruntime", "onnx")
    _import("tf2onnx", "onnx")

    def run(path, images):
        session = onnxruntime.InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
        (spec,) = session.get_inputs()
        return session.run(None, {spec.name: images})[0]

    return _export(
        encoder, path, "onnx", ".onnx", run, opset_version=opset_version
    )


def export_litert(encoder, path):
    """Writes an encoder as a LiteRT (TFLite) file.

    Args:
        encoder: Built `keras.Model`, float32, images (B, H, W, C) in
            [0, 1] to (B, F). The batch stays open; a reader resizes the
            input tensor.
        path: String or `os.PathLike`, ending in ".tflite": the file to write,
            replaced if it is there. Its folder is made if there is none.

    Returns:
        The path, a string.

    Raises:
        TypeError: If `encoder` is not a `keras.Model`.
        ValueError: If the encoder has no variables yet, computes in 16 bits,
            or differs from what was written. A failed export leaves the path
            as it was.
        RuntimeError: If Keras does not run on TensorFlow.

    Example:
        simclr_keras.export.export_litert(encoder, "encoder.tflite")
    """
    arguments.check_backend("export_litert")
    # TensorFlow announces that its own interpreter will go; until then it
    # serves those who have not installed the package that takes its place.
    try:
        interpreter = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        interpreter = importlib.import_module("tensorflow").lite

    def run(path, images):
        model = interpreter.Interpreter(model_path=path)
        (spec,) = model.get_input_details()
        model.resize_tensor_input(spec["index"], images.shape)
        model.allocate_tensors()
        model.set_tensor(spec["index"], images)
        model.invoke()
        (spec,) = model.get_output_details()
        return model.get_tensor(spec["index"])

    return _export(encoder, path, "litert", ".tflite", run)


def _import(name, extra):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This export needs the package {name!r}: `pip install "
            f"simclr_keras[{extra}]`."
        ) from error


def _export(encoder, path, file_format, suffix, run, **kwargs):
    """Converts, runs what was written, and only then puts it at the path."""
    path = os.fspath(path)
    arguments.check_model("encoder", encoder)
    if not isinstance(encoder, keras.Model):
        raise TypeError(
            "`encoder` must be a keras.Model, whose `export` is called; "
            "`keras.Sequential([keras.Input(image_shape), layer])` makes one "
            f"of a layer. Received: encoder={encoder!r} of type "
            f"{type(encoder).__name__}."
        )
    if not arguments.is_float32(encoder):
        raise ValueError(
            "`encoder` must compute in float32. Received an encoder with "
            "layers that compute in 16 bits; build it with dtype='float32' "
            "and copy the weights by `set_weights`."
        )
    image_shape = arguments.find_image_shape(encoder, None)
    signature = keras.InputSpec(
        dtype="float32", shape=(None, *image_shape), name="images"
    )
    shape = [size or _TEST_SIZE for size in image_shape]
    rng = np.random.default_rng(0)
    # A folder that cannot be made is better known before the conversion.
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        written = os.path.join(folder, f"encoder{suffix}")
        for batch in _TEST_BATCHES:
            images = rng.uniform(size=(batch, *shape)).astype("float32")
            expected = encoder(images, training=False)
            # After the call, without which Keras exports nothing.
            if not os.path.exists(written):
                encoder.export(
                    written,
                    format=file_format,
                    input_signature=[signature],
                    verbose=False,
                    **kwargs,
                )
            check_same(
                {"representation": run(written, images)},
                {"representation": expected},
                _TOLERANCE,
            )
        # Beside the target, so that it gets there in one move.
        partial = f"{path}.{uuid.uuid4().hex}.partial"
        try:
            shutil.copyfile(written, partial)
            os.replace(partial, path)
        except BaseException:
            if os.path.exists(partial):
                os.remove(partial)
            raise
    return path
