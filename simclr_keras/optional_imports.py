"""Packages that only a part of this library needs."""

import importlib


def import_optional(module, package, extra, needed_by):
    """Imports a module, or says how to install it.

    Args:
        module: String, what to import.
        package: String, the name under which it is installed.
        extra: String, the extra of `simclr_keras` that brings it.
        needed_by: String, what needs it: the start of the message.

    Returns:
        The module.

    Raises:
        ImportError: If it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{needed_by} needs {package}, which could not be imported "
            f"({error}). Install it with `pip install simclr_keras[{extra}]`."
        ) from error
