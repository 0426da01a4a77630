"""Writes files and folders completely or not at all."""

import contextlib
import os
import shutil
import uuid


@contextlib.contextmanager
def write_aside(path, suffix=""):
    """Yields a temporary path, and moves what is written there to `path`.

    A file or folder that exists at `path` is replaced at the end of the `with`
    block. If the block raises, it is kept, and the temporary one is removed.

    Args:
        path: String or `os.PathLike`. A missing parent folder is created.
        suffix: String in which the temporary path ends. Defaults to "".

    Yields:
        String, a path in the same folder where nothing exists yet.
    """
    target = os.path.realpath(path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    name = f"{target}.{uuid.uuid4().hex}"
    partial, old = f"{name}.partial{suffix}", f"{name}.old"
    try:
        yield partial
        # `os.replace` replaces files, but no folder that is not empty.
        if os.path.isdir(partial) and os.path.isdir(target):
            os.rename(target, old)
        try:
            os.replace(partial, target)
        except BaseException:
            if os.path.exists(old):
                os.rename(old, target)
            raise
    except BaseException:
        _remove(partial)
        raise
    _remove(old)


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.exists(path):
        os.remove(path)
