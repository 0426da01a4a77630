"""The model card and the configuration of an exported folder."""

import json
import os
import platform

import keras

from simclr_keras.version import __version__

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_USE = """\
## Use

```python
module = hub.load(path)                   # or tf.saved_model.load(path)
h = module(images)                        # (B, {dim})
outputs = module.endpoints(images)        # a dictionary, see below

hub.KerasLayer(path, trainable=True)      # in tf_keras
simclr_keras.export.SavedModelEncoder(path)                # in Keras 3
keras.layers.TFSMLayer(path, "serve", "train")             # in Keras 3
tf.saved_model.load(path).signatures["representation"]     # as TF Serving
```

`images` are {shape}: floats in [0, 1] (float32, float64 or float16), or
uint8; the signatures take only float32. Python lists are always taken as
floats: convert lists of pixels in [0, 255] to a uint8 array first. With
`training=True`, batch norm uses the batch's statistics and updates its moving
statistics.
"""


def configuration(parts):
    """Returns JSON of `Parts`, with the Keras configuration of the layers."""
    return json.dumps(
        {
            "encoder": _serialize(parts.encoder),
            "projection_head": _serialize(parts.projection_head),
            "image_shape": parts.image_shape,
            "value_range": (0, 1),
            "versions": _versions(),
        },
        indent=2,
    )


def model_card(title, parts, shapes, difference, results, recipe):
    """Returns the model card as Markdown.

    Args:
        title: String.
        parts: `Parts` of the model.
        shapes: Dictionary of the endpoints' shapes, with the batch axis.
        difference: Float, the largest difference between the representations
            of the export and of the model.
        results: Dictionary of numbers and of further dictionaries.
        recipe: Dictionary.
    """
    encoder = parts.encoder
    sections = [
        f"# {title}",
        "Representations of images, learned without labels by SimCLR.",
        _USE.format(
            dim=shapes["representation"][-1],
            shape=_format_shape(parts.image_shape),
        ),
        "## Encoder",
        _table(
            ("", ""),
            [
                ("class", type(encoder).__name__),
                ("name", encoder.name),
                ("parameters", f"{encoder.count_params():,}"),
                *_scalars(_settings(encoder)),
            ],
        ),
        "The whole configuration is in `assets/encoder.json`.",
        "## Endpoints",
        _table(
            ("endpoint", "shape"),
            [
                (key, _format_shape(shape[1:]))
                for key, shape in sorted(shapes.items())
            ],
        ),
    ]
    if recipe:
        sections += ["## Recipe", _table(("", ""), _scalars(recipe))]
    if results:
        sections += ["## Results", _table(("", ""), _scalars(results))]
    if not recipe and not results:
        sections.append(
            "Data, recipe and results were not given when this was exported."
        )
    sections += [
        "## Versions",
        _table(("", ""), list(_versions().items())),
        "When exported, the representations differed from the model's by "
        f"at most {difference:.1g}.",
    ]
    return "\n\n".join(part.strip() for part in sections) + "\n"


def _serialize(layer):
    if layer is None:
        return None
    try:
        serialized = keras.saving.serialize_keras_object(layer)
        json.dumps(serialized)
    except (NotImplementedError, TypeError, ValueError):
        # Not every user's class has a configuration.
        return {"class_name": type(layer).__name__, "config": None}
    return serialized


def _settings(encoder):
    """Returns the simple values of the configuration."""
    config = (_serialize(encoder) or {}).get("config") or {}
    return {
        key: value
        for key, value in config.items()
        if key not in ("name", "layers", "input_layers", "output_layers")
        and not isinstance(value, dict)
    }


def _scalars(values, prefix=""):
    """Flattens nested dictionaries to rows (name, text)."""
    rows = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and {"mean", "std"} <= set(value):
            text = f"{value['mean']:.4g} ± {value['std']:.2g}"
            if "draws" in value:
                text += f" ({value['draws']} draws)"
            rows.append((name, text))
        elif isinstance(value, dict):
            rows += _scalars(value, f"{name}, ")
        elif value is not None and value != "":
            if isinstance(value, float):
                value = f"{value:.4g}"
            elif isinstance(value, str) and os.path.isabs(value):
                # Where it lies is no business of those who get the card.
                value = os.path.basename(os.path.normpath(value))
            rows.append((name, str(value)))
    return rows


def _table(header, rows):
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines
    )


def _cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def _format_shape(shape):
    sizes = ["B", *("any" if size is None else str(size) for size in shape)]
    return f"({', '.join(sizes)})"


def _versions():
    return {
        "simclr_keras": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }
