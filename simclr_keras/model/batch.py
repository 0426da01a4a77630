"""What a batch may be: images, with labels or not, their crops or views."""

import re

import keras

from simclr_keras import distribution
from simclr_keras.argument_checks import to_numbers

IMAGE, LABEL = "image", "label"

# Keys of views, and of views that are no more than cropped yet.
_VIEW = re.compile(r"(view|crop)_[1-9]\d*")
_FORMS = (
    "images; (images, labels); a dictionary with the key 'image' and "
    "optionally 'label'; or, augmented already, a dictionary with the keys "
    "'view_1', 'view_2' and so on, and optionally 'label'; or the same with "
    "'crop_1', 'crop_2' and so on, of views that are cropped already"
)


def unpack(x, y=None):
    """Takes a batch apart.

    Args:
        x: Images (B, H, W, C), or a dictionary as a batch of TFDS is: the
            images under `"image"`, or views of each under `"view_1"`,
            `"view_2"` and so on, or under `"crop_1"`, `"crop_2"` and so on if
            they are no more than cropped yet; labels under `"label"`.
        y: Labels, a dictionary with the key `"label"`, or None.

    Returns:
        Dictionary with `"image"`, or with the views, and with `"label"` if
        there are labels.

    Raises:
        TypeError: If images or labels are no arrays of numbers.
        ValueError: If it is none of these.
    """
    if isinstance(x, dict):
        batch = {
            k: v for k, v in x.items() if k in (IMAGE, LABEL) or _is_view(k)
        }
    elif isinstance(x, (list, tuple)):
        raise ValueError(
            f"A batch must be {_FORMS}. Received {len(x)} arrays as images: "
            "two arrays side by side could as well be images and labels."
        )
    else:
        batch = {IMAGE: x}
    names = view_names(batch)
    kind = "crop" if are_crops(batch) else "view"
    expected = [f"{kind}_{k + 1}" for k in range(max(2, len(names)))]
    if (IMAGE in batch) == bool(names) or (names and names != expected):
        raise ValueError(
            f"A batch must be {_FORMS}. Received a dictionary with the keys "
            f"{sorted(x)}."
        )
    if isinstance(y, dict):
        y = y.get(LABEL)
    if y is not None:
        batch[LABEL] = y
    if LABEL in batch:
        batch[LABEL] = to_numbers("labels", batch[LABEL])
    for key in (IMAGE, *names):
        if key not in batch:
            continue
        if not hasattr(batch[key], "shape"):
            raise TypeError(
                "Images must be an array or a tensor (B, H, W, C). Received: "
                f"{key} of type {type(batch[key]).__name__}."
            )
        # TensorFlow's shapes know their rank, or do not.
        rank = getattr(batch[key].shape, "rank", -1)
        if rank is None:
            raise ValueError(
                "Images must be (B, H, W, C). Received a dataset that does "
                "not say how many axes they have; say it by `tf.ensure_shape` "
                "or in the `output_signature` of `from_generator`."
            )
        shape = tuple(batch[key].shape)
        if len(shape) != 4 or 0 in shape[1:]:
            raise ValueError(
                "Images must be (B, H, W, C), of at least one pixel and "
                f"channel. Received: {key}.shape={shape}."
            )
    for name in names[1:]:
        a, b = (tuple(batch[k].shape) for k in (names[0], name))
        # Sizes may differ.
        if any(None not in (a[k], b[k]) and a[k] != b[k] for k in (0, -1)):
            raise ValueError(
                "All views must be of as many images and channels. Received: "
                f"{names[0]}.shape={a}, {name}.shape={b}."
            )
    return batch


def _is_view(key):
    return isinstance(key, str) and _VIEW.fullmatch(key) is not None


def view_names(batch):
    """The keys of views or crops in a batch, in order; [] for images."""
    return sorted(filter(_is_view, batch), key=lambda key: int(key[5:]))


def are_crops(batch):
    """Whether a batch holds views that are no more than cropped yet."""
    return any(key.startswith("crop") for key in view_names(batch))


def images_of(batch):
    """The images, or the first views, of a batch that `unpack` gave."""
    return batch[IMAGE] if IMAGE in batch else batch[view_names(batch)[0]]


def describe(x, y=None):
    """The shapes and dtypes of a batch of some data, without reading it.

    Args:
        x: What `fit` takes as `x`: arrays, or a `tf.data.Dataset`, which says
            what its elements are, also where it is distributed over replicas.
        y: What `fit` takes as `y`.

    Returns:
        Pair (x, y) of structures of `keras.KerasTensor`, of an unknown number
        of images; None if the data does not say, as a `PyDataset` or a
        generator.
    """
    if hasattr(x, "element_spec"):
        spec = distribution.one_spec(x.element_spec)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(spec)
    parts = keras.tree.flatten((x, y))
    known = [
        part is None or (hasattr(part, "shape") and hasattr(part, "dtype"))
        for part in parts
    ]
    if x is None or not all(known):
        return None
    try:
        return keras.tree.map_structure(_symbol, (x, y))
    except (TypeError, ValueError):  # Of unknown rank, or text.
        return None


def _symbol(part):
    if part is None:
        return None
    dtype = keras.backend.standardize_dtype(part.dtype)
    return keras.KerasTensor((None, *tuple(part.shape)[1:]), dtype)
