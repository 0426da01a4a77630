"""Images held in memory."""

import numpy as np
import tensorflow as tf

from simclr_keras.data.image_set import ImageSet


class ArrayImageSet(ImageSet):
    """Images and labels in memory; a batch is one gather.

    Args:
        images: Array (N, H, W, C).
        labels: Integer array (N,), or None.
    """

    loads_batches = True

    def __init__(self, images, labels=None):
        super().__init__(
            len(images), images.shape[1:], images.dtype, labels is not None
        )
        self._images = images
        self._labels = labels
        self._tensors = None

    @property
    def labels(self):
        return self._labels

    def arrays(self):
        return self._images, self._labels

    def subset(self, indices):
        """The images at `indices`, an integer array, as a set."""
        labels = None if self._labels is None else self._labels[indices]
        return ArrayImageSet(self._images[indices], labels)

    def load(self, indices):
        images, labels = self._tensors
        return tf.gather(images, indices), tf.gather(labels, indices)

    def load_records(self, *args, **kwargs):
        if self._tensors is None:
            labels = self._labels
            # On the host, where `tf.data` works, also if there is a GPU.
            with tf.device("/cpu:0"):
                self._tensors = (
                    tf.constant(self._images),
                    tf.constant(
                        np.zeros(self.num_images, "int64")
                        if labels is None
                        else labels
                    ),
                )
        return super().load_records(*args, **kwargs)
