"""Where an encoder and images come from, and the features they make.

An encoder is the run folder of `pretrain.py`, a `.keras` file of an encoder, a
`SimCLRModel` or an `ImageClassifier`, or a folder of `export_saved_model`.
Images are a folder, at any depth, or a list of files. TensorFlow is imported
only where it computes, so that `--help` need not wait for it.
"""

import json
import os
import sys
import typing
import warnings
import zipfile

import features_file
import numpy as np
from command_line import UsageError, check_exists, path, positive
from loading import load_tensorflow

# So many files that were left out are named, and the others counted.
NAMED = 5
_ENCODER = "encoder.keras"


class Encoder(typing.NamedTuple):
    """An encoder, and the images that it takes.

    Attributes:
        model: Keras model or layer from images in [0, 1] to (B, F).
        image_size: Pair of integers (height, width), or of None.
        channels: Integer.
        as_stored: Boolean, whether it takes images with the channels and bits
            that their files have. Defaults to False.
        whole: What the encoder was found in: itself, a `SimCLRModel` or an
            `ImageClassifier`. Defaults to None.
    """

    model: typing.Any
    image_size: tuple
    channels: int
    as_stored: bool = False
    whole: typing.Any = None

    @property
    def folder_channels(self):
        """The `channels` of `load_image_folder` for its images."""
        return "auto" if self.as_stored else self.channels


# --- The command line -------------------------------------------------------
def add_encoder(parser, required=True, runs=True):
    """Adds --encoder and --image_size, and --batch_size if it is run."""
    parser.add_argument(
        "--encoder",
        type=path,
        required=required,
        help="run folder of pretrain.py, .keras file of an encoder, of a "
        "SimCLRModel or of an ImageClassifier, or exported SavedModel folder"
        + ("" if required else ". Default: none"),
    )
    parser.add_argument(
        "--image_size",
        type=positive,
        help="side in pixels to which images are cropped and resized. "
        "Default: that of the images the encoder was made for",
    )
    if runs:
        parser.add_argument(
            "--batch_size",
            type=positive,
            default=64,
            help="images at a time through the encoder",
        )


def add_images(parser, required=True):
    """Adds --images."""
    parser.add_argument(
        "--images",
        type=path,
        required=required,
        metavar="FOLDER",
        help="folder of images, also in folders below it"
        + ("" if required else ". Default: none"),
    )


def add_features(parser):
    """Adds --features, in place of an encoder and images."""
    parser.add_argument(
        "--features",
        type=path,
        metavar="FILE",
        help=".npz file of features.py, in place of --encoder and --images; "
        "start it where features.py was started, so that the images are found. "
        "Default: none",
    )


def check_encoder(options):
    """Raises a `UsageError` unless --encoder may be an encoder."""
    name = options.encoder
    if os.path.isdir(name):
        is_run = os.path.exists(os.path.join(name, "config.json"))
        if is_run and not _holds(name, _ENCODER):
            raise UsageError(
                f"--encoder is a run without encoder.keras: {name}. It is "
                "written at the run's end, or on Ctrl-C."
            )
        if not is_run and not _holds(name, _ENCODER, "saved_model.pb"):
            raise UsageError(
                "--encoder must be a run folder with encoder.keras, a .keras "
                f"file or an exported SavedModel. Received the folder: {name}"
            )
        return
    if not os.path.exists(name):
        raise UsageError(
            "--encoder must be an existing run folder, .keras file or "
            f"exported SavedModel. Received: {name}"
        )
    if not name.endswith(".keras"):
        raise UsageError(f"--encoder must be a .keras file. Received: {name}")


def is_saved_model(name):
    """Whether an encoder is an exported SavedModel."""
    return os.path.isdir(name) and not _holds(name, _ENCODER)


def check_trainable(options):
    """Raises a `UsageError` if all weights of --encoder cannot be trained."""
    if is_saved_model(options.encoder):
        raise UsageError(
            "--encoder must be a run folder or a .keras file: a SavedModel is "
            f"fine-tuned as few_labels.py does it. Received: {options.encoder}"
        )


def check_images(flag, folder):
    """Raises a `UsageError` unless there is such a folder."""
    check_exists(flag, folder, is_folder=True)


def check_source(options, takes_both=False):
    """Raises a `UsageError` unless features are given, or what makes them.

    Args:
        options: The arguments.
        takes_both: Boolean, whether an encoder may come with features.
    """
    if (options.features is None) == (options.images is None):
        raise UsageError("give either --encoder and --images, or --features.")
    if options.images and not options.encoder:
        raise UsageError("--images needs --encoder.")
    if options.features and options.encoder and not takes_both:
        raise UsageError("--features stands in place of --encoder.")
    if options.encoder:
        check_encoder(options)
    if options.images:
        check_images("--images", options.images)
        return
    check_exists("--features", options.features, is_folder=False)
    if not options.features.endswith(".npz"):
        raise UsageError(
            "--features must be an .npz file of features.py. Received: "
            f"{options.features}"
        )


def _holds(folder, *names):
    return any(os.path.exists(os.path.join(folder, name)) for name in names)


# --- The encoder ------------------------------------------------------------
def load_encoder(options, needs_size=True):
    """The `Encoder` of --encoder.

    Args:
        options: The arguments.
        needs_size: Boolean, whether the size of its images must be known;
            otherwise it may be (None, None). Defaults to True.

    Raises:
        ValueError: If it cannot be loaded, or the size of its images is not
            known.
    """
    load_tensorflow()
    name, shape, config = options.encoder, None, {}
    if is_saved_model(name):
        model, shape = _load_saved_model(name)
    elif os.path.isdir(name):
        if _holds(name, "config.json"):
            config = _read_json(os.path.join(name, "config.json"))
        # Runs of before have the encoder alone.
        found = "model.keras" if _holds(name, "model.keras") else _ENCODER
        model = _load_keras(os.path.join(name, found))
    else:
        model = _load_keras(name)
    # A SimCLRModel and an ImageClassifier have their encoder inside.
    whole, model = model, getattr(model, "encoder", model)
    shape = shape or _input_shape(model) or (None, None, None)
    height, width, channels = shape
    known = _evaluated_size(whole, channels)
    known = known or (config.get("image_size"),) * 2
    size = (height or known[0], width or known[1])
    if options.image_size:
        size = (options.image_size, options.image_size)
        if any(known not in (None, size[0]) for known in shape[:2]):
            raise ValueError(
                f"--image_size must be {height}, the size of the images that "
                f"the encoder takes. Received: {options.image_size}"
            )
    if None in size and needs_size:
        raise UsageError(
            "--image_size must be given, since this encoder takes images of "
            "any size: the one at which its run evaluates, 32 for "
            "--recipe=cifar10. The run folder, and model.keras in it, know "
            f"theirs. Received: {name}"
        )
    channels = channels or config.get("channels") or 3
    # A classifier file has no configuration of a run beside it.
    as_stored = (
        config.get("as_stored", False)
        or channels not in (1, 3)
        or getattr(whole, "value_range", (0, 1))[1] > 255
    )
    return Encoder(model, size, channels, as_stored, whole)


def load_classifier(options):
    """The `ImageClassifier` of --classifier."""
    from simclr_keras.evaluation import ImageClassifier

    model = _load_keras(options.classifier)
    if not isinstance(model, ImageClassifier):
        raise UsageError(
            "--classifier must be a classifier.keras of classify.py. Received "
            f"a {type(model).__name__}: {options.classifier}"
        )
    return model


def _load_keras(name):
    """The model in a .keras file."""
    import keras

    import simclr_keras  # noqa: F401 - registers its layers

    # Keras would say that there is no such file.
    if not zipfile.is_zipfile(name):
        raise ValueError(f"{name} is damaged, or no .keras file.")
    try:
        return keras.saving.load_model(name, compile=False)
    except Exception as error:  # A file can be wrong in every way.
        raise ValueError(f"{name} cannot be loaded: {error}") from error


def _load_saved_model(name):
    """An exported encoder, and the shape of its images."""
    import simclr_keras

    model = simclr_keras.export.SavedModelEncoder(name, trainable=False)
    signature = model.module.signatures["serving_default"]
    _, keywords = signature.structured_input_signature
    return model, tuple(keywords["images"].shape)[1:]


def _input_shape(model):
    """(H, W, C) of the images of a Keras model, None where it has none."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4:
        return shape[1:]
    return None


def _evaluated_size(whole, channels):
    """(H, W) to which a `SimCLRModel` or a classifier brings all images."""
    prepare = getattr(whole, "evaluation_preprocessing", None)
    if prepare is None:
        return None
    sizes = {
        tuple(prepare(np.zeros((1, n, n, channels or 3), "uint8")).shape[1:3])
        for n in (61, 67)
    }
    return sizes.pop() if len(sizes) == 1 else None


def as_simclr_model(encoder, model, value_range):
    """A network that is evaluated on the images that an encoder is made for.

    Args:
        encoder: `Encoder`, for the size, and for how images are brought to it
            where that is known.
        model: Encoder, its own or another one.
        value_range: Pair of numbers, of the images.

    Returns:
        `SimCLRModel` without a projection head.
    """
    import simclr_keras

    size = tuple(encoder.image_size)
    known = getattr(encoder.whole, "evaluation_preprocessing", None)
    is_known = size == (
        getattr(known, "height", None),
        getattr(known, "width", None),
    )
    whole = simclr_keras.SimCLRModel(
        model,
        simclr_keras.ProjectionHead(kind="none"),
        value_range=value_range,
    )
    whole.evaluation_preprocessing = (
        simclr_keras.augmentation.CenterCropAndResize(
            *size,
            crop_proportion=known.crop_proportion if is_known else 0.875,
            only_other_sizes=True,
            value_range=value_range,
        )
    )
    return whole


def _read_json(name):
    try:
        with open(name, encoding="utf-8") as file:
            return dict(json.load(file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} is damaged: {error}") from None


# --- The images -------------------------------------------------------------
def load_images(folder, encoder, labels=None):
    """The readable images of a folder, read while they are used.

    Says how many there are, and which files were left out and why.

    Args:
        folder: String.
        encoder: `Encoder`, for the size of the images.
        labels: As in `load_image_folder`.

    Returns:
        `ImageData`, whose `train` has all images, and their `paths`.
    """
    import simclr_keras

    print(f"Reading the images of {folder} ...", flush=True)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        data = simclr_keras.data.load_image_folder(
            folder,
            encoder.image_size,
            labels=labels,
            channels=encoder.folder_channels,
            on_error="skip",
            in_memory=False,
        )
    for warning in noted:
        # What was left out is told below, with the reasons.
        if "reached in several ways" in str(warning.message):
            print(warning.message)
    kind = data.train.image_shape[-1], data.train.dtype
    _tell(data.train.num_images, _reasons(folder, data.skipped, kind))
    return data


def load_files(paths, encoder):
    """The readable ones of some image files, read while they are used.

    Returns:
        A set as `load_images` gives it as `train`, and a boolean array (N,):
        which of the files it has.
    """
    import tensorflow as tf

    from simclr_keras.data.image_folder import FileImageSet, kind_of_images

    kind = encoder.channels, "uint8"
    if encoder.as_stored:
        kind = kind_of_images(paths)
    channels, dtype = kind
    files = FileImageSet(paths, None, encoder.image_size, channels, dtype=dtype)
    readable = tf.data.Dataset.range(len(paths)).map(
        lambda index: files.try_load(index)[0], tf.data.AUTOTUNE
    )
    is_valid = np.array(list(readable.as_numpy_iterator()))
    left_out = {p: _reason(p, kind) for p, ok in zip(paths, is_valid) if not ok}
    if len(left_out) == len(paths):
        name, reason = next(iter(left_out.items()))
        raise ValueError(
            f"None of the {len(paths)} image files can be read. The first is "
            f"{name}: {reason}"
        )
    _tell(int(is_valid.sum()), left_out)
    return files.subset(is_valid), is_valid


def _tell(count, left_out):
    print(f"{count:,} images read, {len(left_out):,} left out.")
    for name, reason in list(left_out.items())[:NAMED]:
        print(f"    {printable(name)}: {reason}")
    if len(left_out) > NAMED:
        print(f"    and {len(left_out) - NAMED:,} more")


def _reasons(folder, skipped, kind):
    """Dictionary from the files that were left out to the reasons."""
    from simclr_keras.data.image_files import find_images
    from simclr_keras.data.image_folder import MAX_BYTES

    if not skipped:
        return {}
    unusable = find_images(folder, MAX_BYTES).unreadable
    # Of each that is named only: each is read once more.
    return {
        name: unusable.get(name) or (_reason(name, kind) if k < NAMED else "")
        for k, name in enumerate(skipped)
    }


def _reason(name, kind):
    """What the library says about a file that it cannot read.

    Args:
        name: String.
        kind: Pair of an integer and a string, channels and dtype.
    """
    from simclr_keras.data.image_folder import FileImageSet

    files = FileImageSet([name], None, (8, 8), kind[0], dtype=kind[1])
    return files.reason(name)


# --- The features -----------------------------------------------------------
def extract(encoder, images, batch_size):
    """Features of a set of images, with a progress bar.

    Args:
        encoder: `Encoder`.
        images: Set of `simclr_keras.data` with uint8 or uint16 images.
        batch_size: Positive integer.

    Returns:
        float32 array (N, F).
    """
    import simclr_keras

    # An encoder takes [0, 1] and does not scale; here images are integers.
    model = simclr_keras.SimCLRModel(
        encoder.model,
        simclr_keras.ProjectionHead(kind="none"),
        value_range=(0, np.iinfo(images.dtype).max),
    )
    return simclr_keras.evaluation.extract_features(
        model, images, batch_size=batch_size, verbose=progress()
    )


def progress():
    """1 for a progress bar, which in a file would be a line of rubbish."""
    return int(sys.stdout.isatty())


def find_features(options):
    """The `Features` that the command line asks for: read, or extracted."""
    load_tensorflow()
    if options.features:
        found = features_file.read(options.features)
        source = f"--features={options.features}"
    else:
        encoder = load_encoder(options)
        images = load_images(options.images, encoder).train
        features = extract(encoder, images, options.batch_size)
        found = features_file.Features(features, images.paths.tolist())
        source = f"--encoder={options.encoder}"
    is_finite = np.isfinite(found.features).all(axis=1)
    if not is_finite.all():
        raise ValueError(
            f"{source} must give finite features. Received: NaN or inf for "
            f"{np.count_nonzero(~is_finite):,} of {len(is_finite):,} images, "
            f"such as {found.paths[int(np.argmin(is_finite))]}"
        )
    return found


def unit_length(features):
    """Features of length 1; a row of zeros stays one."""
    features = np.asarray(features, "float64")
    # Squares of numbers that are huge or tiny would be infinite or 0.
    largest = np.abs(features).max(axis=1, keepdims=True, initial=0)
    features = features / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(length > 0, length, 1)).astype("float32")


def printable(name):
    """A path as text that any file and terminal takes.

    File names are bytes, and some are no UTF-8.
    """
    return os.fsencode(name).decode("utf-8", "replace")
