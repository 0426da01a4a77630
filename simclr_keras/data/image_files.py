"""Which files in a folder are images, told by name and by content."""

import dataclasses
import importlib.util
import os
import stat

# Names that promise an image. Such a file counts, whatever is in it: if it
# cannot be read, that is told.
EXTENSIONS = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *(".avif", ".heic", ".heif"),
)
# What a file begins with, of any other name, if it is an image.
_BEGINNINGS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(b"II*\x00", b"MM\x00*"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heif")


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The image files below a folder.

    Attributes:
        paths: List of strings, sorted by folder and name.
        unreadable: Dictionary from the path of each file or folder that cannot
            be used to the reason, a sentence.
        repeated: List of pairs (path, path) of strings: files that are listed
            already under the second path, and not a second time.
    """

    paths: list
    unreadable: dict
    repeated: list


def find_images(path, max_bytes):
    """Looks for images in a folder and in those below it.

    Links are followed. A folder or file that can be reached in several ways
    counts once. Only regular files are opened: to read a pipe or a device may
    take for ever.

    Args:
        path: String, an existing folder.
        max_bytes: Integer, the size up to which a file is read.

    Returns:
        An `ImageFiles`.
    """
    found = ImageFiles([], {}, [])
    seen = {}

    def note_error(error):
        found.unreadable[error.filename] = f"{error.strerror}."

    for folder, subfolders, files in os.walk(path, True, note_error, True):
        if not _is_new(folder, os.stat(folder), seen, found):
            subfolders.clear()
            continue
        subfolders[:] = sorted(f for f in subfolders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                _look_at(os.path.join(folder, name), max_bytes, seen, found)
    return found


def _look_at(path, max_bytes, seen, found):
    """Adds a file to those found, if it is an image."""
    has_name = path.lower().endswith(EXTENSIONS)
    try:
        status = os.stat(path)
    except OSError as error:  # A link to nowhere, or to itself.
        if has_name:
            found.unreadable[path] = f"{error.strerror}."
        return
    if not stat.S_ISREG(status.st_mode):
        if has_name:
            found.unreadable[path] = "It is not a regular file."
        return
    # Or of those of the system in /proc, some of which are read for ever.
    if status.st_size == 0:
        if has_name:
            found.unreadable[path] = "It is empty."
        return
    try:
        if not has_name and not _begins_as_image(path):
            return
    except OSError as error:
        found.unreadable[path] = f"{error.strerror}."
        return
    if not _is_new(path, status, seen, found):
        return
    if status.st_size > max_bytes:
        found.unreadable[path] = (
            f"It has {status.st_size:,} bytes, and `max_bytes` is "
            f"{max_bytes:,}."
        )
        return
    found.paths.append(path)


def _is_new(path, status, seen, found):
    # Some file systems number nothing.
    if not status.st_ino:
        return True
    first = seen.setdefault((status.st_dev, status.st_ino), path)
    if first == path:
        return True
    found.repeated.append((path, first))
    return False


def _begins_as_image(path):
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(_BEGINNINGS):
        return True
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return True
    return is_heif(start)


def is_heif(start):
    """Whether a file that begins so is an HEIF image, such as a HEIC photo."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def has_heif():
    """Whether HEIF images can be read here."""
    return importlib.util.find_spec("pillow_heif") is not None
