"""Images in files, with or without a folder per class."""

import numbers
import os
import warnings

import numpy as np
import tensorflow as tf

from simclr_keras.data.arrays import VALUE_RANGES, ArrayImageSet, keep_in_memory
from simclr_keras.data.cached_images import cache_images, not_both
from simclr_keras.data.decoding import (
    check_image_size,
    decode_boxes,
    decode_jpeg_window,
    decode_other,
    decode_photo,
    try_load_image_file,
)
from simclr_keras.data.decoding_as_stored import (
    DTYPES,
    checked_image,
    decode_stored,
    stored_image,
)
from simclr_keras.data.decoding_by_pillow import MAX_PIXELS, pillow_image
from simclr_keras.data.decoding_cost import check_cost
from simclr_keras.data.image_files import EXTENSIONS, find_images
from simclr_keras.data.image_set import (
    ImageData,
    ImageSet,
    check_test_fraction,
    digest,
    split_indices,
)
from simclr_keras.data.messages import message_of
from simclr_keras.data.orientation import orientation_of

MAX_BYTES = 2**28  # of a file


def load_image_folder(
    path,
    image_size,
    *,
    test_path=None,
    test_fraction=0.0,
    seed=0,
    labels="inferred",
    channels=3,
    dtype=None,
    on_error="raise",
    in_memory=None,
    cache_dir=None,
    max_pixels=MAX_PIXELS,
    max_bytes=MAX_BYTES,
):
    """Images in a folder: JPEG, PNG, BMP, GIF, WebP or TIFF of any size.

    Images directly in the folder have no labels. Otherwise the first level of
    folders names the classes, and there may be more levels below. What a file
    is, is told by its content: a file of any name that begins as an image
    counts, and one that has an image's extension and is none is unreadable.
    Hidden files are ignored. HEIC photos need `pip install pillow-heif`. JPEG
    and PNG are read fastest.

    Each image is cropped to the largest central box with the aspect of
    `image_size` and resized to it (bicubic, antialiased), so that images can
    be batched. Use an `image_size` larger than the views, such as 256 for
    views of 224 pixels, to keep detail for the random crops.

    With 1 or 3 channels of uint8, which is what photos have, everything is
    converted to them: grayscale, CMYK, palettes, 16 bits, transparent pixels to
    white, and photos that a camera has stored sideways to upright. Images of
    other channels, or of uint16, are taken as they are stored, and must be
    alike: the bands of a satellite, the dyes of a microscope, an X-ray's 12
    bits. TIFF of these needs `pip install simclr_keras[tiff]`.

    Args:
        path: Path of a local folder. Links are followed; a file that can be
            reached in several ways counts once, with a warning.
        image_size: Integer or pair (height, width), in pixels.
        test_path: Path of a second folder with held-out images and the same
            classes, such as the `val` folder of ImageNet. Or None.
        test_fraction: Float in [0, 1), the fraction of each class to hold out
            if there is no `test_path`. Defaults to 0.
        seed: Integer that decides which images are held out.
        labels: "inferred", or None to ignore the folders' names.
        channels: Positive integer, or "auto": those of the first image, and
            its `dtype`. Defaults to 3.
        dtype: "uint8" or "uint16", what the values are. None is uint8, or with
            `channels="auto"` that of the first image. Defaults to None.
        on_error: What to do with a file that cannot be read. "raise" raises an
            error when the file is read: here if the images are kept in memory,
            otherwise during training. "skip" reads every file once before
            training, leaves out the unreadable ones, warns, and lists them in
            `ImageData.skipped`.
        in_memory: Boolean, whether to keep the decoded images in memory. None
            is True if they take at most 1 GiB and there is no `cache_dir`.
        cache_dir: Path of a folder for the decoded and resized images, in
            place of memory: one file for each set, uncompressed, which is
            written here on the first call and found by later runs. Images
            that are replaced under the same names are noticed by their sizes
            and times. Defaults to None.
        max_pixels: Positive integer. A larger image is unreadable, since a
            small file can hold one that takes all memory: up to 35 bytes a
            pixel while it is decoded. Defaults to 2**27, 134 megapixels.
        max_bytes: Positive integer. A larger file is unreadable. Defaults to
            2**28, 256 MiB.

    Returns:
        An `ImageData` of images (N, height, width, channels), sorted by path,
        uint8 or uint16.

    Raises:
        FileNotFoundError: If a folder is missing or holds no images.
        NotADirectoryError: If a path is a file.
        OSError: If the disk of `cache_dir` has too little space.
        ImportError: If TIFF is to be taken as it is stored and `tifffile` is
            not installed.
        ValueError: If an argument is out of range, `in_memory` and `cache_dir`
            are given together, an image of `test_path` is one of `path`, there
            are images beside the folders of the classes, or a file is
            unreadable (it is named).
            During training, an unreadable file raises
            `tf.errors.InvalidArgumentError`.

    Example:
        data = simclr_keras.data.load_image_folder("photos", image_size=96)
        dataset = simclr_keras.data.training_dataset(data.train, 256)
    """
    image_size = check_image_size(image_size)
    for name, value, allowed in (
        ("labels", labels, ("inferred", None)),
        ("dtype", dtype, (None, *DTYPES)),
        ("on_error", on_error, ("raise", "skip")),
    ):
        if value not in allowed:
            raise ValueError(
                f"`{name}` must be one of {allowed}. Received: "
                f"{name}={value!r}."
            )
    _check_channels(channels)
    if test_path is not None and test_fraction:
        raise ValueError(
            "`test_path` and `test_fraction` are mutually exclusive. Received: "
            f"test_path={test_path!r}, test_fraction={test_fraction!r}."
        )

    check_test_fraction(test_fraction)
    for name, value in (("max_pixels", max_pixels), ("max_bytes", max_bytes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{name}` must be a positive integer. Received: "
                f"{name}={value!r}."
            )

    in_memory = not_both(in_memory, cache_dir)
    paths, unreadable = _list_images("path", path, max_bytes)
    train_paths = paths
    channels, dtype = kind_of_images(paths, channels, dtype, max_pixels)
    options = (image_size, channels, dtype, on_error, in_memory, max_pixels)
    class_names, classes = _classes("path", path, paths, labels)
    train, skipped = _open_files(paths, unreadable, classes, *options)
    test = None
    if test_path is not None:
        paths, unreadable = _list_images("test_path", test_path, max_bytes)
        _check_are_others(train_paths, paths)
        names, classes = _classes("test_path", test_path, paths, labels)
        classes = _match_classes(class_names, names, classes)
        test, test_skipped = _open_files(paths, unreadable, classes, *options)
        skipped += test_skipped
    elif test_fraction:
        train_indices, test_indices = split_indices(
            train.num_images, train.labels, test_fraction, seed
        )
        test = train.subset(test_indices)
        train = train.subset(train_indices)
    if cache_dir is not None:
        train = cache_images(train, cache_dir)
        test = None if test is None else cache_images(test, cache_dir)
    return ImageData(
        name=os.path.basename(os.path.abspath(path)),
        train=train,
        test=test,
        value_range=VALUE_RANGES[dtype],
        class_names=class_names,
        skipped=skipped,
    )


class FileImageSet(ImageSet):
    """Image files, decoded whenever they are used.

    Args:
        paths: Sequence of strings (N,).
        labels: Integer array (N,), or None.
        image_size: Pair of integers (height, width) in pixels.
        channels: Integer; 1 and 3 of uint8 are what others are converted to.
        max_pixels: Integer, the largest image that is decoded.
        dtype: "uint8" or "uint16".
    """

    can_crop = True

    def __init__(
        self,
        paths,
        labels,
        image_size,
        channels,
        max_pixels=MAX_PIXELS,
        dtype="uint8",
    ):
        super().__init__(
            len(paths), (*image_size, channels), dtype, labels is not None
        )
        self._are_photos = dtype == "uint8" and channels in (1, 3)
        self.max_pixels = max_pixels
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
        return FileImageSet(
            self.paths[indices],
            labels,
            image_size,
            channels,
            self.max_pixels,
            self.dtype,
        )

    def fingerprint(self, contents=False):
        folder = os.path.commonpath([os.path.dirname(p) for p in self.paths])

        def parts():
            for path in self.paths:
                name = os.path.relpath(path, folder)
                size = os.path.getsize(path)
                yield os.fsencode(name) + b"\0%d\0" % size
                if contents:
                    with open(path, "rb") as file:
                        yield file.read()

        return {**super().fingerprint(contents), "files": digest(parts())}

    def origin(self):
        # A file that is replaced may keep its name and size.
        return digest(
            os.fsencode(
                f"{os.path.realpath(path)}\0{os.stat(path).st_mtime_ns}"
            )
            for path in self.paths
        )

    def try_load(self, index):
        """(is_valid, image) of one file."""
        path = tf.gather(self._path_tensor, index)
        return try_load_image_file(
            path, self.image_shape, self.dtype, self._decode
        )

    def _decode(self, data):
        channels = self.image_shape[-1]
        if self._are_photos:
            return decode_photo(data, channels, self.max_pixels)
        return decode_stored(data, channels, self.dtype, self.max_pixels)

    def reason(self, path):
        """The sentence about a file that cannot be read."""
        try:
            data = tf.io.read_file(os.fsencode(path))
            check_cost(data.numpy())
            if not self._are_photos:
                channels = self.image_shape[-1]
                checked_image(
                    data.numpy(), channels, self.dtype, self.max_pixels
                )
            if data.numpy()[:3] not in (b"\xff\xd8\xff", b"\x89PN"):
                # Its own errors say more than what comes through TensorFlow.
                pillow_image(data.numpy(), 3, self.max_pixels)
            decode_photo(data, channels=3, max_pixels=self.max_pixels)
        except (ValueError, ImportError) as error:
            return str(error)
        except tf.errors.OpError as error:
            return message_of(error)
        return "It cannot be decoded."

    def unreadable(self, path):
        """The error that names a file and says what is wrong with it."""
        return _unreadable(path, self.reason(path))

    def load(self, index):
        is_valid, image = self.try_load(index)

        # Python runs only if this fails: `tf.debugging.Assert` would also name
        # the file, but escapes letters that are not ASCII.
        def fail():
            path = tf.gather(self._path_tensor, index)
            image = tf.numpy_function(self._raise, [path], self.dtype)
            return tf.ensure_shape(image, self.image_shape)

        image = tf.cond(is_valid, lambda: image, fail)
        return image, tf.gather(self._label_tensor, index)

    def _raise(self, path):
        raise self.unreadable(os.fsdecode(path))

    def load_boxes(self, index, draw):
        channels = self.image_shape[-1]
        # Without `try_load`, which would take a quarter of the time: TensorFlow
        # does not name a file that it cannot decode.
        data = tf.io.read_file(tf.gather(self._path_tensor, index))
        if not self._are_photos:
            boxes = decode_boxes(data, draw, self._decode)
            return boxes, tf.gather(self._label_tensor, index)
        # Upright as a whole; a JPEG's boxes are turned one by one.
        boxes = decode_boxes(
            data,
            draw,
            lambda data: decode_other(data, channels, self.max_pixels),
            lambda data, window: decode_jpeg_window(data, window, channels),
            orientation_of(data),
            self.max_pixels,
        )
        return boxes, tf.gather(self._label_tensor, index)


def _list_images(name, path, max_bytes):
    """The image files below a folder, and those that cannot be read."""
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
    found = find_images(path, max_bytes)
    if found.repeated:
        again, first = found.repeated[0]
        warnings.warn(
            f"{len(found.repeated)} files or folders below {path!r} can be "
            f"reached in several ways and count once, such as {again!r}, "
            f"which is {first!r}.",
            stacklevel=3,
        )
    if not found.paths and not found.unreadable:
        raise FileNotFoundError(
            f"`{name}` must contain images ({', '.join(EXTENSIONS)}), directly "
            f"or in folders. Received: {name}={path!r}, which has none."
        )
    return found.paths, found.unreadable


def _check_are_others(paths, test_paths):
    """Raises if an image that is held out would be trained on as well."""
    known = {_identity(path): path for path in paths}
    for path in test_paths:
        same = known.get(_identity(path))
        if same is not None:
            raise ValueError(
                "`test_path` must hold other images than `path`. Received: "
                f"{path!r}, which is {same!r}."
            )


def _identity(path):
    """What all names of a file have in common."""
    status = os.stat(path)
    # Some file systems number nothing.
    if not status.st_ino:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _classes(name, path, paths, labels):
    """The names of the classes, and each path's class."""
    parts = [os.path.relpath(file, path).split(os.sep) for file in paths]
    is_nested = [len(part) > 1 for part in parts]
    if labels is None or not any(is_nested):
        return None, None
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
    return tuple(class_names), classes


def _open_files(
    paths,
    unreadable,
    labels,
    image_size,
    channels,
    dtype,
    on_error,
    in_memory,
    max_pixels,
):
    """The set of these files, and the paths of those that are left out."""
    unusable = tuple(unreadable)
    if unusable and (on_error == "raise" or not paths):
        raise _unreadable(unusable[0], unreadable[unusable[0]])
    files = FileImageSet(paths, labels, image_size, channels, max_pixels, dtype)
    in_memory = keep_in_memory(files, in_memory)
    if not in_memory and on_error == "raise":
        return files, ()

    images = np.empty(
        (files.num_images if in_memory else 0, *files.image_shape), dtype
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
            raise files.unreadable(path)
        start = stop

    invalid = files.paths[~is_valid].tolist()
    skipped = (*unusable, *invalid)
    if len(invalid) == files.num_images:
        raise ValueError(
            f"None of the {len(skipped)} image files can be read. The first "
            f"is {invalid[0]!r}: {files.reason(invalid[0])}"
        )
    if skipped:
        warnings.warn(
            f"Left out {len(skipped)} of {files.num_images + len(unusable)} "
            f"image files that cannot be read: {', '.join(skipped[:5])}"
            f"{', ...' if len(skipped) > 5 else ''}",
            stacklevel=3,
        )
    if invalid:
        files = files.subset(is_valid)
        images = images[is_valid] if in_memory else images
    if in_memory:
        return ArrayImageSet(images, files.labels, files.paths), skipped
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


def _unreadable(path, reason):
    """The error that names an image file and says what is wrong with it."""
    return ValueError(
        f"Cannot read the image file {path!r}: {reason} Fix or remove "
        'it, or pass on_error="skip" to leave out such files.'
    )


def _check_channels(channels):
    """Raises unless it is a positive integer or "auto"."""
    if isinstance(channels, str) and channels == "auto":
        return
    if isinstance(channels, bool) or not isinstance(channels, numbers.Integral):
        raise TypeError(
            '`channels` must be a positive integer or "auto". Received: '
            f"channels={channels!r}."
        )
    if channels < 1:
        raise ValueError(
            '`channels` must be a positive integer or "auto". Received: '
            f"channels={channels!r}."
        )


def kind_of_images(paths, channels="auto", dtype=None, max_pixels=MAX_PIXELS):
    """(channels, dtype) of image files: for "auto" those of the first one.

    Raises:
        ValueError: If none of them can be read as it is stored.
    """
    if channels != "auto":
        return int(channels), dtype or "uint8"
    error = None
    for path in paths:
        try:
            with open(path, "rb") as file:
                image = stored_image(file.read(), max_pixels)
        except ValueError as caught:  # Told as that of all others.
            error = error or _unreadable(path, str(caught))
            continue
        return image.shape[-1], dtype or str(image.dtype)
    if error is None:  # There are none, which is told with the reasons.
        return 3, dtype or "uint8"
    raise error
