"""Infers the configuration of a published network from keys and shapes."""

import collections
import itertools
import re

import numpy as np

from simclr_keras.published_weights import keys as published_keys


def infer_encoder(file, given):
    """Infers the arguments of `ResNet`, and the key of each of its variables.

    Args:
        file: `PublishedFile`; only its keys and shapes are used.
        given: Dictionary of the arguments that are known.

    Returns:
        Tuple of a dictionary of arguments and a dictionary from
        `variable.path` to key.
    """
    depths = published_keys.depths()
    if given.get("depth", depths[0]) not in depths:
        raise ValueError(
            f"`depth` must be one of {depths}. Received: "
            f"depth={given['depth']!r}."
        )
    root = published_keys.roots(file.format)[0]
    found = {key for key in file.keys if key.startswith(root)}
    depths = [given["depth"]] if "depth" in given else depths
    has_sk, has_se = (
        [bool(given[name])] if name in given else [False, True]
        for name in ("sk_ratio", "se_ratio")
    )
    # The network whose keys differ least from those of the file, so that
    # damaged files are recognized too.
    best = None
    for depth, sk, se, deep in itertools.product(
        depths, has_sk, has_se, [False, True]
    ):
        stem = given.get("stem")
        if deep != (stem == "imagenet" and sk) if stem else deep and not sk:
            continue
        keys = published_keys.encoder_keys(file.format, depth, sk, se, deep)
        distance = len(found ^ set(keys.values()))
        if best is None or distance < best[0]:
            best = distance, depth, sk, se, deep, keys
    _, depth, sk, se, deep, keys = best

    shapes = {path: file.shape(key) for path, key in keys.items()}
    stem_kernel = shapes["stem_conv1/kernel"]
    is_cifar = not deep and (sk or stem_kernel[:1] == (3,))
    width_multiplier = _infer_width(shapes)
    config = {
        "depth": depth,
        "width_multiplier": width_multiplier,
        "stem": "cifar" if is_cifar else "imagenet",
        "input_shape": (None, None, (*stem_kernel, 3, 3, 3)[2]),
        **given,
    }
    for name, is_used, layer, least, default in (
        ("sk_ratio", sk, "sk/reduce/kernel", 32, 0.0625),
        ("se_ratio", se, "se/reduce/kernel", 1, 0.25),
    ):
        if name not in given:
            config[name] = 0.0
            if is_used:
                config[name] = _infer_ratio(
                    shapes, layer, width_multiplier, least, default
                )
    return config, keys


def _infer_width(shapes):
    """Returns the width multiplier of most blocks in the last group."""
    for group in (4, 3, 2, 1):
        filters = most_common(
            shape[-1]
            for path, shape in shapes.items()
            if re.match(rf"block_group{group}_block\d+_(conv|bn)1/", path)
            and shape
        )
        if filters:
            width = filters / (64 * 2 ** (group - 1))
            return int(width) if width == int(width) else width
    return 1


def _infer_ratio(shapes, layer, width_multiplier, least, default):
    """Returns the ratio that gives hidden layers the widths in the file.

    They have `max(int(filters * ratio), least)` channels, so that many ratios
    give the same network. This is the default if it is one of them, otherwise
    the one with the fewest digits.
    """
    hidden = {}
    for group in range(4):
        # Basic blocks have no selective kernel.
        shape = shapes.get(f"block_group{group + 1}_block1_{layer}")
        if shape:
            filters = int(64 * 2**group * width_multiplier)
            hidden[filters] = shape[-1]

    def fits(ratio):
        return all(
            max(int(filters * ratio), least) == width
            for filters, width in hidden.items()
        )

    lowest = max(
        (w / f for f, w in hidden.items() if w > least), default=default
    )
    ratios = (np.ceil(lowest * 10.0**d) / 10.0**d for d in range(1, 16))
    return next(
        (float(r) for r in (default, *ratios) if r <= 1 and fits(r)), default
    )


def infer_head(file, features, num_layers, output_dim):
    """Infers the arguments of `ProjectionHead`, and its variables' keys."""
    root = published_keys.roots(file.format)[1]
    found = [key for key in file.keys if key.startswith(root)]
    numbers = [int(n) for n in re.findall(r"(?:/|nl_)(\d+)/", " ".join(found))]
    if num_layers is None:
        num_layers = max(numbers, default=0) + 1
    is_linear = num_layers == 1 and not any("/gamma" in key for key in found)
    keys = published_keys.projection_keys(
        file.format, num_layers, has_batch_norm=not is_linear
    )

    def width(i):
        shapes = [
            file.shape(keys.get(path))
            for path in (f"dense_{i}/kernel", f"batch_norm_{i}/gamma")
        ]
        return most_common([shape[-1] for shape in shapes if shape])

    hidden_dim = width(1) if num_layers > 1 else None
    config = {
        "output_dim": output_dim or width(num_layers) or 128,
        "num_layers": num_layers,
        "hidden_dim": None if hidden_dim == features else hidden_dim,
        "kind": "linear" if is_linear else "nonlinear",
    }
    return config, keys


def most_common(values):
    """Returns the most common value, or None if there are no values."""
    counts = collections.Counter(values).most_common(1)
    return counts[0][0] if counts else None
