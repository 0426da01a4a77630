"""Labelled images of the command line: a folder, a TFDS data set, arrays."""

import csv
import os
import typing
import zipfile

import numpy as np
from command_line import (
    UsageError,
    check_exists,
    check_test_folder,
    path,
    said_of,
)


class LabelledData(typing.NamedTuple):
    """Images in memory, with their labels.

    Attributes:
        name: String.
        train: Pair of an array (N, H, W, C) and labels (N,).
        test: The same, of images that are held out.
        class_names: List of strings.
        value_range: Pair of numbers.
        paths: List of N strings, the files of the training images, or None.
    """

    name: str
    train: tuple
    test: tuple
    class_names: list
    value_range: tuple
    paths: list | None = None


def add_labelled_data(parser, required=True):
    """Adds --images, --test_folder, --dataset, --data_dir and --arrays."""
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument(
        "--images",
        type=path,
        metavar="FOLDER",
        help="a folder for each class of images; a fifth is held out, unless "
        "there is --test_folder",
    )
    source.add_argument(
        "--dataset",
        metavar="NAME",
        help="a data set that TFDS knows and has prepared, such as cifar10; "
        "digits are scikit-learn's",
    )
    source.add_argument(
        "--arrays",
        type=path,
        metavar="FILE",
        help=".npz file with images, labels, test_images and test_labels",
    )
    parser.add_argument(
        "--test_folder",
        type=path,
        metavar="FOLDER",
        help="the same folders of held-out images, beside --images. Default: "
        "none",
    )
    parser.add_argument(
        "--data_dir",
        type=path,
        metavar="FOLDER",
        help="where TFDS finds --dataset. Default: where it puts them itself",
    )


def check_labelled_data(options, has_dataset=False):
    """Raises a `UsageError` for what can be told without reading images.

    Args:
        options: The arguments.
        has_dataset: Boolean, whether --data_dir has a use without --dataset.
            Defaults to False.
    """
    if options.images:
        check_exists("--images", options.images, is_folder=True)
    check_test_folder("--images", options.images, options.test_folder)
    if options.arrays:
        check_exists("--arrays", options.arrays, is_folder=False)
    if options.data_dir and not (options.dataset or has_dataset):
        raise UsageError("--data_dir needs --dataset.")
    if options.data_dir:
        check_exists("--data_dir", options.data_dir, is_folder=True)


def load_labelled_data(options, image_size, channels):
    """The `LabelledData` of the command line.

    Args:
        options: The arguments.
        image_size: Pair of integers, to which the images of a folder are
            resized.
        channels: Integer, which the images of a folder get, or "auto" for
            those that they have.

    Raises:
        ValueError: If there are no labels, or none are held out.
    """
    import simclr_keras

    if options.arrays:
        return _read_arrays(options.arrays)
    if options.images:
        with said_of("--images"):
            data = simclr_keras.data.load_image_folder(
                options.images,
                image_size,
                test_path=options.test_folder,
                test_fraction=0.0 if options.test_folder else 0.2,
                channels=channels,
                on_error="skip",
                in_memory=True,
            )
        for name in data.skipped[:5]:
            print(f"Left out, as it cannot be read: {name}")
    elif options.dataset == "digits":
        data = simclr_keras.data.load_digits()
    else:
        data = simclr_keras.data.load_tfds(
            options.dataset, options.data_dir, image_size=image_size
        )
    return of_image_data(data)


def of_image_data(data):
    """The `LabelledData` of an `ImageData`, as `simclr_keras.data` gives it.

    Raises:
        ValueError: If there are no labels, or none are held out.
    """
    if data.class_names is None or data.test is None:
        missing = "labels" if data.class_names is None else "held-out images"
        raise ValueError(
            "The images must have labels, some of them held out: a folder for "
            f"each class, or a data set with a test split. Received: "
            f"{data.name}, which has no {missing}."
        )
    return _checked(
        LabelledData(
            data.name,
            data.train.arrays(),
            data.test.arrays(),
            list(data.class_names),
            data.value_range,
            _paths(data.train),
        )
    )


def _checked(data):
    """The data, whose classes all have training images; names count on it."""
    known = np.unique(data.train[1])
    if len(known) < 2:
        raise ValueError(
            "The images must have at least two classes. Received: "
            f"{data.name}, whose training images have {len(known)}."
        )
    if len(known) != len(data.class_names):
        raise ValueError(
            "Each class must have training images. Received: "
            f"{data.name}, with {len(data.class_names)} classes and training "
            f"images of {len(known)}."
        )
    unknown = np.setdiff1d(data.test[1], known)
    if len(unknown):
        raise ValueError(
            "The held-out images must have no labels that the training images "
            f"have not. Received: {unknown[:5].tolist()} in {data.name}."
        )
    return data


def write_classes(path, labels, predicted, class_names):
    """Writes a table of how often each class is known.

    Args:
        path: String, the CSV file.
        labels, predicted: Integer arrays (M,), places of `class_names`.
        class_names: List of strings.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "images", "accuracy"])
        for k, name in enumerate(class_names):
            is_right = predicted[labels == k] == k
            share = float(is_right.mean()) if len(is_right) else ""
            writer.writerow([name, len(is_right), share])


def _paths(images):
    paths = getattr(images, "paths", None)
    return None if paths is None else paths.tolist()


def _read_arrays(name):
    keys = "images", "labels", "test_images", "test_labels"
    try:
        with np.load(name, allow_pickle=False) as file:
            images, labels, test_images, test_labels = (file[k] for k in keys)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise ValueError(
            f"--arrays must be an .npz file with {', '.join(keys)}. {name} is "
            f"none: {e}"
        ) from None
    is_float = np.issubdtype(images.dtype, np.floating)
    if not is_float and images.dtype not in ("uint8", "uint16"):
        raise ValueError(
            "--arrays must hold images of uint8, uint16 or floats in [0, 1]: "
            "other dtypes do not tell their range. Received: images of "
            f"{images.dtype}"
        )
    if labels.ndim != 1 or test_labels.ndim != 1:
        raise ValueError(
            "--arrays must hold labels (N,). Received: shapes "
            f"{labels.shape} and {test_labels.shape}"
        )
    return _checked(
        LabelledData(
            os.path.basename(name),
            (images, labels),
            (test_images, test_labels),
            [str(label) for label in np.unique(labels)],
            (0, 1) if is_float else (0, np.iinfo(images.dtype).max),
        )
    )
