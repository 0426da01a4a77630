"""The file that `features.py` writes, and others read.

Nothing here imports TensorFlow.
"""

import os
import typing
import zipfile

import numpy as np
from command_line import UsageError
from numpy.lib import format as npy


class Features(typing.NamedTuple):
    """Representations, with the file of each.

    Attributes:
        features: float32 array (N, F).
        paths: List of N strings.
    """

    features: np.ndarray
    paths: list


def check(name):
    """Raises a `UsageError` unless a file may be one of `features.py`.

    Reads the beginnings of its arrays alone, which takes no time.
    """
    headers = {}
    try:
        with zipfile.ZipFile(name) as archive:
            for key in ("features", "paths"):
                with archive.open(f"{key}.npy") as file:
                    if npy.read_magic(file) == (1, 0):
                        header = npy.read_array_header_1_0(file)
                    else:
                        header = npy.read_array_header_2_0(file)
                shape, _, dtype = header
                headers[key] = shape, dtype
    except (KeyError, ValueError, OSError, EOFError, RuntimeError) as error:
        reason = str(error).strip('"')  # in which a KeyError has it
    except zipfile.BadZipFile:
        reason = "it is no zip archive"
    else:
        reason = _fault(*headers["features"], *headers["paths"])
    if reason:
        raise UsageError(
            f"--features must be an .npz file of features.py. {name} is none: "
            f"{reason}."
        )


def _fault(shape, dtype, shape_of_paths, dtype_of_paths):
    """What is wrong with the arrays of a file of features, or None."""
    if dtype.kind != "f" or len(shape) != 2 or 0 in shape:
        return (
            "its features must be floats (N, F), N and F at least 1. Received: "
            f"shape {shape}, dtype {dtype}"
        )
    if dtype_of_paths.kind != "U" or shape_of_paths != shape[:1]:
        return (
            f"its paths must be {shape[0]} strings. Received: shape "
            f"{shape_of_paths}, dtype {dtype_of_paths}"
        )
    return None


def read(name):
    """The `Features` in an .npz file of `features.py`."""
    check(name)
    try:
        with np.load(name, allow_pickle=False) as file:
            features, paths = file["features"], file["paths"].tolist()
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"--features is damaged: {name}: {error}") from None
    missing = sum(not os.path.exists(p) for p in paths)
    if missing:
        print(
            f"{missing:,} of {len(paths):,} images are not where {name} says "
            "and are drawn gray: start this where features.py was started."
        )
    return Features(features, paths)
