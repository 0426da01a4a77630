"""Features in a file on disk, which a later call finds."""

import hashlib
import json
import os
import re
import warnings

import keras
import numpy as np

from simclr_keras import user_code
from simclr_keras.write_aside import make_folder, write_aside

# Another number makes all features anew.
_VERSION = 2
# So many images are passed through the model again, to compare.
_COMPARED = 16
# Where the configuration of a functional model names layers.
_REFERENCES = ("keras_history", "input_layers", "output_layers")


def cached_features(folder, key, num_images, compute):
    """Features from a file, or those computed, which are then in it.

    Args:
        folder: Path of the folder of caches; made if it is missing.
        key: What tells these features from others, as JSON can hold it.
        num_images: Integer N.
        compute: Function from None to the features (N, F), and from an
            integer to those of so many images at the beginning.

    Returns:
        NumPy array (N, F).

    Raises:
        NotADirectoryError: If the folder is a file.
        OSError: If the folder cannot be made. If the file cannot be written,
            or is damaged, a warning says so.
    """
    folder = os.path.expanduser(os.fspath(folder))
    if not folder or (os.path.exists(folder) and not os.path.isdir(folder)):
        raise NotADirectoryError(
            f"`cache_dir` must be a folder. Received: cache_dir={folder!r}."
        )
    make_folder(folder)  # Before hours of work, if it cannot be.
    key = json.dumps([_VERSION, key], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    path = os.path.join(folder, f"{name}.npy")
    stored = _read(path)
    if stored is not None:
        # The code of a layer is in no key. So some images are looked at again.
        first = compute(min(num_images, _COMPARED))
        if _is_close(first, stored):
            return stored
    features = np.ascontiguousarray(compute(None))
    try:
        with write_aside(path, ".npy") as partial, open(partial, "wb") as file:
            np.save(file, features)
            # NumPy reads as far as the header says, and not beyond.
            file.write(_checksum(features))
    except OSError as error:
        warnings.warn(
            f"The features could not be kept in {folder!r}: {error}.",
            stacklevel=user_code.stacklevel(),
        )
    return features


def model_key(model):
    """What tells a model from others: its layers, settings and weights.

    Raises:
        ValueError: If Keras cannot write down what the model is made of.
    """
    parts = [model]
    # May be set on a model that was made without.
    preprocessing = getattr(model, "evaluation_preprocessing", None)
    if isinstance(preprocessing, keras.layers.Layer):
        parts.append(preprocessing)
    try:
        # As JSON holds it, whatever a user's `get_config` returns.
        config = json.loads(
            json.dumps(
                [keras.saving.serialize_keras_object(part) for part in parts],
                default=str,
            )
        )
    except Exception as error:  # A user's `get_config` can fail in every way.
        raise ValueError(
            "`cache_dir` needs a model that can be told from another one, by "
            f"`get_config`. Received: {model.name!r}, whose configuration "
            f"cannot be made: {error}"
        ) from error
    config = json.dumps(_numbered(config, {}), sort_keys=True)
    found = hashlib.sha256(config.encode())
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def images_key(images):
    """What tells an array or a set of images from others."""
    if hasattr(images, "origin"):
        return [images.fingerprint(), images.origin()]
    if not hasattr(images, "shape"):
        raise ValueError(
            "`cache_dir` needs an array or a set of simclr_keras.data, which "
            "can be told from another one. Received: images of type "
            f"{type(images).__name__}."
        )
    images = np.ascontiguousarray(keras.ops.convert_to_numpy(images))
    found = hashlib.sha256(images.tobytes()).hexdigest()
    return [list(images.shape), str(images.dtype), found]


def _numbered(config, places):
    """A configuration with places of layers for names that Keras has made.

    It counts these on: the same architecture has others when it is built
    again. All else that is written in a configuration stays as it is, names
    that the user has given included.

    Args:
        config: What JSON holds.
        places: Dictionary from the automatic names of the layers of the model
            around to integers, which no name is equal to.

    Returns:
        What JSON holds.
    """
    if isinstance(config, list):
        return [_numbered(each, places) for each in config]
    if not isinstance(config, dict):
        return config
    if isinstance(config.get("layers"), list):
        # Names differ within a model, and may be the same in a model in it.
        places = _places(config["layers"])
    numbered = {
        key: _referring(value, places)
        if key in _REFERENCES
        else _numbered(value, places)
        for key, value in config.items()
    }
    if isinstance(numbered.get("endpoint"), str):  # A `BackboneEncoder`'s.
        backbone = _config_of(config.get("backbone")).get("layers")
        numbered["endpoint"] = _referring(config["endpoint"], _places(backbone))
    name = _automatic_name(config)
    if name is not None:
        place = places.get(name, 0)
        numbered["config"]["name"] = place
        if config.get("name") == name:  # Of a layer in a functional model.
            numbered["name"] = place
    return numbered


def _places(layers):
    """The places among a model's layers of those with an automatic name."""
    names = map(_automatic_name, layers if isinstance(layers, list) else ())
    return {name: k for k, name in enumerate(names) if name is not None}


def _referring(names, places):
    """References to layers, a structure of names and numbers."""
    if isinstance(names, list):
        return [_referring(each, places) for each in names]
    if isinstance(names, dict):
        return {k: _referring(each, places) for k, each in names.items()}
    return places.get(names, names)


def _automatic_name(part):
    """The name of a serialized object if Keras may have made it, or None.

    Such a name is that of the class, which stays in the configuration, with
    underscores and often a number: "conv2d_3".
    """
    name = _config_of(part).get("name")
    kind = part.get("class_name") if isinstance(part, dict) else None
    if not isinstance(name, str) or not isinstance(kind, str):
        return None
    stems = [s.replace("_", "") for s in (name, re.sub(r"_\d+$", "", name))]
    return name if re.sub(r"[\W_]", "", kind).lower() in stems else None


def _config_of(part):
    """The arguments of a serialized object; {} of anything else."""
    config = part.get("config") if isinstance(part, dict) else None
    return config if isinstance(config, dict) else {}


def _read(path):
    """The features in a file, None where it is missing or damaged."""
    try:
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            checksum = file.read()
        if checksum == _checksum(stored):
            return stored
        problem = "they do not agree with their checksum"
    except FileNotFoundError:
        return None
    except Exception as error:  # A damaged file is wrong in every way.
        problem = error
    warnings.warn(
        f"The features in {path!r} are damaged or cannot be read: {problem}. "
        "They are computed anew, and the file is replaced.",
        stacklevel=user_code.stacklevel(),
    )
    return None


def _checksum(features):
    """What to write behind features, to tell whether they are unchanged."""
    features = np.ascontiguousarray(features)
    found = hashlib.sha256(f"{features.dtype}{features.shape}".encode())
    found.update(features.reshape(-1))
    return b"\nsha256 " + found.hexdigest().encode()


def _is_close(found, stored):
    """Whether features are the stored ones, but for rounding."""
    expected = stored[: len(found)]
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    found, expected = (each.astype("float32") for each in (found, expected))
    # Other batches are summed in another order; half precision has 11 bits.
    share = 1e-2 if stored.dtype == np.float16 else 1e-3
    size = np.abs(expected).max(axis=0, initial=0)  # of each feature
    bound = share * size + 1e-2 * share * size.max(initial=1e-30)
    return bool((np.abs(found - expected) <= bound).all())
