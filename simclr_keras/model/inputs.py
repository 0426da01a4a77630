"""What a model may be given: images, images with labels, or pairs of views."""

import math
import warnings

import keras
import numpy as np

from simclr_keras import distribution

IMAGE, LABEL = "image", "label"
VIEWS = ("view_1", "view_2")

_FORMS = (
    "images; (images, labels); a dictionary with the key 'image' and "
    "optionally 'label'; or, augmented already, a dictionary with the keys "
    "'view_1' and 'view_2' and optionally 'label'"
)


SINGLE_IMAGE = (
    "SimCLR needs at least two images in a batch: a single one has no "
    "negatives. Use a larger batch, and `drop_remainder=True` (or a number of "
    "images that the batch size divides) if the last one is short."
)


EMPTY_REPLICA = (
    "A replica received no image of a short last batch, and cannot take part "
    "in the step. Use `drop_remainder=True`, or a number of images that the "
    "batch size divides."
)


def unpack(x, y=None):
    """Takes a batch apart.

    Args:
        x: Images (B, H, W, C), or a dictionary as a batch of TFDS is: the
            images under `"image"`, or two views of each under `"view_1"` and
            `"view_2"`; labels under `"label"`.
        y: Labels, or None.

    Returns:
        Dictionary with `"image"`, or with `"view_1"` and `"view_2"`, and with
        `"label"` if there are labels.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(x, dict):
        batch = {k: x[k] for k in (IMAGE, LABEL, *VIEWS) if k in x}
    elif isinstance(x, (list, tuple)):
        raise ValueError(
            f"A batch must be {_FORMS}. Received {len(x)} arrays as images: "
            "two arrays side by side could as well be images and labels."
        )
    else:
        batch = {IMAGE: x}
    has_views = all(k in batch for k in VIEWS)
    if has_views == (IMAGE in batch) or (
        not has_views and any(k in batch for k in VIEWS)
    ):
        raise ValueError(
            f"A batch must be {_FORMS}. Received a dictionary with the keys "
            f"{sorted(x)}."
        )
    if y is not None:
        batch[LABEL] = y
    for key in (IMAGE, *VIEWS):
        if key in batch and len(batch[key].shape) != 4:
            raise ValueError(
                f"Images must be (B, H, W, C). Received: {key}.shape="
                f"{tuple(batch[key].shape)}."
            )
    if has_views:
        a, b = (tuple(batch[k].shape) for k in VIEWS)
        if any(None not in (m, n) and m != n for m, n in zip(a, b)):
            raise ValueError(
                "The two views must have the same shape. Received: "
                f"view_1.shape={a}, view_2.shape={b}."
            )
    return batch


def check_negatives(batch):
    """Raises a `ValueError` if the batch is known to hold a single image."""
    images = batch.get(IMAGE, batch.get(VIEWS[0]))
    if images.shape[0] == 1 and distribution.num_replicas() == 1:
        raise ValueError(SINGLE_IMAGE)


def check_first(
    x,
    y,
    batch_size,
    value_range,
    num_classes=None,
    validation_split=0.0,
    validation_batch_size=None,
    num_replicas=1,
):
    """Checks what `fit` or `evaluate` is given, as far as it can be seen.

    Arrays are checked whole, a `PyDataset` and a `tf.data.Dataset` of floats
    by their first batch. What a generator yields cannot be looked at twice.

    Args:
        x: As in `fit`.
        y: As in `fit`.
        batch_size: As in `fit`.
        value_range: Pair (low, high).
        num_classes: Number of classes of the linear probe, or None.
        validation_split: As in `fit`.
        validation_batch_size: As in `fit`.
        num_replicas: Number of replicas that share each batch.

    Raises:
        ValueError: As `check_values`, or if the last batch of an array would
            hold a single image, or none for some replica.
    """
    if isinstance(x, keras.utils.PyDataset):
        data = x[0]
    elif hasattr(x, "element_spec"):
        specs = keras.tree.flatten(x.element_spec)
        is_float = any("float" in str(getattr(s, "dtype", "")) for s in specs)
        # Integers lie in the range or are caught in the step; to look costs a
        # read of the first batch.
        if not hasattr(x, "take") or not (is_float or num_classes):
            return
        data = next(iter(x.take(1)), None)
        if data is None:
            raise ValueError("The dataset is empty: it holds no batch.")
    elif all(hasattr(a, "shape") for a in keras.tree.flatten(x)):
        count = len(next(iter(keras.tree.flatten(x)), ()))
        num_train = int(count * (1 - validation_split))
        batch_size = batch_size or 32
        _check_remainder(num_train, batch_size, num_replicas)
        _check_remainder(
            count - num_train, validation_batch_size or batch_size, num_replicas
        )
        data = (x, y)
    else:
        return
    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    check_values(unpack(x, y), value_range, num_classes)


def _check_remainder(count, batch_size, num_replicas):
    """Raises if the last batch of so many images would be too short."""
    over = count % batch_size
    if over == 1:
        raise ValueError(
            f"{SINGLE_IMAGE} Received {count} images and batch_size="
            f"{batch_size}, which leaves one over."
        )
    if 0 < over <= (num_replicas - 1) * math.ceil(over / num_replicas):
        raise ValueError(
            f"{EMPTY_REPLICA} Received {count} images, batch_size="
            f"{batch_size} and {num_replicas} replicas, which leaves "
            f"{over} over."
        )


def out_of_range_message(value_range):
    """What to say of images that are not numbers in the range."""
    return (
        f"Images must be numbers within value_range={tuple(value_range)}; "
        "some are outside it or NaN. Scale or clip them, or state their range "
        "with `value_range`."
    )


def label_message(num_classes):
    """What to say of labels that are not classes."""
    return (
        "Labels must be integers in [0, num_classes) for the linear probe; "
        f"some are not. num_classes={num_classes}."
    )


def check_values(batch, value_range, num_classes=None):
    """Checks the values of a batch in host memory.

    Args:
        batch: As `unpack` gives it, in NumPy arrays or eager tensors.
        value_range: Pair (low, high).
        num_classes: Number of classes of the linear probe, or None.

    Raises:
        ValueError: If images leave the range or are NaN, or labels are not
            classes.

    Warns:
        UserWarning: If images are floats that lie in [0, 1] while the range is
            wider, which looks like a mistake and makes every view black.
    """
    low, high = value_range
    slack = range_slack(value_range)
    for key in (IMAGE, *VIEWS):
        if key not in batch:
            continue
        images = keras.ops.convert_to_numpy(batch[key])
        # Written so that NaN fails.
        if not np.all((images >= low - slack) & (images <= high + slack)):
            finite = images[np.isfinite(images)] if images.size else images
            found = (
                f" Found values from {finite.min()} to {finite.max()} and "
                f"{images.size - finite.size} that are not finite."
                if finite.size
                else ""
            )
            raise ValueError(out_of_range_message(value_range) + found)
        if (
            images.dtype.kind == "f"
            and images.size
            and high > 1
            and low <= 0
            and images.max() <= 1
        ):
            warnings.warn(
                f"The images are floats that lie in [0, 1], but value_range is "
                f"{tuple(value_range)}: to the encoder they are all but black. "
                "If they are scaled already, say so with value_range=(0, 1).",
                stacklevel=5,
            )
    if num_classes is not None and LABEL in batch:
        labels = keras.ops.convert_to_numpy(batch[LABEL])
        is_one_hot = labels.ndim == 2 and labels.shape[-1] == num_classes
        if not is_one_hot and not np.all(
            (labels >= 0) & (labels < num_classes)
        ):
            raise ValueError(
                f"{label_message(num_classes)} Found labels from "
                f"{labels.min()} to {labels.max()}."
            )


def range_slack(value_range):
    """By how much rounding may take an image out of its range."""
    low, high = value_range
    return 1e-4 * (high - low)
