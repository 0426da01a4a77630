"""A SavedModel that TF Hub, TF Serving and every Keras can take."""

import json
import os

import keras

from simclr_keras.export import comparison, model_card, reusable_module
from simclr_keras.export.parts import check_backend, find_parts
from simclr_keras.export.write_aside import write_aside

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


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
    """Writes an encoder as a SavedModel, for TF Hub and for others.

    The folder follows TF Hub's interfaces of reusable SavedModels and of image
    feature vectors. Before the function returns it loads what it has written
    and compares it with the model, in inference and in training mode.

    Args:
        model: `SimCLRModel`, or an encoder alone: a built `keras.Model` or
            layer, images (B, H, W, C) in [0, 1] to (B, F).
        path: String or `os.PathLike`: the folder to write, on a local disk.
        include_head: Whether a `SimCLRModel`'s projection head goes with it.
            Defaults to True.
        preprocessing: What happens to images inside. True is what happens in
            the model: a `SimCLRModel` crops and resizes images of another size
            than its views, an encoder takes them as they are. False is
            nothing. A layer without weights, such as
            `CenterCropAndResize(224, 224, value_range=(0, 1))` or
            `keras.layers.Resizing(224, 224)`, gets all images, as floats in
            [0, 1]. Defaults to True.
        image_shape: Tuple (H, W, C), H and W possibly None: what the encoder
            takes. None is what the encoder says. With a `SimCLRModel` that
            crops and resizes, H and W are those of its views. Defaults to
            None.
        results: Dictionary of what the model achieved, or the path of a JSON
            file of it, such as a run's `results.json`, for the model card.
            Defaults to None.
        recipe: Dictionary of how it was trained, or the path of a JSON file of
            it, such as a run's `config.json`. Defaults to None.
        overwrite: Whether to replace a folder that is not empty. Defaults to
            False.

    Returns:
        The path, a string.

    What the folder offers, after `module = hub.load(path)` or
    `tf.saved_model.load(path)`; images are floats in [0, 1] (float32, float64
    or float16) or uint8. Lists of Python's numbers count as floats, pixels in
    [0, 255] too, so those have to be made uint8 arrays first:

    - `module(images, training=False)`: representations (B, F), float32. With
      `training=True` batch norm uses the batch's statistics and updates the
      moving ones.
    - `module.endpoints(images, training=False)`: a dictionary of
      `"representation"`, `"projection"` with a head, and the encoder's
      `endpoints` if it has any.
    - `module.variables`, `module.trainable_variables` (without those of frozen
      layers) and `module.regularization_losses`, of the encoder.
    - `module.projection_head(representations, training=False)`, with the same
      three lists of its own.
    - `module.serve(images)` and `module.train(images)`, for
      `keras.layers.TFSMLayer(path, "serve", "train")`.
    - Signatures from float32 `images` to dictionaries: `representation`, which
      is `serving_default` too, `projection` and `endpoints`.
    - `README.md`, a model card, and `assets/encoder.json`, the configuration
      in Keras's terms.

    Batch norm that was synchronized over replicas has the statistics of its
    own replica when the module is trained on.

    Raises:
        TypeError: If `model` or `preprocessing` is not a layer.
        ValueError: If the model has no variables yet, if its input shape or its
            representations are not of the shapes above, if `image_shape` is
            not of the size that images are cropped to, if the folder holds
            something, if called inside a strategy's scope, or if what was
            written differs from the model. A failed export leaves the path as
            it was.
        RuntimeError: If Keras does not run on TensorFlow.

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
        # While it is traced, and while it is saved, which traces too. And what
        # it is compared with must take its variance in the same way: over
        # replicas it is a difference of squares, which rounds otherwise.
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
    """Raises unless a folder may be written there."""
    name = os.fspath(path)
    if "://" in name:
        raise ValueError(
            "`path` must be a folder on a local disk; copy it from there. "
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


def _read_json(source):
    """A dictionary, from itself or from a file; None is empty."""
    if source is None or isinstance(source, dict):
        return source or {}
    with open(source, encoding="utf-8") as file:
        return json.load(file)


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
