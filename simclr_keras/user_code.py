"""Where the code of a user called this package, for warnings."""

import sys

_LIBRARIES = ("simclr_keras", "keras", "tensorflow", "jax", "torch")


def stacklevel():
    """The `stacklevel` with which a warning names the user's own line.

    However deep within this package and Keras the warning arises.

    Returns:
        An integer, for `warnings.warn` in the function that called this one.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _is_of_library(frame):
        frame, level = frame.f_back, level + 1
    return level


def _is_of_library(frame):
    module = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in _LIBRARIES
