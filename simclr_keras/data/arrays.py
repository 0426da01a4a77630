"""Images that are in memory already."""

import warnings

import numpy as np

from simclr_keras.data.array_image_set import ArrayImageSet
from simclr_keras.data.image_set import ImageData

VALUE_RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


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
            float32, anything else is kept.
        labels: Integer array (N,) or (N, 1) of classes from 0 up, or None.
        test_images: Held-out images like `images`, or None.
        test_labels: Their labels, or None.
        value_range: Pair of numbers, the values of black and white. None takes
            the whole range of uint8 or uint16; floats must be told.
        class_names: Sequence of strings, one a class. None takes "0", "1", ...
        name: String, what to call the data in reports.

    Returns:
        An `ImageData`.

    Raises:
        TypeError: If the dtype of images or labels is none of these.
        ValueError: If shapes do not fit each other, a value is not in
            `value_range` (NaN is not), or a label has no class name.

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
    value_range = tuple(float(value) for value in value_range)
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
    if all_labels:
        num_classes = 1 + max(int(part.max()) for part in all_labels)
        class_names = tuple(class_names or map(str, range(num_classes)))
        if len(class_names) < num_classes:
            raise ValueError(
                "`class_names` must name every class. Received: "
                f"{len(class_names)} names, and the label {num_classes - 1}."
            )
    return ImageData(name, train, test, value_range, class_names)


def _check_images(name, images):
    images = np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        hint = " Add a channel: images[..., None]." if images.ndim == 3 else ""
        raise ValueError(
            f"`{name}` must have shape (N, H, W, C), none of them zero. "
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
            f"`{name}` must lie in `value_range` and hold no NaN. Received: "
            f"value_range={value_range}, and values from {least} to {most}."
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
    labels = np.asarray(labels)
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            f"`{name}` must have shape (N,), one label an image. Received: "
            f"{name}.shape={labels.shape}, with {len(images)} images."
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"`{name}` must be integers, classes from 0 up. Received: "
            f"{name}.dtype={labels.dtype}."
        )
    if labels.min() < 0:
        raise ValueError(
            f"`{name}` must be classes from 0 up. Received: the label "
            f"{labels.min()}."
        )
    return labels.reshape(-1).astype("int64")
