"""Export to a SavedModel for TF Hub, TF Serving and Keras."""

import json
import os
import re

import keras

from simclr_keras.export import comparison, model_card, reusable_module
from simclr_keras.export.parts import check_backend, find_parts
from simclr_keras.write_aside import write_aside

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

# What TensorFlow and this module write into the folder, and what macOS adds.
_WRITTEN = re.compile(
    r"(saved_model|fingerprint)\.pb|README\.md|assets/encoder\.json"
    r"|variables/variables\..*|(.*/)?\.DS_Store"
)


def export_saved_model(
    model,
    path,
    include_head=True,
    preprocessing=True,
    image_shape=None,
    results=None,
    recipe=None,
    overwrite=False,
):
    """Exports an encoder as a SavedModel for TF Hub, TF Serving and Keras.

    The folder follows TF Hub's interfaces for reusable SavedModels and for
    image feature vectors. Before the function returns, it loads what it has
    written and compares it with the model, in inference and training mode.

    Args:
        model: `SimCLRModel`, or an encoder alone: a built `keras.Model` or
            layer from images (B, H, W, C) in [0, 1] to representations (B, F).
        path: String or `os.PathLike`, the folder to write, on a local disk.
        include_head: Whether to include a `SimCLRModel`'s projection head.
            Defaults to True.
        preprocessing: What the exported module does to images before the
            encoder. If True, what the model does: a `SimCLRModel` crops and
            resizes images that do not have the size of its views; an encoder
            alone takes images as they are. If False, nothing. Or a layer
            without weights that is applied to all images, floats in [0, 1],
            such as `CenterCropAndResize(224, 224, value_range=(0, 1))` or
            `keras.layers.Resizing(224, 224)`. Defaults to True.
        image_shape: Tuple (H, W, C), the shape of the images that the encoder
            takes; H and W may be None. For a `SimCLRModel` that crops and
            resizes, H and W are those of its views. Defaults to None, the
            shape that the encoder was built on.
        results: Dictionary of the model's results for the model card, or the
            path of a JSON file with them, such as a run's `results.json`.
            Defaults to None.
        recipe: Dictionary of how the model was trained, or the path of a JSON
            file with it, such as a run's `config.json`. Defaults to None.
        overwrite: Whether to replace a folder that holds an earlier export
            and nothing else. Defaults to False.

    Returns:
        The path, a string.

    The folder is loaded with `module = hub.load(path)` or
    `tf.saved_model.load(path)`. Images are floats in [0, 1] (float32, float64
    or float16) or uint8. Python lists are always taken as floats: convert
    lists of pixels in [0, 255] to a uint8 array first. The module has:

    - `module(images, training=False)`: representations (B, F), float32. With
      `training=True`, batch norm uses the batch's statistics and updates its
      moving statistics.
    - `module.endpoints(images, training=False)`: a dictionary with
      `"representation"`, `"projection"` if there is a head, and the encoder's
      `endpoints` if it has any.
    - `module.variables`, `module.trainable_variables` (without those of frozen
      layers) and `module.regularization_losses` of the encoder.
    - `module.projection_head(representations, training=False)`, with the same
      three lists for the head.
    - `module.serve(images)` and `module.train(images)`, for
      `keras.layers.TFSMLayer(path, "serve", "train")`.
    - Signatures from float32 `images` to dictionaries: `representation` (also
      `serving_default`), `projection` and `endpoints`.

    The folder also holds a model card, `README.md`, and the Keras
    configuration, `assets/encoder.json`.

    Batch norm that was synchronized over replicas uses the statistics of its
    own replica when the module is fine-tuned.

    Raises:
        TypeError: If `model` or `preprocessing` is not a layer.
        ValueError: If the model is not built, if its images or representations
            do not have the shapes above, if `image_shape` is unknown or is not
            the size that images are cropped to, if the folder is not empty, if
            called inside a strategy's scope, or if the exported module differs
            from the model. A failed export leaves `path` unchanged.
        RuntimeError: If the Keras backend is not TensorFlow.

    Example:
        >>> import os, tempfile
        >>> import simclr_keras, tensorflow as tf
        >>> encoder = simclr_keras.encoders.ResNet18(
        ...     width_multiplier=1 / 16, stem="cifar"
        ... )
        >>> path = os.path.join(tempfile.mkdtemp(), "hub_module")
        >>> path = simclr_keras.export_saved_model(encoder, path)
        >>> module = tf.saved_model.load(path)
        >>> module(tf.zeros((2, 32, 48, 3))).shape.as_list()
        [2, 32]

    Reference:
        - https://www.tensorflow.org/hub/reusable_saved_models
        - https://www.tensorflow.org/hub/common_saved_model_apis/images
    """
    check_backend("export_saved_model")
    _check_path(path, overwrite)
    parts = find_parts(model, include_head, preprocessing, image_shape)
    results, recipe = _read_json(results), _read_json(recipe)
    with write_aside(path) as folder:
        os.makedirs(folder)
        configuration = os.path.join(folder, "encoder.json")
        _write(configuration, model_card.configuration(parts))
        # Saving traces too. And the model must compute its variances in the
        # same way for the comparison: over replicas they are a difference of
        # squares, which rounds differently.
        with reusable_module.unsynchronized(*parts.layers()):
            module, signatures, shapes = reusable_module.build_module(parts)
            module.configuration = tf.saved_model.Asset(configuration)
            tf.saved_model.save(module, folder, signatures)
            os.remove(configuration)  # The assets hold a copy.
            difference = comparison.compare(folder, parts)
        title = os.path.basename(os.path.realpath(path))
        card = model_card.model_card(
            title, parts, shapes, difference, results, recipe
        )
        _write(os.path.join(folder, "README.md"), card)
    return os.fspath(path)


def _check_path(path, overwrite):
    """Raises unless a folder can be written to `path`."""
    name = os.fspath(path)
    if "://" in name:
        raise ValueError(
            "`path` must be a folder on a local disk; copy the folder from "
            "there. "
            f"Received: path={name!r}."
        )
    if os.path.exists(name) and not os.path.isdir(name):
        raise ValueError(
            f"`path` must be a folder. Received: path={name!r}, a file."
        )
    if os.path.isdir(name) and os.listdir(name) and not overwrite:
        raise ValueError(
            "`path` must be a new or empty folder. Received: "
            f"path={name!r}, which holds {len(os.listdir(name))} entries; "
            "pass `overwrite=True` to replace the whole folder."
        )
    files = [
        os.path.relpath(os.path.join(folder, file), name).replace(os.sep, "/")
        for folder, _, inside in os.walk(name)
        for file in inside
    ]
    others = [file for file in sorted(files) if not _WRITTEN.fullmatch(file)]
    if files and (others or "saved_model.pb" not in files):
        raise ValueError(
            "`overwrite=True` replaces a folder that holds an exported module "
            f"and nothing else. Received: path={name!r}, which holds "
            f"{(others or files)[:5]}; choose another folder or move them."
        )


def _read_json(source):
    """Returns a dictionary given as itself, as a JSON file, or as None."""
    if source is None or isinstance(source, dict):
        return source or {}
    with open(source, encoding="utf-8") as file:
        return json.load(file)


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
