"""Packages that only some sources need."""

import importlib


def import_optional(module, package, extra):
    """Imports `module`, or says how to install it.

    Args:
        module: String, what to import.
        package: String, the name under which it is installed.
        extra: String, the extra of this package that brings it.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This source of images needs {package}, which could not be "
            f"imported ({error}). Install it with "
            f"`pip install simclr_keras[{extra}]`."
        ) from error
