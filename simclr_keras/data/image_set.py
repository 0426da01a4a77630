"""A set of images: how many, how large, and how to read them."""

import abc
import math

import numpy as np
import tensorflow as tf


class ImageSet(abc.ABC):
    """Images of one shape and dtype in a fixed order, labelled or not.

    The sources of this package return subclasses that hold the images in
    memory, as file names, or as records on disk. A subclass of your own gives
    `load` and `labels`; unless its images can be read by index, also `records`.

    Attributes:
        num_images: Integer, N.
        image_shape: Tuple of integers (H, W, C).
        dtype: String, dtype of the images.
        has_labels: Boolean.
        labels: Integer array (N,) in the order of `batches`, or None.
        loads_batches: Boolean, whether `load` takes a batch of records rather
            than one.

    Example:
        test = simclr_keras.data.load_digits().test
        images, labels = test.arrays()
        dataset = test.batches(256, with_labels=True)
    """

    loads_batches = False

    def __init__(self, num_images, image_shape, dtype, has_labels):
        if num_images < 1:
            raise ValueError(
                "A set of images must hold at least one image. Received: "
                f"num_images={num_images}."
            )
        self.num_images = int(num_images)
        self.image_shape = tuple(int(size) for size in image_shape)
        self.dtype = str(np.dtype(dtype))
        self.has_labels = bool(has_labels)

    @property
    @abc.abstractmethod
    def labels(self):
        """Integer array (N,) in the order of `batches`, or None."""

    @abc.abstractmethod
    def load(self, record):
        """Reads one record; runs in parallel, as part of a `tf.data` graph.

        Args:
            record: An element of `records()`, or a batch of them if
                `loads_batches`.

        Returns:
            (image, label): tensors (H, W, C) and (), both with a leading batch
            dimension if `loads_batches`. The label is int64; anything where
            there are no labels.
        """

    def records(self, seed=None):
        """One pass over the set, as cheap records that `load` can read.

        Args:
            seed: int64 tensor (2,): the order follows from it alone. None is
                the order of `labels`.

        Returns:
            A `tf.data.Dataset` of N records; here, indices into the set.
        """
        if seed is None:
            return tf.data.Dataset.range(self.num_images)
        return tf.data.Dataset.from_tensor_slices(
            permutation(self.num_images, seed)
        )

    @property
    def num_bytes(self):
        """Memory that all images take once decoded, in bytes."""
        values = math.prod((self.num_images, *self.image_shape))
        return values * np.dtype(self.dtype).itemsize

    def steps_per_epoch(self, batch_size):
        """Number of full batches in the set: N // batch_size, at least 1."""
        batch_size = _positive_integer(batch_size)
        if batch_size > self.num_images:
            raise ValueError(
                "`batch_size` must be at most the number of images, since "
                f"only full batches are used. Received: batch_size="
                f"{batch_size}, with {self.num_images} images. Choose a "
                "smaller batch."
            )
        return self.num_images // batch_size

    def batches(self, batch_size, with_labels=False, num_parallel_calls=None):
        """All images once, in order, for evaluation.

        Args:
            batch_size: Positive integer. The last batch may be smaller.
            with_labels: Boolean, deliver (images, labels) instead of images.
            num_parallel_calls: Integer, how many images are read at a time.
                None lets `tf.data` decide.

        Returns:
            A `tf.data.Dataset` of images (B, H, W, C), or of
            (images, labels (B,) int64).
        """
        batch_size = _positive_integer(batch_size)
        dataset = self.load_records(
            self.records(),
            batch_size,
            with_labels=with_labels,
            num_parallel_calls=num_parallel_calls,
        )
        num_batches = math.ceil(self.num_images / batch_size)
        return dataset.apply(
            tf.data.experimental.assert_cardinality(num_batches)
        )

    def arrays(self):
        """All images and labels in memory, in order.

        Returns:
            (images, labels): arrays (N, H, W, C) and (N,) int64; labels is
            None where there are none.
        """
        images = np.empty((self.num_images, *self.image_shape), self.dtype)
        labels = np.empty(self.num_images, "int64") if self.has_labels else None
        start = 0
        for batch in self.batches(256, with_labels=self.has_labels):
            if self.has_labels:
                batch, batch_labels = batch
                labels[start : start + len(batch)] = batch_labels
            images[start : start + len(batch)] = batch
            start += len(batch)
        return images, labels

    def load_records(
        self,
        records,
        batch_size,
        drop_remainder=False,
        with_labels=False,
        num_parallel_calls=None,
    ):
        """Turns a dataset of records into batches, read ahead of their use."""
        if with_labels and not self.has_labels:
            raise ValueError(
                "`with_labels=True` needs a set of images that has labels. "
                f"Received: {self!r}."
            )

        def load(*record):
            image, label = self.load(*record)
            return (image, label) if with_labels else image

        calls = num_parallel_calls or tf.data.AUTOTUNE
        if self.loads_batches:
            dataset = records.batch(batch_size, drop_remainder).map(load, calls)
        else:
            dataset = records.map(load, calls).batch(batch_size, drop_remainder)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def __repr__(self):
        return (
            f"{type(self).__name__}(num_images={self.num_images}, "
            f"image_shape={self.image_shape}, dtype={self.dtype!r}, "
            f"has_labels={self.has_labels})"
        )


def permutation(length, seed):
    """A random order of 0 .. length - 1 that follows from `seed` alone.

    Args:
        length: Integer, how many numbers to put in order.
        seed: int64 tensor (2,).

    Returns:
        int32 tensor (length,).
    """
    # Sorting stateless draws, as their values are promised not to change
    # between versions and devices; those of `stateless_shuffle` are not.
    draws = tf.random.stateless_uniform(
        (length,), seed, None, None, dtype=tf.int64, alg="philox"
    )
    return tf.argsort(draws)


def _positive_integer(batch_size):
    if isinstance(batch_size, bool) or not isinstance(
        batch_size, (int, np.integer)
    ):
        raise TypeError(
            "`batch_size` must be an integer. Received: "
            f"batch_size={batch_size!r} of type {type(batch_size)}."
        )
    if batch_size < 1:
        raise ValueError(
            "`batch_size` must be at least 1. Received: "
            f"batch_size={batch_size}."
        )
    return int(batch_size)
