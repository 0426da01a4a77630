"""The recipes of `pretrain.py`: every value that a run depends on.

A recipe is a flat dictionary, and there is a flag for each of its keys. A flag
that is set replaces the recipe's value.
"""

import math
import os
import re

from absl import flags
from command_line import check_is_elsewhere

# Key -> (type, meaning). The flags are made of this.
KEYS = {
    # Data.
    "dataset": (str, '"digits", or a data set that TFDS knows'),
    "data_dir": (str, "folder of prepared TFDS data sets"),
    "train_split": (str, "TFDS split to train on"),
    "test_split": (str, "TFDS split to hold out; empty for none"),
    "image_folder": (str, "folder of images, in place of a data set"),
    "test_folder": (str, "folder of held-out images, beside image_folder"),
    "test_fraction": (float, "fraction to hold out of digits or image_folder"),
    "labels": (bool, "whether to use labels, where there are any"),
    "channels": (int, "channels of the images of a folder: 1 or 3"),
    "as_stored": (
        bool,
        "whether the images of a folder keep their channels and 16 bits, which "
        "must be those of the first one: satellites, microscopes, X-rays",
    ),
    "source_size": (
        int,
        "side to which images are cropped and resized as they are read; larger "
        "than the views, so that crops have detail. None is evaluation_size "
        "or 8/7 of image_size for a folder, and otherwise their own",
    ),
    "crop_while_decoding": (
        bool,
        "whether views are cut out of the stored images, whole and of any "
        "size; otherwise out of images of source_size",
    ),
    "cache_dir": (
        str,
        "folder for images that are decoded and brought to source_size once, "
        "for sets that do not fit into memory and views cut out of them",
    ),
    "skip_unreadable": (bool, "skip unreadable files of image_folder"),
    "max_pixels": (int, "pixels of the largest image of a folder"),
    "max_bytes": (int, "bytes of the largest file of a folder"),
    # Views.
    "image_size": (int, "side of the views, in pixels"),
    "evaluation_size": (
        int,
        "side of the images that are evaluated, larger than the views to make "
        "up for crops, which show things larger; None is image_size",
    ),
    "strength": (float, "strength of the color jitter"),
    "blur": (bool, "whether to blur"),
    "flip": (bool, "whether to flip left to right"),
    "min_area": (float, "smallest fraction of an image that a crop shows"),
    # Encoder and projection head.
    "depth": (int, "depth of the ResNet: 18, 34, 50, 101, 152 or 200"),
    "width_multiplier": (float, "width of the ResNet"),
    "sk_ratio": (float, "selective kernels; 0.0625 in SimCLRv2, 0 is none"),
    "se_ratio": (float, "squeeze and excitation; 0 is none"),
    "stem": (str, '"imagenet", or "cifar" for small images'),
    "head_layers": (int, "layers of the projection head"),
    "head_dim": (int, "size of the projections"),
    # Loss, optimizer, schedule.
    "temperature": (float, "temperature of the loss"),
    "optimizer": (str, '"lars", "sgd" or "adamw"'),
    "learning_rate": (float, "peak learning rate, before it is scaled"),
    "learning_rate_scaling": (
        str,
        '"linear" (times batch_size / 256), "sqrt" (times its root), or "none"',
    ),
    "momentum": (float, "momentum of LARS and SGD"),
    "weight_decay": (float, "weight decay"),
    "batch_size": (int, "images in a step"),
    "micro_batch_size": (
        int,
        "images of a replica that pass the encoder at a time, for batches that "
        "do not fit into memory",
    ),
    "epochs": (int, "passes over the images"),
    "steps": (int, "steps, in place of epochs; rounded up to whole epochs"),
    "warmup_epochs": (float, "epochs in which the learning rate rises"),
    "probe": (bool, "train a linear probe as well, where there are labels"),
    "probe_on": (
        str,
        '"views" to train it on views, or "images" on the images themselves, '
        "which takes longer and says more",
    ),
    "mixed_precision": (str, "float32, mixed_bfloat16 or mixed_float16"),
    "seed": (int, "seed of initial weights, views and order"),
    "checkpoint_minutes": (
        float,
        "minutes within an epoch after which training is saved; it is saved "
        "after each epoch and on Ctrl-C as well",
    ),
    # Evaluation.
    "check_contents": (
        bool,
        "whether a run that is resumed compares what is in the files of "
        "image_folder, and not their names and sizes alone",
    ),
    "eval_examples": (
        int,
        "how many images of each set to evaluate on, at most",
    ),
    "label_draws": (int, "labelled subsets to average over"),
    "knn_k": (
        int,
        "neighbors that vote; None is the root of the number of images, at "
        "most 200",
    ),
}

# Where data lies, how long a run takes and how it is evaluated may change when
# it is resumed; everything else decides what is learned.
FREE_TO_CHANGE = (
    "data_dir",
    "checkpoint_minutes",
    "check_contents",
    # A longer run; and what is there is compared, wherever it is now.
    "epochs",
    "steps",
    "image_folder",
    "test_folder",
    "eval_examples",
    "label_draws",
    "knn_k",
)

# What is read for each source of images, of what not all of them have.
_OF_ANY_SIZE = {"source_size", "crop_while_decoding", "cache_dir"}
_OF_FOLDERS = _OF_ANY_SIZE | {
    *("test_folder", "test_fraction", "labels", "channels", "as_stored"),
    *("skip_unreadable", "max_pixels", "max_bytes", "check_contents"),
}
_OF_TFDS = _OF_ANY_SIZE | {"data_dir", "train_split", "test_split", "labels"}
_OF_DIGITS = {"test_fraction"}

# A run with fewer is told so; `docs/recipes.md` has what was measured.
FEWEST_STEPS = 300
PATHS = ("data_dir", "image_folder", "test_folder", "cache_dir")
# What runs did before they could choose.
OLDER_RUNS = {
    "crop_while_decoding": False,
    "evaluation_size": None,
    "probe_on": "views",
}

# The paper's ResNet-50 on ImageNet (Sections 2.2 and 3), for a TPU or several
# GPUs. After these 100 epochs the paper reports 64.6 % linear accuracy.
IMAGENET = {
    "dataset": "imagenet2012",
    "data_dir": None,
    "train_split": "train",
    "test_split": "validation",
    "image_folder": None,
    "test_folder": None,
    "test_fraction": 0.2,
    "labels": True,
    "channels": 3,
    "as_stored": False,
    # Of the images that are evaluated; crops are those of whole photos.
    "source_size": 256,
    "crop_while_decoding": True,
    "cache_dir": None,
    "skip_unreadable": False,
    "max_pixels": 2**27,
    "max_bytes": 2**28,
    "image_size": 224,
    "evaluation_size": None,
    "strength": 1.0,
    "blur": True,
    "flip": True,
    "min_area": 0.08,
    "depth": 50,
    "width_multiplier": 1.0,
    "sk_ratio": 0.0,
    "se_ratio": 0.0,
    "stem": "imagenet",
    "head_layers": 2,
    "head_dim": 128,
    "temperature": 0.1,
    "optimizer": "lars",
    "learning_rate": 0.3,
    "learning_rate_scaling": "linear",
    "momentum": 0.9,
    "weight_decay": 1e-6,
    "batch_size": 4096,
    "micro_batch_size": None,
    "epochs": 100,
    "steps": None,
    "warmup_epochs": 10.0,
    "probe": True,
    "probe_on": "views",
    "mixed_precision": "mixed_bfloat16",
    "seed": 0,
    "checkpoint_minutes": 10.0,
    "check_contents": False,
    "eval_examples": 50_000,
    "label_draws": 5,
    "knn_k": None,
}

# A quarter-width ResNet-18 on CIFAR-10, for half an hour on two cores. Views of
# 20 pixels cost 0.4 of those of 32.
CIFAR10 = {
    **IMAGENET,
    "dataset": "cifar10",
    "test_split": "test",
    "source_size": None,
    "crop_while_decoding": False,
    "image_size": 20,
    "evaluation_size": 32,
    "strength": 0.5,
    "blur": False,
    "min_area": 0.2,
    "depth": 18,
    "width_multiplier": 0.25,
    "stem": "cifar",
    "head_dim": 64,
    "temperature": 0.1,
    "optimizer": "sgd",
    "learning_rate": 0.3,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "epochs": 20,
    "warmup_epochs": 1.0,
    "mixed_precision": "float32",
    "eval_examples": None,
}

# A folder of 300 to 5,000 photos, for a quarter of an hour on two cores. So few
# images make few steps an epoch: the length is in steps.
SMALL = {
    **CIFAR10,
    "dataset": None,
    "image_size": 64,
    "evaluation_size": None,
    "stem": "imagenet",
    "width_multiplier": 0.5,
    "temperature": 0.2,
    "batch_size": 64,
    "epochs": None,
    "steps": 3000,
    "warmup_epochs": 5.0,
}

# CIFAR-10 to convergence, by Google's README: about 91 % linear accuracy. For
# an accelerator.
CIFAR10_PAPER = {
    **CIFAR10,
    "image_size": 32,
    "evaluation_size": None,
    "min_area": 0.08,
    "width_multiplier": 1.0,
    "head_dim": 128,
    "temperature": 0.5,
    "optimizer": "lars",
    "learning_rate": 1.0,
    "weight_decay": 1e-4,
    "batch_size": 512,
    "epochs": 1000,
    "warmup_epochs": 10.0,
}

# scikit-learn's 1,797 handwritten digits, 8x8 pixels, for a minute or two on
# two cores. A flipped digit is another sign, so views are not flipped. A batch
# of 64 has some six other images of each digit among its negatives; a high
# temperature is lenient with them.
DIGITS = {
    **CIFAR10,
    "dataset": "digits",
    "test_fraction": 0.25,
    "channels": 1,
    "image_size": 8,
    "evaluation_size": None,
    "strength": 1.0,
    "flip": False,
    "min_area": 0.5,
    "temperature": 0.5,
    "learning_rate": 0.2,
    "learning_rate_scaling": "none",
    "batch_size": 64,
    "epochs": 40,
    "warmup_epochs": 5.0,
    "knn_k": 20,
}

RECIPES = {
    "digits": DIGITS,
    "small": SMALL,
    "cifar10": CIFAR10,
    "cifar10_paper": CIFAR10_PAPER,
    "imagenet": IMAGENET,
}


# What must be at least 1, if it is given.
_COUNTS = (
    "image_size",
    "evaluation_size",
    "source_size",
    "epochs",
    "steps",
    "eval_examples",
    "label_draws",
    "knn_k",
    "micro_batch_size",
)
# What must be positive, and what may be 0 as well.
_POSITIVE = ("temperature", "learning_rate", "checkpoint_minutes")
_NOT_NEGATIVE = ("momentum", "weight_decay", "warmup_epochs", "strength")
# What the library calls by another name than the command line.
_FLAGS = {
    "`path`": "--image_folder",
    "`test_path`": "--test_folder",
    'on_error="skip"': "--skip_unreadable",
    "labels=None": "--nolabels",
}


def define_flags():
    """Defines a flag for each key."""
    define = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_boolean,
    }
    for key, (kind, meaning) in KEYS.items():
        define[kind](key, None, f"{meaning}. Default: {_defaults(key)}.")


def _defaults(key):
    """The value of each recipe in words, equal ones together."""
    names = {}
    for name, recipe in RECIPES.items():
        names.setdefault(repr(recipe[key]), []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{v} ({', '.join(n)})" for v, n in names.items())


def in_flags(message):
    """What the library says to its arguments, in the words of the flags."""
    for argument, flag in _FLAGS.items():
        message = message.replace(argument, flag)
    return re.sub(
        r"`(\w+)`",
        lambda found: f"--{found[1]}" if found[1] in KEYS else found[0],
        message,
    )


def chosen():
    """The recipe that the flags name, or else one that fits the images."""
    if flags.FLAGS.recipe:
        return flags.FLAGS.recipe
    return "small" if flags.FLAGS.image_folder else "digits"


def flags_set():
    """The values given on the command line, by key."""
    return {
        key: flags.FLAGS[key].value for key in KEYS if flags.FLAGS[key].present
    }


def resolve(recipe, values, saved=None):
    """The configuration of a run.

    Args:
        recipe: String, a key of `RECIPES`.
        values: Dictionary, the values given on the command line.
        saved: Dictionary, the configuration of the run that is resumed, which
            replaces the recipe; or None.

    Returns:
        Dictionary with all of `KEYS`, and "recipe".

    Raises:
        ValueError: If a flag contradicts the run that is resumed, or another
            flag.
    """
    if {"epochs", "steps"} <= set(values):
        raise ValueError("--epochs and --steps exclude each other.")
    check(values)
    # A run can be resumed from anywhere.
    values = {
        key: os.path.abspath(os.path.expanduser(value))
        if key in PATHS and value and "://" not in value
        else value
        for key, value in values.items()
    }
    if "epochs" in values:
        values = {**values, "steps": None}
    # A recipe's size for evaluation is one for its views.
    if saved is None and "image_size" in values:
        values = {"evaluation_size": None, **values}
    if saved is None:
        config = {"recipe": recipe, **RECIPES[recipe], **values}
        _check_is_read(config, values)
        stored, shown = config["source_size"], config["evaluation_size"]
        if stored and shown and stored < shown:
            raise ValueError(
                "--source_size, to which images are brought as they are read, "
                "must not be less than --evaluation_size. Received: "
                f"{stored} and {shown}."
            )
        return config
    if saved.get("recipe") not in RECIPES:
        raise ValueError(
            "The configuration of a run must name a recipe that there is. "
            f"Received: recipe={saved.get('recipe')!r}."
        )
    # A run that is older than a choice.
    saved = {**RECIPES[saved["recipe"]], **OLDER_RUNS, **saved}
    differing = [
        f"--{key}={value} (the run has {saved.get(key)})"
        for key, value in values.items()
        if key not in FREE_TO_CHANGE and value != saved.get(key)
    ]
    if differing:
        raise ValueError(
            "A run is resumed with the configuration that it began with. "
            f"Received: {', '.join(differing)}. Leave these flags out, or "
            "start another run with another --run_dir."
        )
    config = {**saved, **values}
    _check_is_read(
        config, {k: v for k, v in values.items() if v != saved.get(k)}
    )
    return config


def _check_is_read(config, values):
    """Raises a `ValueError` for a flag that the source of images passes over.

    Args:
        config: Dictionary, the configuration of a run.
        values: Dictionary, the values given on the command line.
    """
    if config["image_folder"]:
        source, read = "--image_folder", _OF_FOLDERS
    elif config["dataset"] == "digits":
        source, read = "--dataset=digits", _OF_DIGITS
    else:
        source, read = "a --dataset of TFDS", _OF_TFDS
    for key in (_OF_FOLDERS | _OF_DIGITS | _OF_TFDS) - read:
        value = values.get(key)
        # To switch off what is off does no harm; labels are on.
        if value not in (None, False, "") or (key, value) == ("labels", False):
            raise ValueError(
                f"--{key} is not for {source}, where it would have no effect. "
                "Leave it out."
            )
    if config["image_folder"] and config["test_folder"]:
        check_is_elsewhere(
            "--image_folder", config["image_folder"], config["test_folder"]
        )


def check(values):
    """Raises a `ValueError` for values that no run can be made of.

    Args:
        values: Dictionary from some of `KEYS`.
    """
    for key in "image_folder", "test_folder":
        value = values.get(key)
        if value and not os.path.isdir(os.path.expanduser(value)):
            raise ValueError(
                f"--{key} must be an existing folder. Received: {value}"
            )
    for keys, expected, accepts in (
        (_COUNTS, "be at least 1", lambda value: value >= 1),
        (_POSITIVE, "be positive", lambda value: 0 < value < math.inf),
        (_NOT_NEGATIVE, "be 0 or more", lambda value: 0 <= value < math.inf),
    ):
        for key in keys:
            value = values.get(key)
            if value is not None and not accepts(value):
                raise ValueError(f"--{key} must {expected}. Received: {value}.")
    if values.get("probe_on", "views") not in ("views", "images"):
        raise ValueError(
            '--probe_on must be "views" or "images". Received: '
            f"{values['probe_on']}."
        )


def count_neighbors(config, num_images):
    """The neighbors that vote: few of the images, as the kNN is weighted.

    Where half of the images vote, most of them are of other classes.
    """
    if config["knn_k"] is not None:
        return config["knn_k"]
    return min(200, max(1, round(math.sqrt(num_images))))


def count_epochs(config, steps_per_epoch):
    """The epochs of a run, which may be given in steps."""
    if config["steps"] is None:
        return config["epochs"]
    return math.ceil(config["steps"] / steps_per_epoch)
