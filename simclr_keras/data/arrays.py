"""Images in memory: your own arrays, or scikit-learn's digits."""

import warnings

import numpy as np
import tensorflow as tf

from simclr_keras.argument_checks import check_names, to_array
from simclr_keras.data.image_set import (
    ImageData,
    ImageSet,
    digest,
    split_indices,
)
from simclr_keras.optional_imports import import_optional
from simclr_keras.value_range import standardize_value_range

VALUE_RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}
MOST_CLASSES = 10_000_000
IN_MEMORY_LIMIT = 2**30  # bytes


def from_arrays(
    images,
    labels=None,
    *,
    test_images=None,
    test_labels=None,
    value_range=None,
    class_names=None,
    name="arrays",
):
    """Images from arrays.

    Args:
        images: Array (N, H, W, C), uint8, uint16 or float; float64 becomes
            float32, other dtypes are kept.
        labels: Integer array (N,) or (N, 1) of classes, counted from 0, or
            None.
        test_images: Held-out images like `images`, or None.
        test_labels: Their labels, or None.
        value_range: Pair of numbers, the values of black and white. None takes
            the whole range of uint8 or uint16 and is not allowed for floats.
        class_names: Sequence of strings, one per class. None takes "0", "1",
            ...
        name: String, the name of the data in reports.

    Returns:
        An `ImageData`.

    Raises:
        TypeError: If the dtype of images or labels is not one of these.
        ValueError: If shapes do not match, a value is NaN or outside
            `value_range`, or a label has no class name.

    Example:
        import numpy as np

        images = np.random.default_rng(0).random((100, 32, 32, 3))
        data = simclr_keras.data.from_arrays(images, value_range=(0, 1))
    """
    images = _check_images("images", images)
    if value_range is None:
        value_range = VALUE_RANGES.get(str(images.dtype))
    if value_range is None:
        raise ValueError(
            "`value_range` must be given for images of a float dtype. "
            f"Received: images.dtype={images.dtype}, value_range=None. Pass "
            "value_range=(0, 1) if black is 0 and white is 1."
        )
    value_range = tuple(map(float, standardize_value_range(value_range)))
    _check_range("images", images, value_range)
    train = ArrayImageSet(images, _check_labels("labels", labels, images))

    test = None
    if test_images is None and test_labels is not None:
        raise ValueError(
            "`test_labels` needs `test_images`. Received: test_images=None."
        )
    if test_images is not None:
        test_images = _check_images("test_images", test_images)
        if (test_images.shape[1:], test_images.dtype) != (
            images.shape[1:],
            images.dtype,
        ):
            raise ValueError(
                "`test_images` must have the shape (H, W, C) and the dtype of "
                f"`images`. Received: images {images.shape} {images.dtype}, "
                f"test_images {test_images.shape} {test_images.dtype}."
            )
        _check_range("test_images", test_images, value_range)
        test_labels = _check_labels("test_labels", test_labels, test_images)
        test = ArrayImageSet(test_images, test_labels)

    all_labels = [part.labels for part in (train, test) if part is not None]
    all_labels = [part for part in all_labels if part is not None]
    if class_names is not None:
        check_names("class_names", class_names)
    if all_labels:
        num_classes = 1 + max(int(part.max()) for part in all_labels)
        if class_names is None or not len(class_names):
            class_names = map(str, range(num_classes))
        class_names = tuple(class_names)
        if len(class_names) < num_classes:
            raise ValueError(
                "`class_names` must have a name for each class. Received: "
                f"{len(class_names)} names, and the label {num_classes - 1}."
            )
    return ImageData(name, train, test, value_range, class_names)


def load_digits(test_fraction=0.25, seed=0):
    """The 1,797 handwritten digits of scikit-learn: 8x8 pixels, ten classes.

    They are real, small, and need no download. Their 17 levels 0 ... 16 are
    scaled to 0 ... 255 and rounded, so `round(image * 16 / 255)` gives the
    levels back.

    Args:
        test_fraction: Float in [0, 1), the fraction of each class to hold
            out; 0 holds out none. Defaults to 0.25.
        seed: Integer that decides which images are held out; nothing else
            does.

    Returns:
        An `ImageData` of uint8 images (N, 8, 8, 1) with labels.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If `test_fraction` is out of range.

    Example:
        data = simclr_keras.data.load_digits()
        images, labels = data.train.arrays()

    Reference:
        - [Alpaydin and Kaynak, 1998](https://doi.org/10.24432/C50P49),
          Optical Recognition of Handwritten Digits.
    """
    datasets = import_optional(
        "sklearn.datasets", "scikit-learn", "examples", "`load_digits`"
    )
    digits = datasets.load_digits()
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., None]
    labels = digits.target.astype("int64")
    train, test = split_indices(len(images), labels, test_fraction, seed)
    return ImageData(
        name="digits",
        train=ArrayImageSet(images[train], labels[train]),
        test=ArrayImageSet(images[test], labels[test]) if len(test) else None,
        class_names=tuple(str(digit) for digit in range(10)),
    )


class ArrayImageSet(ImageSet):
    """Images and labels in memory; a batch is one gather.

    Args:
        images: Array (N, H, W, C).
        labels: Integer array (N,), or None.
        paths: Array of strings (N,), the files that the images were in, or
            None.
    """

    loads_batches = True

    def __init__(self, images, labels=None, paths=None):
        super().__init__(
            len(images), images.shape[1:], images.dtype, labels is not None
        )
        self._images = images
        self._labels = labels
        self.paths = paths
        self._tensors = None

    @property
    def labels(self):
        return self._labels

    def arrays(self):
        return self._images, self._labels

    def fingerprint(self, contents=False):
        # They are at hand, whatever is asked for.
        images = np.ascontiguousarray(self._images)
        return {
            **super().fingerprint(contents),
            "images": digest([memoryview(images).cast("B")]),
        }

    def subset(self, indices):
        """The images at `indices`, an integer array, as a set."""
        labels = None if self._labels is None else self._labels[indices]
        paths = None if self.paths is None else self.paths[indices]
        return ArrayImageSet(self._images[indices], labels, paths)

    def load(self, indices):
        images, labels = self._tensors
        return tf.gather(images, indices), tf.gather(labels, indices)

    def load_records(self, *args, **kwargs):
        if self._tensors is None:
            labels = self._labels
            # `tf.data` runs on the host, also if there is a GPU.
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


def keep_in_memory(images, in_memory):
    """Whether to decode all images once and keep them in memory.

    Args:
        images: An `ImageSet`.
        in_memory: Boolean, the answer; None is True for up to 1 GiB.
    """
    if in_memory is None:
        return images.num_bytes <= IN_MEMORY_LIMIT
    return bool(in_memory)


def _check_images(name, images):
    images = to_array(name, images)
    if images.ndim != 4 or 0 in images.shape:
        hint = " Add a channel: images[..., None]." if images.ndim == 3 else ""
        raise ValueError(
            f"`{name}` must have shape (N, H, W, C) and not be empty. "
            f"Received: {name}.shape={images.shape}.{hint}"
        )
    if images.dtype == "float64":
        images = images.astype("float32")
    if str(images.dtype) not in ("uint8", "uint16", "float16", "float32"):
        raise TypeError(
            f"`{name}` must be uint8, uint16 or float. Received: "
            f"{name}.dtype={images.dtype}. Convert them, for example with "
            f'{name}.astype("uint8").'
        )
    return images


def _check_range(name, images, value_range):
    low, high = value_range
    least, most = float(images.min()), float(images.max())
    # Written so that NaN fails too.
    if not (low <= least and most <= high):
        raise ValueError(
            f"`{name}` must lie in `value_range` and not contain NaN. "
            f"Received: value_range={value_range}, and values from {least} to "
            f"{most}."
        )
    if images.dtype.kind == "f" and 0 <= least <= most <= 1 < high:
        warnings.warn(
            f"`{name}` lies in [0, 1], though value_range={value_range}; if 1 "
            "is white, pass value_range=(0, 1).",
            stacklevel=3,
        )


def _check_labels(name, labels, images):
    if labels is None:
        return None
    labels = to_array(name, labels)
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            f"`{name}` must have shape (N,), one label per image. Received: "
            f"{name}.shape={labels.shape}, with {len(images)} images."
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"`{name}` must be integer classes, counted from 0. Received: "
            f"{name}.dtype={labels.dtype}."
        )
    if labels.min() < 0:
        raise ValueError(
            f"`{name}` must be classes counted from 0. Received: the label "
            f"{labels.min()}."
        )
    if labels.max() >= MOST_CLASSES:
        # A name for each class takes memory.
        raise ValueError(
            f"`{name}` must be classes counted from 0, at most {MOST_CLASSES:,}"
            f" of them. Received: the label {labels.max()}. Number them by "
            "np.unique(labels, return_inverse=True)[1]."
        )
    return labels.reshape(-1).astype("int64")
