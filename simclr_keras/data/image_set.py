"""Sets of images, and the pair of sets that every source returns."""

import abc
import dataclasses
import hashlib
import math

import numpy as np
import tensorflow as tf

from simclr_keras.argument_checks import check_positive_integer


class ImageSet(abc.ABC):
    """Images of one shape and dtype in a fixed order, with or without labels.

    The sources of this package return subclasses that hold the images in
    memory, as file names, or as records on disk. Your own subclass implements
    `load` and `labels`, and `records` unless its images can be read by index.

    Attributes:
        num_images: Integer, N.
        image_shape: Tuple of integers (H, W, C).
        dtype: String, dtype of the images.
        has_labels: Boolean.
        labels: Integer array (N,) in the order of `batches`, or None.
        loads_batches: Boolean, whether `load` takes a batch of records
            instead of one.
        can_crop: Boolean, whether images are decoded whenever they are used,
            so that `load_boxes` can cut boxes out of them.

    Example:
        test = simclr_keras.data.load_digits().test
        images, labels = test.arrays()
        dataset = test.batches(256, with_labels=True)
    """

    loads_batches = False
    can_crop = False

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
            dimension if `loads_batches`. The label is int64, and ignored if
            the set has no labels.
        """

    def load_boxes(self, record, draw):
        """Reads boxes of one image as it is stored, before it is resized.

        Args:
            record: As in `load`.
            draw: Function of (rows, columns), the size of the stored image,
                that returns its boxes, as in `decode_boxes`.

        Returns:
            (boxes, label): a tuple of tensors (height, width, C), and a tensor
            () as in `load`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `load_boxes(record, draw)`, "
            "since it says `can_crop = True`."
        )

    def records(self, seed=None):
        """One pass over the set, as small records that `load` can read.

        Args:
            seed: int64 tensor (2,) that alone determines the order. None is
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
        """Memory that all images take when decoded, in bytes."""
        values = math.prod((self.num_images, *self.image_shape))
        return values * np.dtype(self.dtype).itemsize

    def steps_per_epoch(self, batch_size):
        """Number of full batches in the set: N // batch_size, at least 1."""
        check_positive_integer("batch_size", batch_size)
        batch_size = int(batch_size)
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
            with_labels: Boolean, whether to return (images, labels) instead
                of images.
            num_parallel_calls: Integer, the number of images to read in
                parallel. None lets `tf.data` decide.

        Returns:
            A `tf.data.Dataset` of images (B, H, W, C), or of
            (images, labels (B,) int64).
        """
        check_positive_integer("batch_size", batch_size)
        batch_size = int(batch_size)
        check_parallel_calls(num_parallel_calls)
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
            None if there are none.
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
        """Turns a dataset of records into batches, with prefetching."""
        self.check_labels(with_labels)

        def load(*record):
            image, label = self.load(*record)
            return (image, label) if with_labels else image

        calls = num_parallel_calls or tf.data.AUTOTUNE
        if self.loads_batches:
            dataset = records.batch(batch_size, drop_remainder).map(load, calls)
        else:
            dataset = records.map(load, calls).batch(batch_size, drop_remainder)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def fingerprint(self, contents=False):
        """What tells this set from another one, as JSON can hold it.

        For a run that is resumed, which must go on with the same images.

        Args:
            contents: Boolean, whether to read all images for it. Otherwise
                their files' names and sizes stand for them, where they are in
                files. Defaults to False.

        Returns:
            Dictionary: the number of images, their shape and dtype, and a
            digest of the labels; subclasses add one of the images.
        """
        labels = self.labels
        return {
            "num_images": self.num_images,
            "image_shape": list(self.image_shape),
            "dtype": self.dtype,
            "labels": None if labels is None else digest([labels.tobytes()]),
        }

    def origin(self):
        """Where the images come from, as a string for `cache_images`.

        Two sets of the same fingerprint and origin have the same images. Empty,
        as here, where the fingerprint tells enough.
        """
        return ""

    def check_labels(self, with_labels):
        """Raises a `ValueError` if labels are asked for and there are none."""
        if with_labels and not self.has_labels:
            raise ValueError(
                "`with_labels=True` needs a set of images with labels. "
                f"Received: {self!r}."
            )

    def __repr__(self):
        return (
            f"{type(self).__name__}(num_images={self.num_images}, "
            f"image_shape={self.image_shape}, dtype={self.dtype!r}, "
            f"has_labels={self.has_labels})"
        )


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A set of images to train on, and one held out to evaluate with.

    Attributes:
        name: String, the name of the data in reports and file names.
        train: `ImageSet`, the images to train on.
        test: `ImageSet` of held-out images, or None.
        value_range: Pair of floats, the values of black and white in the
            images: (0, 255) for uint8.
        class_names: Tuple of strings, the names of labels 0, 1, ...; None if
            the images have no labels.
        skipped: Tuple of strings, the unreadable files that were left out (see
            `load_image_folder`).

    Example:
        data = simclr_keras.data.load_digits()
        print(data.name, data.train.num_images, data.image_shape)
    """

    name: str
    train: ImageSet
    test: ImageSet | None = None
    value_range: tuple[float, float] = (0.0, 255.0)
    class_names: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()

    @property
    def image_shape(self):
        """(H, W, C) of every image, in pixels and channels."""
        return self.train.image_shape

    @property
    def num_classes(self):
        """Number of classes, or None without labels."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_skipped(self):
        """Number of unreadable files that were left out."""
        return len(self.skipped)


def digest(parts):
    """SHA-256 of an iterable of bytes, in hexadecimal digits."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def split_indices(num_images, labels, test_fraction, seed):
    """Splits a set into images to train on and images to hold out.

    With labels, each class is split in the same proportion and keeps at least
    one image to train on.

    Args:
        num_images: Integer, N.
        labels: Integer array (N,), or None.
        test_fraction: Float in [0, 1), the fraction to hold out.
        seed: Integer; the same seed always gives the same split.

    Returns:
        (train, test): two increasing integer arrays, together 0 ... N - 1.
    """
    check_test_fraction(test_fraction)
    # NumPy guarantees that the numbers of RandomState never change.
    order = np.random.RandomState(seed).permutation(num_images)
    groups = np.zeros(num_images, int) if labels is None else labels
    is_test = np.zeros(num_images, bool)
    for group in np.unique(groups):
        members = order[groups[order] == group]
        count = min(round(test_fraction * len(members)), len(members) - 1)
        is_test[members[:count]] = True
    if test_fraction > 0 and not is_test.any():
        raise ValueError(
            "`test_fraction` must be large enough to hold out one image. "
            f"Received: test_fraction={test_fraction!r}, with {num_images} "
            "images."
        )
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def check_test_fraction(test_fraction):
    """Raises a `ValueError` unless the fraction lies in [0, 1)."""
    if not 0 <= test_fraction < 1:
        raise ValueError(
            "`test_fraction` must lie in [0, 1). Received: "
            f"test_fraction={test_fraction!r}."
        )


def permutation(length, seed):
    """A random order of 0 ... length - 1, determined by `seed` alone.

    Args:
        length: Integer, how many numbers to order.
        seed: int64 tensor (2,).

    Returns:
        int32 tensor (length,).
    """
    # Stateless draws are guaranteed to stay the same between versions and
    # devices; `stateless_shuffle` is not, hence the sort.
    draws = tf.random.stateless_uniform(
        (length,), seed, None, None, dtype=tf.int64, alg="philox"
    )
    return tf.argsort(draws)


def check_parallel_calls(num_parallel_calls):
    """Raises unless `tf.data` can do so many calls at a time."""
    expected = "`num_parallel_calls` must be a positive integer or None"
    received = f"Received: num_parallel_calls={num_parallel_calls!r}"
    if num_parallel_calls is None:
        return
    if isinstance(num_parallel_calls, bool) or not isinstance(
        num_parallel_calls, (int, np.integer)
    ):
        raise TypeError(
            f"{expected}. {received} of type {type(num_parallel_calls)}."
        )
    # -1 is `tf.data.AUTOTUNE`.
    if num_parallel_calls != -1 and not 1 <= num_parallel_calls < 2**31:
        raise ValueError(f"{expected}. {received}.")
