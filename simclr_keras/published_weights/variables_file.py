"""Reads the files of published SimCLR networks."""

import functools
import itertools
import os
import re
from typing import Any, NamedTuple

from simclr_keras.published_weights import keys as published_keys
from simclr_keras.published_weights.keys import CHECKPOINT, SAVED_MODEL


class PublishedFile(NamedTuple):
    """The contents of a file, by keys as `published_keys.tidy` returns them."""

    path: str
    format: str
    keys: dict  # to the key in the file
    shapes: dict  # from key to tuple
    read: Any  # function from the key in the file to a NumPy array
    ignored: tuple = ()  # keys of training state in the file
    num_bytes: int = 0  # of all values

    def has(self, root):
        return any(key.startswith(root) for key in self.keys)

    def shape(self, key):
        return self.shapes.get(key, ())


def open_published(path, ignore):
    """Opens a checkpoint or SavedModel."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "`load_published_weights` reads TensorFlow's files and needs "
            "TensorFlow, whatever the Keras backend: pip install tensorflow."
        ) from error

    path = path.rstrip("/") or path
    if tf.saved_model.contains_saved_model(path):
        file_format, shapes, read = SAVED_MODEL, *_open_saved_model(path)
        prefix = f"{path}/variables/variables"
    else:
        prefix = path = _checkpoint_prefix(path)
        file_format, shapes, read = CHECKPOINT, *_open_checkpoint(path)
    num_bytes = sum(
        tf.io.gfile.stat(name).length
        for name in tf.io.gfile.glob(f"{prefix}.data-*")
    )

    names = [key for key in shapes if not any(p.search(key) for p in ignore)]
    is_ignored = functools.partial(published_keys.is_ignored, file_format)
    used = list(itertools.filterfalse(is_ignored, names))
    ignored = tuple(filter(is_ignored, names))
    keys = published_keys.tidy(file_format, used)
    shapes = {key: tuple(shapes[name]) for key, name in keys.items()}
    file = PublishedFile(
        path, file_format, keys, shapes, read, ignored, num_bytes
    )
    if not file.has(published_keys.roots(file_format)[0]):
        shown = ", ".join(sorted(used)[:5]) or "none"
        raise ValueError(
            f"{path!r} must hold a SimCLR network of Google's TF2 "
            "implementation, with keys such as "
            f"{published_keys.encoder_example(file_format)!r}. Received: "
            f"{len(used)} variables, {shown}. Networks from other sources, and "
            "for TensorFlow 1, have other keys."
        )
    return file


def _checkpoint_prefix(path):
    """Returns the prefix of the checkpoint at a path."""
    import tensorflow as tf

    prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", path)
    if tf.io.gfile.exists(f"{prefix}.index"):
        return prefix
    if not tf.io.gfile.isdir(path):
        raise FileNotFoundError(
            f"There is no checkpoint or SavedModel at {path!r}: neither "
            f"{path}.index nor a folder with saved_model.pb."
        )
    latest = tf.train.latest_checkpoint(path)
    if latest is not None:
        return latest
    found = sorted(tf.io.gfile.glob(os.path.join(path, "*.index")))
    if len(found) == 1:
        return found[0].removesuffix(".index")
    names = ", ".join(os.path.basename(name) for name in found) or "no .index"
    raise FileNotFoundError(
        f"The folder {path!r} must hold a SavedModel (saved_model.pb), a "
        "file `checkpoint` that names the latest checkpoint, or a single "
        f".index file. Received: {names}. Pass the prefix of one checkpoint."
    )


def _open_checkpoint(prefix):
    """Returns shapes by key, and a function that reads a key."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
    except Exception as error:  # Damaged files raise many kinds.
        raise ValueError(
            f"The checkpoint {prefix!r} cannot be read; it may be damaged or "
            f"incomplete. TensorFlow's error: {error}"
        ) from error
    return shapes, reader.get_tensor


def _open_saved_model(path):
    """Returns shapes by name, and a function that reads a variable.

    The variables' file alone is opened. To load a SavedModel runs what is in
    it: its initializers may read and write any file.
    """
    shapes, read = _open_checkpoint(f"{path}/variables/variables")
    try:
        keys = _keys_of_names(read)
    except Exception as error:  # Damaged files raise many kinds.
        lost = [k for k in sorted(shapes) if isinstance(try_read(read, k), str)]
        raise ValueError(
            f"The SavedModel {path!r} cannot be read; it may be damaged or "
            f"incomplete. It cannot give: {', '.join(lost)}. TensorFlow's "
            f"error: {error}"
        ) from error
    return (
        {name: shapes.get(key, []) for name, key in keys.items()},
        lambda name: read(keys[name]),
    )


def _keys_of_names(read):
    """The key of each variable in a file of a SavedModel, by its name."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(read("_CHECKPOINTABLE_OBJECT_GRAPH"))
    keys = {}
    for node in graph.nodes:
        for attribute in node.attributes:
            if attribute.name != "VARIABLE_VALUE":
                continue
            name = f"{attribute.full_name}:0"
            while name in keys:  # Reported as left over.
                name += " (again)"
            keys[name] = attribute.checkpoint_key
    return keys


def try_read(read, key):
    """Returns the value of a key, or TensorFlow's error as a string."""
    try:
        return read(key)
    except Exception as error:  # Damaged files raise many kinds.
        return (str(error) or repr(error)).splitlines()[0]
