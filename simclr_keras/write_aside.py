"""Writes files and folders completely or not at all, also if power fails."""

import contextlib
import errno
import os
import shutil
import uuid

# Letters of a name that its temporary one begins with, of up to 4 bytes each.
_KEPT = 24


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
    make_folder(os.path.dirname(target))
    folder, name = os.path.split(target)
    # Shorter, since a name that is as long as may be leaves no room for more.
    name = os.path.join(folder, f"{name[:_KEPT]}.{uuid.uuid4().hex}")
    partial, old = f"{name}.partial{suffix}", f"{name}.old"
    try:
        yield partial
        # `os.replace` replaces files, but no folder that is not empty.
        if os.path.isdir(partial) and os.path.isdir(target):
            os.rename(target, old)
        try:
            replace(partial, target)
        except BaseException:
            if os.path.exists(old):
                os.rename(old, target)
            raise
    except BaseException:
        _remove(partial)
        raise
    _remove(old)


def replace(source, target):
    """Moves a file or folder to where it may replace a file, for good.

    Names may reach the disk before contents do: after a power cut, a file that
    was only renamed can be empty. So contents go first, and the name before
    this returns.

    Args:
        source: String, the path of a file or folder on the same file system.
        target: String, its new path: a file, which is replaced, or nothing.
    """
    paths = [source]
    for folder, folders, files in os.walk(source):
        paths += [os.path.join(folder, name) for name in (*folders, *files)]
    for path in paths:
        _flush(path)
    os.replace(source, target)
    _flush(os.path.dirname(os.path.abspath(target)))


def make_folder(path):
    """Makes a folder, and those above it that are missing, for good.

    Args:
        path: String.
    """
    missing, above = [], os.path.abspath(path)
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, exist_ok=True)
    for folder in missing:
        _flush(os.path.dirname(folder))


def _flush(path):
    """Waits until a file, or the names in a folder, are on the disk."""
    is_folder = os.path.isdir(path)
    if is_folder and os.name != "posix":
        return  # Elsewhere a folder cannot be opened.
    number = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(number)
    except OSError as error:
        # Some network file systems have no such thing for folders.
        if not is_folder or error.errno in (errno.EIO, errno.ENOSPC):
            raise
    finally:
        os.close(number)


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.exists(path):
        os.remove(path)
