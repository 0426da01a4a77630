"""Images in files, with or without a folder for each class."""

import os
import warnings

import numpy as np
import tensorflow as tf

from simclr_keras.data.arrays import ArrayImageSet, keep_in_memory
from simclr_keras.data.decoding import check_image_size
from simclr_keras.data.file_image_set import (
    FileImageSet,
    reason,
    unreadable,
)
from simclr_keras.data.image_set import (
    ImageData,
    check_test_fraction,
    split_indices,
)
from simclr_keras.data.list_images import list_images


def load_image_folder(
    path,
    image_size,
    *,
    test_path=None,
    test_fraction=0.0,
    seed=0,
    labels="inferred",
    channels=3,
    on_error="raise",
    in_memory=None,
):
    """Images below a folder: JPEG, PNG, BMP, GIF, of any sizes.

    Images directly in the folder have no labels. Otherwise the first folder
    level names the class, and there may be more levels below. Files with other
    extensions and hidden ones are passed over; the content decides how a file
    is decoded. Each image is cut to the largest central box with the aspect of
    `image_size` and resized to it (bicubic, antialiased), so that images can
    be batched. Take an `image_size` larger than the views to pretrain on, such
    as 256 for views of 224 pixels, to leave detail for the random crops.

    See `decode_image` in `decoding.py` for colours: grayscale, CMYK, palettes,
    transparency and 16 bits all become uint8 of `channels` channels.

    Args:
        path: Path of a local folder; links are followed.
        image_size: Integer or pair (height, width), in pixels.
        test_path: Path of a second folder with held-out images and the same
            classes, such as the `val` folder of ImageNet. Or None.
        test_fraction: Float in [0, 1), the part of every class to hold out if
            there is no `test_path`. Defaults to 0.
        seed: Integer, which images are held out.
        labels: "inferred", or None to ignore the folders' names.
        channels: 3 or 1.
        on_error: What to do about a file that cannot be read. "raise" stops as
            soon as it is met: here if the images are kept in memory, in the
            epoch that reads it otherwise. "skip" reads every file once before
            the training begins, leaves out the unreadable ones, warns, and
            lists them in `ImageData.skipped`.
        in_memory: Boolean, keep the decoded images in memory. None does so if
            they take at most 1 GiB.

    Returns:
        An `ImageData` of uint8 images (N, height, width, channels), files in
        the order of their names.

    Raises:
        FileNotFoundError: If a folder is missing or holds no images.
        NotADirectoryError: If a path is that of a file.
        ValueError: If an argument is out of range, images lie beside the
            folders of the classes, or a file is unreadable (it is named). An
            unreadable file met in training: `tf.errors.InvalidArgumentError`.

    Example:
        data = simclr_keras.data.load_image_folder("photos", image_size=96)
        dataset = simclr_keras.data.training_dataset(data.train, 256)
    """
    image_size = check_image_size(image_size)
    for name, value, allowed in (
        ("labels", labels, ("inferred", None)),
        ("channels", channels, (1, 3)),
        ("on_error", on_error, ("raise", "skip")),
    ):
        if value not in allowed:
            raise ValueError(
                f"`{name}` must be one of {allowed}. Received: "
                f"{name}={value!r}."
            )
    if test_path is not None and test_fraction:
        raise ValueError(
            "`test_path` and `test_fraction` exclude each other. Received: "
            f"test_path={test_path!r}, test_fraction={test_fraction!r}."
        )

    check_test_fraction(test_fraction)

    options = (image_size, channels, on_error, in_memory)
    paths, class_names, classes = list_images("path", path, labels)
    train, skipped = _open_files(paths, classes, *options)
    test = None
    if test_path is not None:
        paths, names, classes = list_images("test_path", test_path, labels)
        classes = _match_classes(class_names, names, classes)
        test, test_skipped = _open_files(paths, classes, *options)
        skipped += test_skipped
    elif test_fraction:
        train_indices, test_indices = split_indices(
            train.num_images, train.labels, test_fraction, seed
        )
        test = train.subset(test_indices)
        train = train.subset(train_indices)
    return ImageData(
        name=os.path.basename(os.path.abspath(path)),
        train=train,
        test=test,
        class_names=class_names,
        skipped=skipped,
    )


def _open_files(paths, labels, image_size, channels, on_error, in_memory):
    """The set of these files, and those of them that are left out."""
    files = FileImageSet(paths, labels, image_size, channels)
    in_memory = keep_in_memory(files, in_memory)
    if not in_memory and on_error == "raise":
        return files, ()

    images = np.empty(
        (files.num_images if in_memory else 0, *files.image_shape), "uint8"
    )
    is_valid = np.zeros(files.num_images, bool)

    def check(index):
        valid, image = files.try_load(index)
        return (valid, image) if in_memory else (valid,)

    start = 0
    checked = tf.data.Dataset.range(files.num_images).map(
        check, tf.data.AUTOTUNE
    )
    for valid, *batch in checked.batch(64).prefetch(2):
        stop = start + len(valid)
        is_valid[start:stop] = valid
        if in_memory:
            images[start:stop] = batch[0]
        if on_error == "raise" and not is_valid[start:stop].all():
            path = files.paths[start:stop][~is_valid[start:stop]][0]
            raise unreadable(path)
        start = stop

    skipped = tuple(files.paths[~is_valid].tolist())
    if len(skipped) == files.num_images:
        raise ValueError(
            f"None of the {len(skipped)} image files can be read. The first "
            f"is {skipped[0]!r}: {reason(skipped[0])}"
        )
    if skipped:
        warnings.warn(
            f"Left out {len(skipped)} of {files.num_images} image files, which "
            f"cannot be read: {', '.join(skipped[:5])}"
            f"{', ...' if len(skipped) > 5 else ''}",
            stacklevel=3,
        )
        files = files.subset(is_valid)
        images = images[is_valid] if in_memory else images
    if in_memory:
        return ArrayImageSet(images, files.labels), skipped
    return files, skipped


def _match_classes(class_names, test_class_names, test_classes):
    """The test images' classes, numbered as the training images' are."""
    if (class_names is None) != (test_class_names is None) or not set(
        test_class_names or ()
    ) <= set(class_names or ()):
        raise ValueError(
            "`test_path` must have the classes of `path`. Received: classes "
            f"{_shorten(class_names)} in `path` and "
            f"{_shorten(test_class_names)} in `test_path`."
        )
    if class_names is None:
        return None
    order = [class_names.index(name) for name in test_class_names]
    return np.array(order, "int64")[test_classes]


def _shorten(names):
    return names if names is None or len(names) <= 10 else (*names[:10], "...")
