"""Images in files, with or without a folder per class."""

import os
import re
import warnings

import numpy as np
import tensorflow as tf

from simclr_keras.data.arrays import ArrayImageSet, keep_in_memory
from simclr_keras.data.decoding import (
    check_image_size,
    decode_boxes,
    decode_image,
    decode_jpeg_window,
    try_load_image_file,
)
from simclr_keras.data.image_set import (
    ImageData,
    ImageSet,
    check_test_fraction,
    split_indices,
)

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


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
    """Images in a folder: JPEG, PNG, BMP or GIF of any size.

    Images directly in the folder have no labels. Otherwise the first level of
    folders names the classes, and there may be more levels below. Hidden files
    and files with other extensions are ignored; the format is detected from
    the content. Each image is cropped to the largest central box with the
    aspect of `image_size` and resized to it (bicubic, antialiased), so that
    images can be batched. Use an `image_size` larger than the views, such as
    256 for views of 224 pixels, to keep detail for the random crops.

    Grayscale, CMYK, palettes, transparency and 16 bits all become uint8 of
    `channels` channels; see `decode_image` in `decoding.py`.

    Args:
        path: Path of a local folder; links are followed.
        image_size: Integer or pair (height, width), in pixels.
        test_path: Path of a second folder with held-out images and the same
            classes, such as the `val` folder of ImageNet. Or None.
        test_fraction: Float in [0, 1), the fraction of each class to hold out
            if there is no `test_path`. Defaults to 0.
        seed: Integer that decides which images are held out.
        labels: "inferred", or None to ignore the folders' names.
        channels: 3 or 1.
        on_error: What to do with a file that cannot be read. "raise" raises an
            error when the file is read: here if the images are kept in memory,
            otherwise during training. "skip" reads every file once before
            training, leaves out the unreadable ones, warns, and lists them in
            `ImageData.skipped`.
        in_memory: Boolean, whether to keep the decoded images in memory. None
            is True if they take at most 1 GiB.

    Returns:
        An `ImageData` of uint8 images (N, height, width, channels), sorted by
        path.

    Raises:
        FileNotFoundError: If a folder is missing or holds no images.
        NotADirectoryError: If a path is a file.
        ValueError: If an argument is out of range, there are images beside the
            folders of the classes, or a file is unreadable (it is named).
            During training, an unreadable file raises
            `tf.errors.InvalidArgumentError`.

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
            "`test_path` and `test_fraction` are mutually exclusive. Received: "
            f"test_path={test_path!r}, test_fraction={test_fraction!r}."
        )

    check_test_fraction(test_fraction)

    options = (image_size, channels, on_error, in_memory)
    paths, class_names, classes = _list_images("path", path, labels)
    train, skipped = _open_files(paths, classes, *options)
    test = None
    if test_path is not None:
        paths, names, classes = _list_images("test_path", test_path, labels)
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


class FileImageSet(ImageSet):
    """Image files, decoded whenever they are used.

    Args:
        paths: Sequence of strings (N,).
        labels: Integer array (N,), or None.
        image_size: Pair of integers (height, width) in pixels.
        channels: 1 or 3.
    """

    can_crop = True

    def __init__(self, paths, labels, image_size, channels):
        super().__init__(
            len(paths), (*image_size, channels), "uint8", labels is not None
        )
        self.paths = np.array(paths, dtype=object)
        self._labels = labels
        # `tf.data` runs on the host, also if there is a GPU.
        with tf.device("/cpu:0"):
            self._path_tensor = tf.constant([os.fsencode(p) for p in paths])
            self._label_tensor = tf.constant(
                np.zeros(len(paths), "int64") if labels is None else labels
            )

    @property
    def labels(self):
        return self._labels

    def subset(self, indices):
        """The files at `indices`, an integer array, as a set."""
        labels = None if self._labels is None else self._labels[indices]
        *image_size, channels = self.image_shape
        return FileImageSet(self.paths[indices], labels, image_size, channels)

    def try_load(self, index):
        """(is_valid, image) of one file."""
        *image_size, channels = self.image_shape
        path = tf.gather(self._path_tensor, index)
        return try_load_image_file(path, image_size, channels)

    def load(self, index):
        is_valid, image = self.try_load(index)

        # Python runs only if this fails: `tf.debugging.Assert` would also name
        # the file, but escapes letters that are not ASCII.
        def fail():
            path = tf.gather(self._path_tensor, index)
            image = tf.numpy_function(_raise_unreadable, [path], tf.uint8)
            return tf.ensure_shape(image, self.image_shape)

        image = tf.cond(is_valid, lambda: image, fail)
        return image, tf.gather(self._label_tensor, index)

    def load_boxes(self, index, draw):
        channels = self.image_shape[-1]
        # Without `try_load`, which would take a quarter of the time: TensorFlow
        # does not name a file that it cannot decode.
        boxes = decode_boxes(
            tf.io.read_file(tf.gather(self._path_tensor, index)),
            channels,
            draw,
            lambda data: decode_image(data, channels),
            lambda data, window: decode_jpeg_window(data, window, channels),
        )
        return boxes, tf.gather(self._label_tensor, index)


def _list_images(name, path, labels):
    """The sorted paths below a folder, the class names, each path's class."""
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
        # Sorted; without hidden folders and links that lead back here.
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
            f"`{name}` must contain images ({', '.join(EXTENSIONS)}), directly "
            f"or in folders. Received: {name}={path!r}, which has none."
        )

    parts = [os.path.relpath(file, path).split(os.sep) for file in paths]
    is_nested = [len(part) > 1 for part in parts]
    if labels is None or not any(is_nested):
        return paths, None, None
    if not all(is_nested):
        raise ValueError(
            f"`{name}` must contain images either in one folder per class, or "
            f"directly, without labels. Received: {name}={path!r}, with "
            f"{is_nested.count(False)} images beside the folders. Pass "
            "labels=None to use all of them without labels."
        )
    class_names = sorted({part[0] for part in parts})
    index = {class_name: i for i, class_name in enumerate(class_names)}
    classes = np.array([index[part[0]] for part in parts], "int64")
    return paths, tuple(class_names), classes


def _open_files(paths, labels, image_size, channels, on_error, in_memory):
    """The set of these files, and the paths of those that are left out."""
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
            raise _unreadable(path)
        start = stop

    skipped = tuple(files.paths[~is_valid].tolist())
    if len(skipped) == files.num_images:
        raise ValueError(
            f"None of the {len(skipped)} image files can be read. The first "
            f"is {skipped[0]!r}: {_reason(skipped[0])}"
        )
    if skipped:
        warnings.warn(
            f"Left out {len(skipped)} of {files.num_images} image files that "
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
    """The classes of the test images, numbered like those to train on."""
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


def _unreadable(path):
    """The error that names an image file and says what is wrong with it."""
    return ValueError(
        f"Cannot read the image file {path!r}: {_reason(path)} Fix or remove "
        'it, or pass on_error="skip" to leave out such files.'
    )


def _reason(path):
    """TensorFlow's message about a file that it cannot read."""
    try:
        decode_image(tf.io.read_file(os.fsencode(path)), channels=3)
    except tf.errors.OpError as error:
        message = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip()
        return message.rstrip(".") + "."
    return "It cannot be decoded."


def _raise_unreadable(path):
    raise _unreadable(os.fsdecode(path))
