"""Decoded images in one file on disk, which any later run reads."""

import json
import os
import shutil

import numpy as np
import tensorflow as tf

from simclr_keras.data.image_set import ImageSet, digest
from simclr_keras.data.messages import message_of
from simclr_keras.write_aside import write_aside

# What is done to an image between its file and here: another number makes all
# caches anew.
_VERSION = 1
_READ = 256  # images at a time, while the file is written


def cache_images(images, folder):
    """The images of a set, decoded and resized once, in a file.

    The file is written on the first call, which decodes all images, and found
    on later ones, by what the set is made of: names, sizes and times of the
    image files or name and version of the TFDS data set, and the shape.

    Args:
        images: `ImageSet`.
        folder: Path of the folder of caches, which is created if it is
            missing.

    Returns:
        A `CachedImageSet`.

    Raises:
        NotADirectoryError: If the folder is a file.
        OSError: If the disk has too little space for it.
        ValueError: If an image cannot be read.
    """
    folder = os.path.expanduser(os.fspath(folder))
    if not folder or (os.path.exists(folder) and not os.path.isdir(folder)):
        raise NotADirectoryError(
            f"`cache_dir` must be a folder. Received: cache_dir={folder!r}."
        )
    key = json.dumps([_VERSION, images.fingerprint(), images.origin()])
    path = os.path.join(folder, f"{digest([key.encode()])[:32]}.npy")
    shape = (images.num_images, *images.image_shape)
    stored = _open(path, shape, images.dtype)
    if stored is None:
        os.makedirs(folder, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < images.num_bytes:
            raise OSError(
                f"The decoded images take {images.num_bytes:,} bytes, and "
                f"{free:,} are free. Received: cache_dir={folder!r}. Choose a "
                "smaller `image_size` or a folder on another disk."
            )
        with write_aside(path) as partial:
            try:
                _write(images, partial, shape)
            except tf.errors.InvalidArgumentError as error:
                raise ValueError(message_of(error)) from None
        stored = _open(path, shape, images.dtype)
    return CachedImageSet(stored, images)


class CachedImageSet(ImageSet):
    """Images in a file of NumPy's, read whenever they are used.

    Args:
        stored: Array (N, H, W, C), mapped from the file.
        source: `ImageSet`, from which the file was made.
    """

    loads_batches = True

    def __init__(self, stored, source):
        super().__init__(
            len(stored), stored.shape[1:], stored.dtype, source.has_labels
        )
        self._stored = stored
        self._source = source
        self.paths = getattr(source, "paths", None)
        # `tf.data` runs on the host, also if there is a GPU.
        with tf.device("/cpu:0"):
            self._label_tensor = tf.constant(
                source.labels
                if source.has_labels
                else np.zeros(len(stored), "int64")
            )

    @property
    def labels(self):
        return self._source.labels

    def fingerprint(self, contents=False):
        # A run may be resumed with or without a cache.
        return self._source.fingerprint(contents)

    def origin(self):
        return self._source.origin()

    def load(self, indices):
        # One call for a batch, in which NumPy lets other threads run.
        images = tf.numpy_function(
            lambda indices: self._stored.take(indices, axis=0),
            [indices],
            self.dtype,
            stateful=False,
        )
        images = tf.ensure_shape(images, (*indices.shape, *self.image_shape))
        return images, tf.gather(self._label_tensor, indices)


def not_both(in_memory, cache_dir):
    """`in_memory`, False if it is None and there is a `cache_dir`."""
    if cache_dir is None:
        return in_memory
    if in_memory:
        raise ValueError(
            "`in_memory` and `cache_dir` are mutually exclusive. Received: "
            f"in_memory={in_memory!r}, cache_dir={cache_dir!r}."
        )
    return False


def _open(path, shape, dtype):
    """The array in a file, or None if there is no such file, or another one."""
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    if not images.flags.c_contiguous:
        return None
    return (
        images if (images.shape, str(images.dtype)) == (shape, dtype) else None
    )


def _write(images, path, shape):
    stored = np.lib.format.open_memmap(path, "w+", images.dtype, shape)
    start = 0
    for batch in images.batches(_READ):
        stored[start : start + len(batch)] = batch
        start += len(batch)
    stored.flush()
