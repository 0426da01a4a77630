"""A checksum at the end of a file, which tells whether the file is whole."""

import hashlib
import os

_MARK = b"\nsimclr_keras sha256 "
_LENGTH = len(_MARK) + 64


def checksum_of(content):
    """What to write behind a content, so that the file ends in its checksum.

    Formats that say where they end, as HDF5 does, are read as before.

    Args:
        content: Bytes-like.

    Returns:
        Bytes.
    """
    return _MARK + hashlib.sha256(content).hexdigest().encode()


def has_checksum(path):
    """Whether a file ends in its own checksum, so that all of it is there.

    Args:
        path: String.

    Returns:
        A boolean: False for a file that is cut off, altered or never had one.

    Raises:
        OSError: If it cannot be read.
    """
    size = os.path.getsize(path) - _LENGTH
    if size < 0:
        return False
    with open(path, "rb") as file:
        file.seek(size)
        end = file.read()
    return end == _MARK + _digest(path, size)


def _digest(path, size):
    """SHA-256 of the first bytes of a file, in hexadecimal digits."""
    checksum = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0:
            block = file.read(min(size, 2**20))
            if not block:  # It has become shorter.
                break
            checksum.update(block)
            size -= len(block)
    return checksum.hexdigest().encode()
