"""Export to ONNX and LiteRT (TFLite) files, by the converters of Keras.

The files hold inference only, from images to representations. Each is run and
compared with the model before its function returns.
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
from simclr_keras.optional_imports import import_optional
from simclr_keras.write_aside import write_aside

# float32 in other kernels, as a fraction of the largest output.
_TOLERANCE = 1e-4
_BATCH_SIZES = (1, 3)


def export_onnx(
    model, path, opset_version=17, preprocessing=True, image_shape=None
):
    """Exports an encoder as an ONNX file, for inference.

    The file has one input, `images` (B, H, W, C), float32 in [0, 1], and one
    output, the representations (B, F), float32. A file of a `SimCLRModel`
    crops and resizes images as the model does.

    Args:
        model: `SimCLRModel`, whose encoder is exported, or an encoder alone: a
            built layer from images (B, H, W, C) in [0, 1] to representations
            (B, F). All its layers must compute in float32.
        path: String or `os.PathLike`, the file to write. An existing file is
            replaced; a missing folder is created.
        opset_version: Integer, the ONNX operator set. Defaults to 17.
        preprocessing: Boolean or layer: what the file does to images before
            the encoder, as in `export_saved_model`. Defaults to True, what the
            model does.
        image_shape: Tuple (H, W, C), the shape of the images that the encoder
            takes, as in `export_saved_model`. Defaults to None.

    Returns:
        The path, a string.

    Raises:
        ImportError: If `tf2onnx` or `onnxruntime`, with which the file is
            compared, is not installed.
        TypeError: If `model` or `preprocessing` is not a layer.
        ValueError: As in `export_saved_model`, or if the encoder computes in
            16 bits. A failed export leaves `path` unchanged.
        RuntimeError: If the Keras backend is not TensorFlow.

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
    """Exports an encoder as a LiteRT (TFLite) file, for inference.

    The file has one input, images (B, H, W, C), float32 in [0, 1], and one
    output, the representations (B, F), float32. The batch size is set by
    resizing the input tensor before tensors are allocated. LiteRT cannot choose
    by size whether to crop an image, so H and W are fixed: see `image_size`.

    Args:
        model: `SimCLRModel`, whose encoder is exported, or an encoder alone: a
            built layer from images (B, H, W, C) in [0, 1] to representations
            (B, F). All its layers must compute in float32.
        path: String or `os.PathLike`, the file to write. An existing file is
            replaced; a missing folder is created.
        preprocessing: Boolean or layer: what the file does to images before
            the encoder, as in `export_saved_model`. Defaults to True, what the
            model does.
        image_shape: Tuple (H, W, C), the shape of the images that the encoder
            takes, as in `export_saved_model`. Defaults to None.
        image_size: Pair (H, W), the size of the images that the file takes.
            Defaults to None, the size of the encoder's images, which
            `preprocessing=True` does not crop; it may stay open if the encoder
            takes any size.

    Returns:
        The path, a string.

    Raises:
        TypeError: If `model` or `preprocessing` is not a layer.
        ValueError: As in `export_saved_model`, or if the encoder computes in
            16 bits. A failed export leaves `path` unchanged.
        ImportError: If Keras is older than 3.13, which does not write LiteRT.
        RuntimeError: If the Keras backend is not TensorFlow.

    Example:
        simclr_keras.export.export_litert(model, "encoder.tflite")
    """
    check_backend("export_litert")
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 13):
        raise ImportError(
            "`export_litert` needs Keras 3.13 or later. Received: Keras "
            f"{keras.__version__}. Install a later one with "
            "pip install --upgrade keras."
        )
    # TensorFlow's own interpreter is deprecated, but serves those who have not
    # installed the package that replaces it.
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
    size = tuple(image_size or parts.encoder_shape[:2])
    _check_image_size(parts, size)
    parts = parts._replace(
        image_shape=(*size, parts.image_shape[-1]), crops=False
    )
    return _export(parts, path, "litert", ".tflite", run)


def _check_image_size(parts, size):
    """Raises unless `size` is that of images which the parts take."""
    taken = parts.image_shape[:2]
    if len(size) != 2 or any(n not in (None, m) for n, m in zip(taken, size)):
        raise ValueError(
            "`image_size` must be a pair (H, W). Without preprocessing it must "
            f"be the size that the encoder takes, {taken}. Received: "
            f"image_size={size!r}."
        )


class _Inference(keras.Model):
    """Images to representations, with the preprocessing."""

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
    """Converts and compares, and only then moves the file to its path."""
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
            # Keras only exports a model that has been called.
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
