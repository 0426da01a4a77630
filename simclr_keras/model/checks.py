"""What is refused, as early as it can be known."""

import math
import numbers
import warnings

import keras
import numpy as np

from simclr_keras import distribution, keras_private, user_code
from simclr_keras.argument_checks import check_positive_integer
from simclr_keras.model.batch import IMAGE, LABEL, images_of, view_names
from simclr_keras.optimizers import LARS
from simclr_keras.value_range import check_dtype, looks_scaled

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

UNKNOWN_SIZES = (
    "Views may be of several sizes if these are known before a step, by "
    "`tf.ensure_shape` for instance. Others must be of one size."
)

OTHER_IMAGES = "All views of a batch must be of the same images, in one order."

# Names of Keras's losses and metrics that compare two tensors of one shape, so
# that they say something of two projections. All others are of labels.
_OF_TWO_PROJECTIONS = (
    "CosineSimilarity",
    "Huber",
    "LogCosh",
    "LogCoshError",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "RootMeanSquaredError",
)
# Those that 32 bits hold, with their sign.
SMALL_INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32")
# Numbers that are looked at together, so that little memory is taken.
_CHUNK = 2**22


# --- What `compile` is given -------------------------------------------------
def check_loss(loss):
    """Raises unless a loss can be one of two projections.

    Args:
        loss: As in `compile`.

    Raises:
        TypeError: If it is not a single callable.
        ValueError: If it is a loss of Keras's that compares labels with
            predictions.
    """
    if isinstance(loss, (str, type)) or not callable(loss):
        raise TypeError(
            "`loss` must be a loss of two projections, such as "
            "simclr_keras.NTXentLoss(), a keras.losses.Loss of your own or a "
            f"function of (z_1, z_2). Received: loss={loss!r}."
        )
    if _compares_labels(loss):
        raise ValueError(
            "`loss` must compare the projections of two views. Received: "
            f"loss={loss!r}, which compares labels with predictions. Use "
            "simclr_keras.NTXentLoss(); for another one override "
            "`SimCLRModel.contrastive_loss`."
        )


def check_micro_batch_size(size):
    """Raises unless it is a positive integer or None."""
    if size is None:
        return
    if isinstance(size, bool) or not isinstance(size, numbers.Integral):
        raise TypeError(
            "`micro_batch_size` must be an integer or None. Received: "
            f"micro_batch_size={size!r} of type {type(size)}."
        )
    if size < 1:
        raise ValueError(
            "`micro_batch_size` must be at least 1. Received: "
            f"micro_batch_size={size}."
        )


def check_metrics(metrics, taken):
    """Raises unless metrics can be of two projections.

    Args:
        metrics: As in `compile`.
        taken: List of strings, the names of the model's own metrics.

    Raises:
        TypeError: If one is not a callable.
        ValueError: If one is of Keras's that compares labels with predictions,
            or would be logged by the name of another one.
    """
    for metric in keras.tree.flatten(metrics):
        if metric is None:
            continue
        advice = (
            "Metrics are called with the projections of first and second "
            "views; for the accuracy of a classifier train a linear probe, "
            "SimCLRModel(..., num_classes=10)."
        )
        if isinstance(metric, str) or not callable(metric):
            raise TypeError(
                "`metrics` must hold keras.metrics.Metric objects or functions "
                f"of two projections. Received: {metric!r}. {advice}"
            )
        if _compares_labels(metric):
            raise ValueError(
                "`metrics` must compare the projections of two views. "
                f"Received: {metric!r}, which compares labels with "
                f"predictions. {advice}"
            )
        name = getattr(metric, "name", getattr(metric, "__name__", None))
        if name in taken:
            raise ValueError(
                "`metrics` must have other names than the model's own, "
                f"{taken}, or one of the two is not seen. Received: "
                f"{metric!r}; give it a `name`. A file of such a model is "
                "loaded with `compile=False`."
            )


def _compares_labels(what):
    kind = what if hasattr(what, "__name__") else type(what)
    if not str(getattr(kind, "__module__", "")).startswith("keras."):
        return False
    names = {kind.__name__.lower().replace("_", "")}
    return not names & {name.lower() for name in _OF_TWO_PROJECTIONS}


def check_encoder_input(encoder, shape):
    """Raises a `ValueError` if an encoder was made for other images.

    A `keras.Sequential` would compute with them and fail, or not, later on.

    Args:
        encoder: Layer, whose `input_shape` is compared if it has one.
        shape: Shape (B, H, W, C) of images.
    """
    expected = getattr(encoder, "input_shape", None)
    if not isinstance(expected, tuple) or len(expected) != 4:
        return
    differ = [
        None not in (a, b) and a != b
        for a, b in zip(expected[1:], tuple(shape)[1:])
    ]
    if any(differ):
        raise ValueError(
            f"The encoder {encoder.name!r} takes images of shape "
            f"{expected[1:]}. Received images or views of shape "
            f"{tuple(shape)[1:]}. Make one of them fit the other; an encoder "
            f"that begins with keras.Input((None, None, {expected[3]})) takes "
            "images of any size."
        )


def check_channels(encoder, channels, before):
    """Raises a `ValueError` if images now have channels that do not fit.

    Before a step, in whose augmentation they would be unknown.

    Args:
        encoder: Layer, whose `input_shape` is compared if it has one.
        channels, before: Integers or None, of images now and in earlier steps.
    """
    expected = getattr(encoder, "input_shape", None)
    if not isinstance(expected, tuple) or len(expected) != 4:
        return
    # Other ones than the encoder's may have become its own all along.
    if None not in (channels, expected[-1]) and channels not in (
        before,
        expected[-1],
    ):
        raise ValueError(
            f"The encoder {encoder.name!r} takes images of {expected[-1]} "
            f"channels. Received images of {channels}. Convert them, or make "
            "another model for them."
        )


def check_crop_size(view, crops, augmentation):
    """Raises a `ValueError` if crops have another size than a view's.

    Args:
        view: Integer, the view's number, counted from 0.
        crops: Tensor (N, H, W, C).
        augmentation: `Augmentation` of that view.
    """
    crop = augmentation.leading_crop()
    if crop is None:
        return
    expected, size = (crop.height, crop.width), tuple(crops.shape)[1:3]
    if any(a not in (None, b) for a, b in zip(size, expected)):
        raise ValueError(
            f"View {view + 1} of this model is cropped to {expected}. "
            f"Received: crop_{view + 1} of the size {size}. Give "
            "`training_dataset` as `crop` what the model has as "
            "`augmentation`, in the same order."
        )


def check_evaluation_size(encoder, augmentations):
    """Raises a `ValueError` where evaluation cannot have the size that is set.

    Args:
        encoder: Layer, whose `input_shape` is compared if it has one.
        augmentations: Augmentations of the views, some with an
            `evaluation_size`.
    """
    sizes = [getattr(each, "evaluation_size", None) for each in augmentations]
    if set(sizes) - {sizes[0], None}:
        raise ValueError(
            "Images are evaluated as by the augmentation of the first view, "
            "and none may have another `evaluation_size`. Received: "
            f"{sizes}."
        )
    size, expected = sizes[0], getattr(encoder, "input_shape", None)
    if size is None or not isinstance(expected, tuple) or len(expected) != 4:
        return
    if any(a not in (None, b) for a, b in zip(expected[1:3], size)):
        raise ValueError(
            f"The encoder {encoder.name!r} takes images of shape "
            f"{expected[1:]}, and the augmentation has evaluation_size={size}. "
            "Make an encoder of any size, with (None, None, "
            f"{expected[3]}) as `input_shape`, or leave `evaluation_size` out."
        )


def check_loss_value(loss):
    """Raises a `ValueError` unless what a step minimizes is a scalar."""
    if len(loss.shape):
        raise ValueError(
            "`contrastive_loss` must return a scalar, as the gradient of "
            "several values is that of their sum. Received a loss of shape "
            f"{tuple(loss.shape)}. Return "
            "`simclr_keras.distribution.global_mean(losses)`, the mean over "
            "the global batch."
        )


def check_dtype_of_parts(dtype, parts):
    """Warns if a model is given a dtype that its layers do not have.

    Args:
        dtype: String or `keras.DTypePolicy`, as a model is given it; or None.
        parts: Layers of the model.
    """
    if dtype is None:
        return
    wanted = keras.dtype_policies.get(dtype).compute_dtype
    # A container such as `keras.Sequential` computes nothing itself.
    others = [part for part in parts if not _computes_in(part, wanted)]
    if others:
        names = ", ".join(
            f"{part.name!r} in {part.compute_dtype}" for part in others
        )
        warnings.warn(
            f"The model was given the dtype {wanted}, but its layers compute "
            f"in their own: {names}. Set it before they are made, by "
            "keras.config.set_dtype_policy(...), or give it to each of them.",
            stacklevel=user_code.stacklevel(),
        )


def _computes_in(part, dtype):
    layers = keras_private.flatten_layers(part)
    return any(layer.compute_dtype == dtype for layer in layers)


def warn_of_loss_scale(optimizer, parts):
    """Warns of layers in float16 whose loss is not scaled."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return
    names = [part.name for part in parts if _computes_in(part, "float16")]
    if names:
        warnings.warn(
            f"Layers of {', '.join(map(repr, names))} compute in float16, in "
            "which small gradients become zero, and the optimizer does not "
            'scale the loss. Give the model dtype="mixed_float16" as well, or '
            "wrap the optimizer in keras.optimizers.LossScaleOptimizer.",
            stacklevel=user_code.stacklevel(),
        )


def warn_of_fast_temperature(optimizer, loss):
    """Warns of a temperature that LARS would drive to a bound."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    learned = getattr(loss, "learned_temperature", None)
    if learned is not None and isinstance(optimizer, LARS):
        warnings.warn(
            "A LearnedTemperature takes steps of the learning rate itself, "
            "which LARS makes small for other weights alone: at its rates the "
            f"temperature is at a bound, {learned.minimum} or "
            f"{learned.maximum}, within a few steps. Use an optimizer with "
            "rates of about 0.001, such as AdamW, or a fixed temperature.",
            stacklevel=user_code.stacklevel(),
        )


# --- What Keras's methods take and SimCLR cannot use --------------------------
def check_is_compiled(model):
    """Raises a `ValueError` unless `compile` was called."""
    if not model.compiled:
        raise ValueError(
            "You must call `compile()` before using the model, such as "
            "model.compile(optimizer=simclr_keras.LARS(0.3), "
            "loss=simclr_keras.NTXentLoss()). Received: "
            f"{type(model).__name__}, not compiled."
        )


def check_weights(sample_weight, class_weight=None):
    """Raises a `ValueError` if images are given weights."""
    if sample_weight is not None or class_weight is not None:
        raise ValueError(
            "SimCLRModel takes no `sample_weight` and no `class_weight`: "
            "every view is the negative of every other."
        )


# --- What can be told of data without reading it -----------------------------
def check_is_there(x):
    """Raises a `ValueError` unless there are images, or what will give some."""
    shapes = [getattr(part, "shape", None) for part in keras.tree.flatten(x)]
    are_none = [bool(shape) and tuple(shape)[:1] == (0,) for shape in shapes]
    if x is None or any(are_none):
        raise ValueError(
            "SimCLRModel needs images: an array (N, H, W, C), a dataset or a "
            f"generator of them. Received: {'None' if x is None else 'none'}."
        )


def check_description(batch, value_range, num_classes):
    """Checks a batch of which shapes and dtypes alone are known.

    Args:
        batch: As `batch.unpack` gives it.
        value_range: Pair (low, high).
        num_classes: Number of classes of the linear probe, or None.

    Raises:
        ValueError: If the probe has no labels, or as `check_dtype`.
        TypeError: As `check_dtype`.
    """
    check_dtype(images_of(batch).dtype, value_range)
    if num_classes is not None and LABEL not in batch:
        raise ValueError(missing_labels_message(num_classes))


def missing_labels_message(num_classes):
    """What to say where a probe has no labels."""
    return (
        f"A SimCLRModel with num_classes={num_classes} trains a linear probe "
        "and needs labels, in `validation_data` too. Received data without; "
        "pass (images, labels), or leave `num_classes` out."
    )


def check_remainder(
    count, batch_size, num_replicas=1, num_steps=None, name="x"
):
    """Raises if the last batch of so many images would be too short.

    Args:
        count: Integer, number of images.
        batch_size: Integer.
        num_replicas: Integer, replicas that share a batch.
        num_steps: Integer, number of batches that are taken in all, or None
            for all there are.
        name: String, the argument that the images came in.

    Raises:
        ValueError: If a batch would hold a single image, or none for a
            replica.
    """
    over = count % batch_size
    if num_steps is not None and num_steps <= count // batch_size:
        return
    if over == 1:
        raise ValueError(
            f"{SINGLE_IMAGE} Received {count} images of `{name}`, batch_size="
            f"{batch_size}, which leaves one over."
        )
    if 0 < over <= (num_replicas - 1) * math.ceil(over / num_replicas):
        raise ValueError(
            f"{EMPTY_REPLICA} Received {count} images of `{name}`, batch_size="
            f"{batch_size} and {num_replicas} replicas, which leaves "
            f"{over} over."
        )


def check_batch_sizes(**sizes):
    """Raises unless each is a positive integer or None, for Keras to choose."""
    for name, size in sizes.items():
        if size is not None:
            check_positive_integer(name, size)


def check_num_labels(shape, num_images):
    """Raises a `ValueError` unless arrays hold a label for each image."""
    shape = tuple(shape)
    if shape[:1] != (num_images,):
        raise ValueError(
            "There must be as many labels as images. Received: labels.shape="
            f"{shape} for {num_images} images."
        )


def check_negatives(batch):
    """Raises a `ValueError` if the batch is known to hold fewer than two."""
    is_short = images_of(batch).shape[0] in (0, 1)
    if is_short and distribution.num_replicas() == 1:
        raise ValueError(SINGLE_IMAGE)


def check_label_shape(shape, num_images=None, num_classes=None):
    """Raises unless labels are one for each image, or one-hot.

    Args:
        shape: Shape of the labels.
        num_images: Integer, or None where it is not known.
        num_classes: Number of classes of the linear probe, or None.

    Raises:
        ValueError: If it is neither (N,), (N, 1) nor (N, num_classes).
    """
    shape = tuple(shape)
    is_one_hot = len(shape) == 2 and (
        num_classes is None or shape[1] in (None, num_classes)
    )
    fits = len(shape) == 1 or is_one_hot or shape[1:] == (1,)
    if fits and (None in (shape[0], num_images) or shape[0] == num_images):
        return
    raise ValueError(
        "Labels must be one integer for each image, (N,) or (N, 1), or "
        f"one-hot (N, num_classes). Received: labels.shape={shape} for "
        f"{num_images} images and num_classes={num_classes}."
    )


# --- What arrays hold --------------------------------------------------------
def check_arrays(batch, value_range, num_classes=None):
    """Checks the values of arrays in host memory, a chunk at a time.

    Nothing is looked at that the dtype guarantees, and nothing is copied.

    Args:
        batch: As `batch.unpack` gives it, of NumPy arrays or eager tensors;
            with labels only if they are used.
        value_range: Pair (low, high).
        num_classes: Number of classes of the linear probe, or None.

    Returns:
        Whether images are floats that lie in [0, 1] while the range is wider,
        which looks like a mistake.

    Raises:
        ValueError: If images leave the range or are NaN, or labels are not
            classes.
    """
    scaled = [
        _check_images(batch[key], value_range)
        for key in (IMAGE, *view_names(batch))
        if key in batch and not is_guaranteed(batch[key].dtype, value_range)
    ]
    if LABEL in batch:
        labels = keras.ops.convert_to_numpy(batch[LABEL])
        check_label_shape(labels.shape, len(images_of(batch)), num_classes)
        if not _are_classes(labels, num_classes):
            raise ValueError(
                f"{label_message(num_classes)} Found labels from "
                f"{labels.min()} to {labels.max()}."
            )
    return any(scaled)


def are_one_hot(shape):
    """Whether labels of such a shape are rows with a 1 for the class."""
    return len(shape) == 2 and shape[-1] != 1


def _are_classes(labels, num_classes):
    if are_one_hot(labels.shape):
        is_one = labels == 1
        return np.all(is_one | (labels == 0)) and np.all(is_one.sum(-1) == 1)
    # As integers, they are compared in 32 bits.
    low, high = (-(2**31), 2**31) if num_classes is None else (0, num_classes)
    return np.all(
        (labels == np.floor(labels)) & (labels >= low) & (labels < high)
    )


def _check_images(images, value_range):
    low, high = value_range
    slack = range_slack(value_range)
    is_float = "float" in keras.backend.standardize_dtype(images.dtype)
    least, most = math.inf, -math.inf
    step = max(1, _CHUNK // max(1, math.prod(tuple(images.shape)[1:])))
    for start in range(0, len(images), step):
        chunk = keras.ops.convert_to_numpy(images[start : start + step])
        if not chunk.size:
            continue
        # NaN passes through and then fails the comparison.
        chunk_least, chunk_most = float(chunk.min()), float(chunk.max())
        if not (low - slack <= chunk_least and chunk_most <= high + slack):
            raise ValueError(
                f"{out_of_range_message(value_range)} {_in_words(chunk)}"
            )
        least, most = min(least, chunk_least), max(most, chunk_most)
    return is_float and looks_scaled(value_range) and most <= 1


def _in_words(images):
    """What the values of images with wrong ones are."""
    is_nan = np.isnan(images)
    count = int(is_nan.sum())
    if count == images.size:
        return "All are NaN."
    numbers = images[~is_nan]
    found = f"from {float(numbers.min())} to {float(numbers.max())}"
    if count:
        return f"Found {count} NaN, and values {found}."
    return f"Found values {found}."


def is_guaranteed(dtype, value_range):
    """Whether no value of a dtype can leave a range."""
    dtype = keras.backend.standardize_dtype(dtype)
    if "uint" not in dtype:
        return False
    low, high = value_range
    return low <= 0 and np.iinfo(dtype).max <= high


def warn_of_scaled_views(value_range):
    """Warns that an augmentation scales what the model scales by itself."""
    warnings.warn(
        "The augmentation's views lie in [0, 1], but value_range is "
        f"{tuple(value_range)}: to the encoder they are all but black. Leave "
        "layers such as Rescaling out of the augmentation, as the model scales "
        "the views; or scale the images before and pass value_range=(0, 1).",
        stacklevel=user_code.stacklevel(),
    )


def warn_of_unused_augmentation():
    """Warns that batches of views pass a model's augmentation by."""
    warnings.warn(
        "The batches hold views ('view_1', 'view_2'), which are used as they "
        "are: the model's `augmentation` does nothing in training. Pass "
        "augmentation=None to say so; pass images for the augmentation to make "
        "the views; or name views that are random crops and nothing else "
        "'crop_1' and 'crop_2', for what follows its crop.",
        stacklevel=user_code.stacklevel(),
    )


def warn_of_zero_projections():
    """Warns that the loss cannot compare some of the projections."""
    warnings.warn(
        "Some projections are exactly zero. They have no direction to compare, "
        "so they have no gradient, and the loss stays at log(2N - 1) if all "
        "are. Look for images of one colour, for a projection head or encoder "
        "without normalization whose ReLUs are all off, and for a learning "
        "rate that is too high.",
        stacklevel=user_code.stacklevel(),
    )


def out_of_range_message(value_range):
    """What to say of images that are NaN or outside the range."""
    return (
        f"Images must be numbers within value_range={tuple(value_range)}; "
        "some are outside it or NaN. Scale or clip them, or state their range "
        "with `value_range`."
    )


def label_message(num_classes):
    """What to say of labels that are not classes."""
    if num_classes is None:
        return (
            "Labels must be integers of 32 bits, or rows with a single 1, for "
            "this loss; some are not."
        )
    return (
        "Labels must be integers in [0, num_classes), or rows with a single 1, "
        f"for the linear probe; some are not. num_classes={num_classes}."
    )


def range_slack(value_range):
    """By how much rounding may take an image out of its range."""
    low, high = value_range
    return 1e-4 * (high - low)
