"""Which images a folder holds, and of which classes."""

import os

import numpy as np

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def list_images(name, path, labels):
    """Paths below a folder in order, names of the classes, class of each."""
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"`{name}` must be an existing folder. Received: {name}={path!r}."
        )
    if not os.path.isdir(path):
        raise NotADirectoryError(
            f"`{name}` must be a folder of images. Received the file: "
            f"{name}={path!r}."
        )

    def fail(error):
        raise error

    paths = []
    for folder, subfolders, files in os.walk(path, True, fail, True):
        real = os.path.realpath(folder)
        # In order; without hidden folders, and links back to where we are.
        subfolders[:] = sorted(
            subfolder
            for subfolder in subfolders
            if not subfolder.startswith(".")
            and not (real + os.sep).startswith(
                os.path.realpath(os.path.join(folder, subfolder)) + os.sep
            )
        )
        paths += [
            os.path.join(folder, file)
            for file in sorted(files)
            if file.lower().endswith(EXTENSIONS) and not file.startswith(".")
        ]
    if not paths:
        raise FileNotFoundError(
            f"`{name}` must hold images ({', '.join(EXTENSIONS)}), directly or "
            f"in folders. Received: {name}={path!r}, where there are none."
        )

    parts = [os.path.relpath(file, path).split(os.sep) for file in paths]
    is_nested = [len(part) > 1 for part in parts]
    if labels is None or not any(is_nested):
        return paths, None, None
    if not all(is_nested):
        raise ValueError(
            f"`{name}` must hold images either in folders, one a class, or "
            f"directly, without labels. Received: {name}={path!r}, with "
            f"{is_nested.count(False)} images beside the folders. Pass "
            "labels=None to take all of them without labels."
        )
    class_names = sorted({part[0] for part in parts})
    index = {class_name: i for i, class_name in enumerate(class_names)}
    classes = np.array([index[part[0]] for part in parts], "int64")
    return paths, tuple(class_names), classes
