"""A SavedModel that TF Hub, TF Serving and every Keras can take."""

import json
import os
import shutil
import uuid

import keras

from simclr_keras.export import (
    arguments,
    comparison,
    model_card,
    reusable_module,
)
from simclr_keras.model import SimCLRModel

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
    arguments.check_backend("export_saved_model")
    target = _check_path(path, overwrite)
    arguments.check_model("model", model)
    encoder, head = model, None
    if isinstance(model, SimCLRModel):
        encoder = model.encoder
        head = model.projection_head if include_head else None
    _check_views(model, preprocessing, image_shape)
    image_shape = arguments.find_image_shape(encoder, image_shape)
    prepare, accepted, views = _preprocessing(model, preprocessing, image_shape)
    results, recipe = _read_json(results), _read_json(recipe)
    # Beside the target, so that it gets there in one move.
    partial = f"{target}.{uuid.uuid4().hex}.partial"
    os.makedirs(partial)
    try:
        configuration = os.path.join(partial, "encoder.json")
        _write(configuration, model_card.configuration(encoder, head, accepted))
        parts = [part for part in (encoder, head) if part is not None]
        # Functions are traced both while they are built and while saved. And
        # what they are compared with must take its variance in the same way:
        # over replicas it is a difference of squares, which rounds otherwise.
        with reusable_module.unsynchronized(*parts):
            module, signatures, shapes = reusable_module.build_module(
                encoder, head, prepare, accepted
            )
            module.configuration = tf.saved_model.Asset(configuration)
            tf.saved_model.save(module, partial, signatures)
            os.remove(configuration)  # The assets hold a copy.
            difference = comparison.compare(
                partial, encoder, head, prepare, accepted, views
            )
        _write(
            os.path.join(partial, "README.md"),
            model_card.model_card(
                os.path.basename(target),
                encoder,
                shapes,
                accepted,
                difference,
                results,
                recipe,
            ),
        )
        _replace(target, partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return os.fspath(path)


def _check_path(path, overwrite):
    """The absolute path, once it is known that it may be written."""
    name = os.fspath(path)
    if "://" in name:
        raise ValueError(
            "`path` must be a folder on a local disk; copy it from there. "
            f"Received: path={name!r}."
        )
    target = os.path.realpath(name)
    if os.path.exists(target) and not os.path.isdir(target):
        raise ValueError(
            f"`path` must be a folder. Received: path={name!r}, a file."
        )
    if os.path.isdir(target) and os.listdir(target) and not overwrite:
        raise ValueError(
            "`path` must be a new or empty folder. Received: "
            f"path={name!r}, which holds {len(os.listdir(target))} entries; "
            "pass `overwrite=True` to replace the whole folder."
        )
    return target


def _check_views(model, preprocessing, image_shape):
    """Raises if a shape is given that the model's cropping rules out."""
    if preprocessing is not True or not isinstance(model, SimCLRModel):
        return
    layer = model.evaluation_preprocessing
    if layer is None or image_shape is None:
        return
    size = layer.height, layer.width
    if any(n not in (None, m) for n, m in zip(image_shape, size)):
        raise ValueError(
            "`image_shape` must have the height and width of the model's "
            f"views, {size}, to which `preprocessing=True` crops and resizes "
            f"every image. Received: image_shape={image_shape!r}; leave it "
            "out, or pass `preprocessing=False` or a layer."
        )


def _preprocessing(model, preprocessing, image_shape):
    """What is done to images, and which those are.

    Returns:
        The function; the shape (H, W, C) of the images that it takes; and the
        height and width of those that it leaves alone while it changes others,
        or None if it makes no such difference.
    """
    any_shape = (None, None, image_shape[-1])
    if isinstance(preprocessing, keras.layers.Layer):
        if preprocessing.variables:
            raise ValueError(
                "`preprocessing` must be a layer without weights. Received: "
                f"preprocessing={preprocessing!r}, which has "
                f"{len(preprocessing.variables)}; make it a part of the "
                "encoder."
            )
        return _then_shape(preprocessing, image_shape), any_shape, None
    if not isinstance(preprocessing, bool):
        raise TypeError(
            "`preprocessing` must be a boolean or a keras.layers.Layer. "
            f"Received: preprocessing={preprocessing!r}."
        )
    layer = getattr(model, "evaluation_preprocessing", None)
    if not preprocessing or layer is None:
        return lambda images: images, image_shape, None
    low, high = model.value_range
    size = layer.height, layer.width

    def crop(images):
        return (layer(images * (high - low) + low) - low) / (high - low)

    def crop_others(images):
        return tf.cond(
            tf.reduce_all(tf.shape(images)[1:3] == size),
            lambda: images,
            lambda: crop(images),
        )

    shape = *size, image_shape[-1]
    return _then_shape(crop_others, shape), any_shape, size


def _then_shape(function, image_shape):
    """The function, with what is known of its result."""
    return lambda images: tf.ensure_shape(
        tf.cast(function(images), tf.float32), (None, *image_shape)
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


def _replace(target, folder):
    """Puts a folder in the place of another, which may be there or not."""
    if not os.path.isdir(target):
        os.rename(folder, target)
        return
    old = f"{target}.{uuid.uuid4().hex}.old"
    os.rename(target, old)
    try:
        os.rename(folder, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old)
