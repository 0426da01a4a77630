"""Images in files."""

import os
import re

import numpy as np
import tensorflow as tf

from simclr_keras.data.decoding import decode_image, try_load_image_file
from simclr_keras.data.image_set import ImageSet


class FileImageSet(ImageSet):
    """Image files, decoded each time they are used.

    Args:
        paths: Sequence of strings (N,).
        labels: Integer array (N,), or None.
        image_size: Pair of integers (height, width) in pixels.
        channels: 1 or 3.
    """

    def __init__(self, paths, labels, image_size, channels):
        super().__init__(
            len(paths), (*image_size, channels), "uint8", labels is not None
        )
        self.paths = np.array(paths, dtype=object)
        self._labels = labels
        # On the host, where `tf.data` works, also if there is a GPU.
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

        # Python runs in the case of failure only: `tf.debugging.Assert` would
        # give the name, but spell letters beyond ASCII as octal numbers.
        def fail():
            path = tf.gather(self._path_tensor, index)
            image = tf.numpy_function(_raise_unreadable, [path], tf.uint8)
            return tf.ensure_shape(image, self.image_shape)

        image = tf.cond(is_valid, lambda: image, fail)
        return image, tf.gather(self._label_tensor, index)


def unreadable(path):
    """The error that names an image file and says what is wrong with it."""
    return ValueError(
        f"Cannot read the image file {path!r}: {reason(path)} Mend or remove "
        'it, or pass on_error="skip" to leave out such files.'
    )


def reason(path):
    """Why TensorFlow cannot read this file, in its words."""
    try:
        decode_image(tf.io.read_file(os.fsencode(path)), channels=3)
    except tf.errors.OpError as error:
        message = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip()
        return message.rstrip(".") + "."
    return "It cannot be decoded."


def _raise_unreadable(path):
    raise unreadable(os.fsdecode(path))
