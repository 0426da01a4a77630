"""Files and folders that are at their path whole, or not at all."""

import contextlib
import os
import shutil
import uuid


@contextlib.contextmanager
def write_aside(path, suffix=""):
    """Has something written beside its path, to which it moves at the end.

    What is at the path, a file or a folder, is replaced then. If the body
    raises, it stays, and what was written is removed.

    Args:
        path: String or `os.PathLike`. Its folder is made if there is none.
        suffix: String that the name to write to ends in. Defaults to "".

    Yields:
        String: the path to write to, where there is nothing yet.
    """
    target = os.path.realpath(path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    # In the same folder, so that it gets there in one move.
    name = f"{target}.{uuid.uuid4().hex}"
    partial, old = f"{name}.partial{suffix}", f"{name}.old"
    try:
        yield partial
        # A file takes another's place in one move, a folder does not.
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
