"""ONNX and LiteRT (TFLite) files, by the converters that Keras calls.

Both hold inference alone: images (B, H, W, C), float32 in [0, 1], to
representations (B, F). What was written is run and compared before a function
returns.
"""

import importlib
import os

import keras

from simclr_keras.export.comparison import check_same, sample_images
from simclr_keras.export.parts import (
    check_backend,
    computes_in_float32,
    find_parts,
)
from simclr_keras.export.write_aside import write_aside
from simclr_keras.optional_imports import import_optional

# Float32 in other kernels, as a share of the largest output.
_TOLERANCE = 1e-4
_BATCH_SIZES = (1, 3)


def export_onnx(
    model, path, opset_version=17, preprocessing=True, image_shape=None
):
    """Writes an encoder as an ONNX file.

    The file has one input, `images`: (B, H, W, C), float32 in [0, 1]. Its one
    output is the representations (B, F), float32, in inference mode.

    Args:
        model: `SimCLRModel`, of which the encoder is exported, or an encoder
            alone: a built layer, images (B, H, W, C) in [0, 1] to (B, F). All
            its layers compute in float32.
        path: String or `os.PathLike`: the file to write, replaced if it is
            there. Its folder is made if there is none.
        opset_version: Integer, ONNX's version of the operators. Defaults to
            17.
        preprocessing: What happens to images inside, as in
            `export_saved_model`: True is what happens in the model, False is
            nothing, and a layer gets all images. Defaults to True.
        image_shape: Tuple (H, W, C) of what the encoder takes, as in
            `export_saved_model`. Defaults to None.

    Returns:
        The path, a string.

    Raises:
        ImportError: If `onnxruntime`, which compares, or `tf2onnx`, which
            converts, is not installed.
        TypeError: If `model` or `preprocessing` is not a layer.
        ValueError: As in `export_saved_model`, or if the encoder computes in
            16 bits. A failed export leaves the path as it was.
        RuntimeError: If Keras does not run on TensorFlow.

    Example:
        simclr_keras.export.export_onnx(model, "encoder.onnx")
    """
    check_backend("export_onnx")
    packages = [
        import_optional(name, name, "onnx", "`export_onnx`")
        for name in ("tf2onnx", "onnxruntime")
    ]

    def run(path, images):
        session = packages[1].InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
        (spec,) = session.get_inputs()
        return session.run(None, {spec.name: images})[0]

    parts = find_parts(model, False, preprocessing, image_shape)
    return _export(
        parts, path, "onnx", ".onnx", run, opset_version=opset_version
    )


def export_litert(
    model, path, preprocessing=True, image_shape=None, image_size=None
):
    """Writes an encoder as a LiteRT (TFLite) file.

    The file has one input: images (B, H, W, C), float32 in [0, 1]. Its one
    output is the representations (B, F), float32, in inference mode. A reader
    resizes the input tensor to its batch before it allocates; H and W are
    fixed, unless the encoder takes any and nothing comes before it.

    Args:
        model: `SimCLRModel`, of which the encoder is exported, or an encoder
            alone: a built layer, images (B, H, W, C) in [0, 1] to (B, F). All
            its layers compute in float32.
        path: String or `os.PathLike`, ending in ".tflite": the file to write,
            replaced if it is there. Its folder is made if there is none.
        preprocessing: What happens to images inside, as in
            `export_saved_model`: True is what happens in the model, False is
            nothing, and a layer gets all images. Defaults to True.
        image_shape: Tuple (H, W, C) of what the encoder takes, as in
            `export_saved_model`. Defaults to None.
        image_size: Pair (H, W) of the images that the file takes. None is the
            size that the encoder takes, that of the views: images which
            `preprocessing=True` leaves as they are. Defaults to None.

    Returns:
        The path, a string.

    Raises:
        TypeError: If `model` or `preprocessing` is not a layer.
        ValueError: As in `export_saved_model`, or if the encoder computes in
            16 bits. A failed export leaves the path as it was.
        RuntimeError: If Keras does not run on TensorFlow.

    Example:
        simclr_keras.export.export_litert(model, "encoder.tflite")
    """
    check_backend("export_litert")
    # TensorFlow announces that its own interpreter will go; until then it
    # serves those who have not installed the package that takes its place.
    try:
        interpreter = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        interpreter = importlib.import_module("tensorflow").lite

    def run(path, images):
        reader = interpreter.Interpreter(model_path=path)
        (spec,) = reader.get_input_details()
        reader.resize_tensor_input(spec["index"], images.shape)
        reader.allocate_tensors()
        reader.set_tensor(spec["index"], images)
        reader.invoke()
        (spec,) = reader.get_output_details()
        return reader.get_tensor(spec["index"])

    parts = find_parts(model, False, preprocessing, image_shape)
    # LiteRT has no condition on the size of an image.
    size = tuple(image_size or parts.encoder_shape[:2])
    _check_image_size(parts, size)
    parts = parts._replace(
        image_shape=(*size, parts.image_shape[-1]), crops=False
    )
    return _export(parts, path, "litert", ".tflite", run)


def _check_image_size(parts, size):
    """Raises unless `size` is two integers that the parts take."""
    taken = parts.image_shape[:2]
    if len(size) != 2 or any(n not in (None, m) for n, m in zip(taken, size)):
        raise ValueError(
            "`image_size` must be a pair (H, W) of images that the encoder "
            f"takes, {taken}. Received: image_size={size!r}; pass a "
            "`preprocessing` that resizes them."
        )


class _Inference(keras.Model):
    """From images to representations, with what comes before the encoder."""

    def __init__(self, parts):
        super().__init__(name="encoder", dtype="float32")
        self.encoder = parts.encoder
        self.parts = parts

    def call(self, images):
        return self.parts.call(images, training=False)["representation"]


def _sample_images(parts):
    """Batches of float32 images in [0, 1], of more than one size."""
    for batch_size in _BATCH_SIZES:
        for images in sample_images(parts, batch_size):
            yield images.astype("float32") / 255


def _export(parts, path, file_format, suffix, run, **kwargs):
    """Converts, runs what was written, and only then puts it at the path."""
    if not computes_in_float32(parts.encoder):
        raise ValueError(
            "`model` must compute in float32. Received an encoder with layers "
            "that compute in 16 bits; build it with dtype='float32' and copy "
            "the weights by `set_weights`."
        )
    signature = keras.InputSpec(
        dtype="float32", shape=(None, *parts.image_shape), name="images"
    )
    inference = _Inference(parts)
    with write_aside(path, suffix) as written:
        for images in _sample_images(parts):
            expected = inference(images)
            # After the call, without which Keras exports nothing.
            if not os.path.exists(written):
                inference.export(
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
    return os.fspath(path)
