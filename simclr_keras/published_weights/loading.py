"""Loads published SimCLR weights into the components of this library."""

import operator
import os
import re
import warnings
from typing import NamedTuple

import keras
import numpy as np

from simclr_keras.encoders import ResNet
from simclr_keras.projection_head import ProjectionHead
from simclr_keras.published_weights import keys as published_keys
from simclr_keras.published_weights.config import (
    infer_encoder,
    infer_head,
    most_common,
)
from simclr_keras.published_weights.keys import SAVED_MODEL
from simclr_keras.published_weights.variables_file import (
    open_published,
    try_read,
)


class PublishedWeights(NamedTuple):
    """The result of `load_published_weights`; all parts can be fine-tuned.

    Attributes:
        encoder: `encoders.ResNet`, images in [0, 1] to representations.
        projection_head: `ProjectionHead`, or None where the file has none.
        classifier: `keras.layers.Dense`, representations to logits, or None.
    """

    encoder: ResNet
    projection_head: ProjectionHead | None
    classifier: keras.layers.Dense | None


def load_published_weights(
    path,
    depth=None,
    width_multiplier=None,
    sk_ratio=None,
    se_ratio=None,
    stem=None,
    input_shape=None,
    num_projection_layers=None,
    projection_dim=None,
    num_classes=None,
    synchronized=None,
    ignore=(),
):
    """Loads Google's SimCLR and SimCLRv2 weights from a file.

    Nothing that is in the file is run, and no more memory is taken than it can
    fill: files may come from anywhere.

    Each variable is read by its key, and each key must be used. Keys that are
    missing, left over, damaged or of a wrong shape raise an error that lists
    them all. Only training state is ignored: the slots and variables of the
    optimizer, `global_step`, `save_counter` and TensorFlow's object graph.

    The configuration is inferred from the keys and shapes, except for the
    arguments that are given, with which the file must agree. A file does not
    determine the ratio of selective kernels if all have their minimum width
    (0.0625 is assumed; other ratios give the same network), nor, in a
    SavedModel of depth 18 or 34 with `stem="cifar"`, whether `sk_ratio` is
    above 0 (assumed not to be).

    A SavedModel may lack the moving statistics of the projection head. A
    warning then lists them, and the head starts with a mean of 0 and a
    variance of 1, which is right for training but not for inference.

    Args:
        path: String or `os.PathLike`. A TF2 checkpoint, given by its prefix
            (as in `tf.train.load_checkpoint`), its `.index` file or its folder
            (the latest checkpoint is loaded); or the folder of a SavedModel.
        depth, width_multiplier, sk_ratio, se_ratio, stem: Arguments of
            `encoders.ResNet`. Default to None, as in the file.
        input_shape: Tuple (H, W, C), the shape of the images. Defaults to None,
            (None, None, C) with the channels in the file.
        num_projection_layers, projection_dim: `num_layers` and `output_dim` of
            the `ProjectionHead`. Default to None, as in the file.
        num_classes: Positive integer, the outputs of the classifier. Defaults
            to None, as in the file.
        synchronized: Whether batch norm is synchronized over the replicas of
            `tf.distribute`; see `encoders.ResNet`. Defaults to None.
        ignore: Regular expression, or list of them. Keys that contain a match
            are ignored: `"projection_head"` leaves out the head. Defaults to
            ().

    Returns:
        `PublishedWeights`, a named tuple `(encoder, projection_head,
        classifier)`. The classifier was trained next to the pretraining on
        representations h. (In a network that was fine-tuned from a layer of
        the projection head, it takes the output of that layer; the file does
        not tell which.)

    Raises:
        FileNotFoundError: If there is no checkpoint or SavedModel at `path`.
        ValueError: If the file cannot be read, holds another network, or does
            not agree with the arguments. The message lists the keys.
        TypeError: If an argument has the wrong type.
        ImportError: If TensorFlow, which reads the file, is not installed.
            Keras may run on another backend.

    Example:
        >>> import simclr_keras
        >>> path = "tests/fixtures/published_weights/resnet18_cifar/checkpoint"
        >>> weights = simclr_keras.load_published_weights(path)
        >>> weights.encoder.depth, weights.encoder.stem
        (18, 'cifar')
        >>> weights.projection_head.num_layers, weights.classifier.units
        (2, 10)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709)
        - [Chen et al., 2020](https://arxiv.org/abs/2006.10029) (SimCLRv2)
    """
    if isinstance(ignore, str):
        ignore = [ignore]
    file = open_published(
        os.fspath(path), [re.compile(pattern) for pattern in ignore]
    )
    given = {
        "depth": depth,
        "width_multiplier": width_multiplier,
        "sk_ratio": sk_ratio,
        "se_ratio": se_ratio,
        "stem": stem,
        "input_shape": input_shape,
    }
    given = {k: v for k, v in given.items() if v is not None}
    config, keys = infer_encoder(file, given)
    if width_multiplier is None:
        # Of the last group's 3x3 kernels each has these.
        filters = 512 * config["width_multiplier"]
        _check_size(file, "encoder", 9 * filters * filters)
    try:
        encoder = ResNet(**config, synchronized=synchronized)
    except ValueError as error:
        raise ValueError(f"{file.path!r}: {error}") from error
    features = encoder.output_shape[-1]
    variables = {keys[v.path]: v for v in encoder.variables}

    head = None
    head_root, classifier_root = published_keys.roots(file.format)[1:]
    if file.has(head_root) or num_projection_layers or projection_dim:
        config, keys = infer_head(
            file, features, num_projection_layers, projection_dim
        )
        if num_projection_layers is None and projection_dim is None:
            hidden = config["hidden_dim"] or features
            widths = [features] + [hidden] * (config["num_layers"] - 1)
            widths.append(config["output_dim"])
            num_values = sum(map(operator.mul, widths, widths[1:]))
            _check_size(file, "projection head", num_values)
        head = ProjectionHead(**config, synchronized=synchronized)
        head.build((None, features))
        for layer in head.layers:
            for v in layer.variables:
                variables[keys[f"{layer.name}/{v.name}"]] = v

    classifier = None
    if file.has(classifier_root) or num_classes:
        keys = published_keys.classifier_keys(file.format)
        if num_classes is None:
            shapes = [file.shapes.get(keys[k]) for k in ("bias", "kernel")]
            num_classes = most_common([s[-1] for s in shapes if s]) or 1
            _check_size(file, "classifier", features * num_classes)
        classifier = keras.layers.Dense(
            num_classes, dtype="float32", name="classifier"
        )
        classifier.build((None, features))
        for v in classifier.variables:
            variables[keys[v.name]] = v

    _assign(file, variables, encoder, given)
    return PublishedWeights(encoder, head, classifier)


def _check_size(file, part, num_values):
    """Raises a `ValueError` before more memory is taken than a file can fill.

    Args:
        file: `PublishedFile`.
        part: String, what is about to be made.
        num_values: Number, how many weights it has, or fewer.
    """
    # In float32, or in half of that.
    if 2 * num_values > file.num_bytes:
        raise ValueError(
            f"{file.path!r} must hold all weights of its networks. By its keys "
            f"and shapes, the {part} has {num_values:,.0f} weights or more. "
            f"Received: {file.num_bytes:,} bytes of values. The file may be "
            "damaged, or the arguments are not those of its networks."
        )


def _assign(file, variables, encoder, given):
    """Assigns all variables, or raises an error that lists all problems.

    Args:
        file: `PublishedFile`.
        variables: Dictionary from key to Keras variable.
        encoder: The encoder, for the message.
        given: Dictionary of the arguments that were not inferred.
    """
    missing = [key for key in variables if key not in file.keys]
    unknown = _unknown_statistics(file, missing)
    problems = {
        "Missing": [
            published_keys.full_key(file.format, key)
            for key in missing
            if key not in unknown
        ],
        "Left over": [
            name for key, name in file.keys.items() if key not in variables
        ],
        "Of a wrong shape": [],
        "Damaged": [],
    }
    for key, variable in variables.items():
        if key in missing:
            continue
        name, shape = file.keys[key], tuple(variable.shape)
        if file.shapes[key] != shape:
            problems["Of a wrong shape"].append(
                f"{name}: expected {shape}, received {file.shapes[key]}"
            )
            continue
        value = try_read(file.read, name)
        if isinstance(value, str):
            problems["Damaged"].append(f"{name}: {value}")
        elif value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            problems["Damaged"].append(f"{name}: not floats, {value.dtype}")
        elif not np.isfinite(value.astype("float32")).all():
            problems["Damaged"].append(f"{name}: not all of it is finite")
        else:
            variable.assign(value.astype("float32"))

    # Damage elsewhere in the file is an error too.
    for name in file.ignored:
        value = try_read(file.read, name)
        if isinstance(value, str):
            problems["Damaged"].append(f"{name}: {value}")

    if any(problems.values()):
        raise ValueError(_message(file, encoder, given, problems))
    if unknown:
        warnings.warn(
            f"{file.path!r} lacks the moving statistics of the projection "
            "head, which starts with a mean of 0 and a variance of 1. Train "
            "the head before using its projections for inference. Missing: "
            f"{', '.join(unknown)}.",
            stacklevel=3,
        )


def _unknown_statistics(file, missing):
    """Returns the head's moving statistics if a SavedModel lacks only those.

    Args:
        file: `PublishedFile`.
        missing: List of the keys that the file lacks.
    """
    root = published_keys.roots(file.format)[1]
    statistics = re.compile(rf"{root}.*/moving_(mean|variance)")
    lacks = [key for key in missing if key.startswith(root)]
    if (
        file.format != SAVED_MODEL
        or any(map(statistics.match, file.keys))
        or not all(map(statistics.match, lacks))
    ):
        return []
    return lacks


def _message(file, encoder, given, problems):
    """Lists all problems, key by key."""
    names = "depth", "width_multiplier", "sk_ratio", "se_ratio", "stem"
    config = {name: getattr(encoder, name) for name in names}
    lines = [
        f"{file.path!r} must hold the variables of a ResNet with "
        f"{_show(config)}, and of its heads, each once."
    ]
    if given:
        lines.append(
            f"Given were {_show(given)}. By its keys and shapes, the file has "
            f"{_show(infer_encoder(file, {})[0])}."
        )
    for title, found in problems.items():
        if found:
            lines.append(f"{title} ({len(found)}):")
            lines += [f"    {line}" for line in sorted(found)]
    lines.append(
        "Check the path and the arguments; use `ignore` for keys that are not "
        "to be loaded."
    )
    return "\n".join(lines)


def _show(config):
    return ", ".join(f"{name}={value!r}" for name, value in config.items())
