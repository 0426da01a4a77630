r"""Sorts images into classes of your own, from a few labelled files.

    python examples/classify.py --encoder=runs/photos --labels=labels.csv \
        --apply=photos --output=classes
    python examples/classify.py --encoder=runs/photos --train=labelled \
        --apply=photos --output=classes
    python examples/classify.py --classifier=classes/classifier.keras \
        --apply=more --output=more_classes

labels.csv has a line "path,class" for each file, its path from here, from the
folder of labels.csv or from --apply; a first line of these two words is taken
as a header. --train has a folder for each class. A linear classifier on the
encoder as it is, or with --fine_tune all weights. Writes into --output:

    classifier.keras  a Keras model, images in, class names out (name_classes)
    results.json      accuracy on labelled files that were held out
    confusion.png     which of those were taken for what
    predictions.csv   with --apply: path, class, probability
"""

import argparse
import csv
import os
import re
import typing

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import command_line
import contact_sheet
import encoder_and_images
import numpy as np
from command_line import UsageError
from encoder_and_images import printable

# Strengths of l2 that are tried where there are labels enough to choose.
L2_VALUES = (1e0, 1e-1, 1e-2, 1e-3, 1e-4)


class Labelled(typing.NamedTuple):
    """Labelled images.

    Attributes:
        images: Set of N images.
        labels: Integer array (N,).
        class_names: List of strings.
    """

    images: typing.Any
    labels: np.ndarray
    class_names: list


# --- The command line -------------------------------------------------------
def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser, required=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--labels",
        type=command_line.path,
        metavar="FILE",
        help="CSV file: a line path,class for each labelled image. Default: "
        "none",
    )
    source.add_argument(
        "--train",
        type=command_line.path,
        metavar="FOLDER",
        help="folder with a folder of images for each class. Default: none",
    )
    source.add_argument(
        "--classifier",
        type=command_line.path,
        metavar="FILE",
        help="classifier.keras of an earlier call, to --apply it. Default: "
        "none",
    )
    parser.add_argument(
        "--apply",
        type=command_line.path,
        metavar="FOLDER",
        help="folder of images to classify. Default: none",
    )
    parser.add_argument(
        "--test_fraction",
        type=fraction,
        default=0.2,
        help="part of each class that is held out to measure the accuracy",
    )
    parser.add_argument(
        "--fine_tune",
        action="store_true",
        help="train the encoder too, not the linear classifier alone",
    )
    parser.add_argument(
        "--epochs",
        type=command_line.positive,
        help="of --fine_tune: passes over the labelled images. Default: 60, or "
        "as many as make 1,000 steps",
    )
    parser.add_argument(
        "--learning_rate",
        type=positive_float,
        default=0.05,
        help="of --fine_tune, for batches of 256; try more for few images",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="draws which files are held out"
    )
    command_line.add_output(parser, "folder to write")
    return parser


def fraction(text):
    """A part of the command line, from 0 to below 1."""
    return _number(text, lambda value: 0 <= value < 1, "lie in [0, 1)")


def positive_float(text):
    """A positive number of the command line."""
    return _number(text, lambda value: 0 < value < np.inf, "be positive")


def _number(text, is_right, expected):
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not is_right(value):
        raise argparse.ArgumentTypeError(f"must {expected}. Received: {text}")
    return value


def check(options):
    """Raises a `UsageError` for what can be known before anything is loaded."""
    if options.classifier:
        if options.encoder or not options.apply or options.fine_tune:
            raise UsageError(
                "--classifier goes with --apply, and without --encoder and "
                "--fine_tune."
            )
        options.encoder = options.classifier
    if not options.encoder:
        raise UsageError("--labels and --train need --encoder.")
    encoder_and_images.check_encoder(options)
    if encoder_and_images.is_saved_model(options.encoder):
        raise UsageError(
            "--encoder must be a run folder or a .keras file here: a "
            "classifier on a SavedModel cannot be saved whole. Received: "
            f"{options.encoder}"
        )
    if options.classifier and not options.classifier.endswith(".keras"):
        raise UsageError(
            f"--classifier must be a .keras file. Received: "
            f"{options.classifier}"
        )
    if options.labels:
        command_line.check_exists("--labels", options.labels, is_folder=False)
    for flag, folder in (
        ("--train", options.train),
        ("--apply", options.apply),
    ):
        if folder:
            encoder_and_images.check_images(flag, folder)
    command_line.check_output_folder(options, options.train, options.apply)
    if not 0 <= options.seed < 2**32:
        raise UsageError(
            f"--seed must lie in 0 ... 2**32 - 1. Received: {options.seed}"
        )


def read_labels(name, images=None):
    """Dictionary from the paths in a CSV file to their classes.

    Args:
        name: String.
        images: String, a folder that paths may start from, or None. Defaults
            to None.

    Raises:
        UsageError: If a line is no pair, or names a file that is not there.
    """
    found, classes = {}, {}
    folders = ["", os.path.dirname(name), *([images] if images else [])]
    try:
        # Spreadsheets begin a file with a mark that is no part of it.
        with open(name, newline="", encoding="utf-8-sig") as file:
            rows = [
                (n, row) for n, row in enumerate(csv.reader(file), 1) if row
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"--labels must be a CSV file in UTF-8: {error}"
        ) from None
    if rows and [cell.strip().lower() for cell in rows[0][1]] == [
        "path",
        "class",
    ]:
        rows = rows[1:]
    for number, row in rows:
        cells = [cell.strip() for cell in row]
        if len(cells) != 2 or not all(cells):
            raise UsageError(
                "--labels must have a path and a class on each line, with a "
                f"comma between them. Received on line {number} of {name}: "
                f"{','.join(row)}"
            )
        path, class_name = os.path.expanduser(cells[0]), cells[1]
        places = [os.path.join(folder, path) for folder in folders]
        path = next(filter(os.path.isfile, places), None)
        if path is None:
            raise UsageError(
                "--labels names a file that is neither here, nor beside it, "
                f"nor in --apply, on line {number} of {name}: {cells[0]}"
            )
        # A file may be named in several ways, and is one image all the same.
        file = os.path.realpath(path)
        if file not in classes:
            found[path] = classes[file] = class_name
        elif classes[file] != class_name:
            raise UsageError(
                f"--labels gives a file two classes, {classes[file]} and "
                f"{class_name}, on line {number} of {name}: {cells[0]}"
            )
    if not found:
        raise UsageError(f"--labels has no lines: {name}")
    return found


# --- The labelled images ----------------------------------------------------
def load_labelled(options, pairs, encoder):
    """The `Labelled` images of --train, or of the pairs of --labels."""
    if pairs is None:
        with command_line.said_of("--train"):
            data = encoder_and_images.load_images(
                options.train, encoder, labels="inferred"
            )
        if data.class_names is None:
            raise UsageError(
                "--train must have a folder for each class. Received a folder "
                f"of images: {options.train}"
            )
        images = data.train
        names = np.array(data.class_names)[images.labels]
    else:
        images, is_valid = encoder_and_images.load_files(list(pairs), encoder)
        names = np.array(list(pairs.values()))[is_valid]
    class_names, labels = np.unique(names, return_inverse=True)
    if len(class_names) < 2:
        raise UsageError(
            "There must be at least two classes. Received readable images of "
            f"one alone: {class_names[0]}"
        )
    return Labelled(images, labels, class_names.tolist())


def split(labels, test_fraction, seed):
    """Rows to train on, and rows that are held out, class by class."""
    from simclr_keras.data.image_set import split_indices

    try:
        return split_indices(len(labels), labels, test_fraction, seed)
    except ValueError:  # Too few of each class to hold out one.
        return np.arange(len(labels)), np.arange(0)


# --- The classifier ---------------------------------------------------------
def fit_linear(features, labels):
    """A logistic regression by the protocol of `linear_evaluation`.

    Args:
        features: Float array (N, F).
        labels: Integer array (N,), all of 0 ... C - 1.

    Returns:
        (kernel (F, C), bias (C,)) of a dense layer on the features.
    """
    from sklearn.linear_model import LogisticRegression

    from simclr_keras import evaluation

    # It chooses l2, where there are labels enough; its accuracy is not used.
    l2 = evaluation.linear_evaluation(
        features, labels, features, labels, l2_values=L2_VALUES
    ).l2
    mean = features.mean(axis=0, dtype="float64")
    deviation = np.sqrt(features.var(axis=0, dtype="float64").mean()) or 1.0
    # scikit-learn minimises C * sum of losses + 1/2 |W|^2.
    regression = LogisticRegression(C=1 / (l2 * len(labels)), max_iter=1000)
    regression.fit((features - mean) / deviation, labels)
    kernel, bias = regression.coef_.T, regression.intercept_
    if kernel.shape[1] == 1:
        # Of two classes scikit-learn has the difference of their logits.
        kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=1)
        bias = np.concatenate([np.zeros_like(bias), bias])
    # The layer gets features as they come.
    kernel = kernel / deviation
    return kernel, bias - mean @ kernel


def train_linear(encoder, labelled, rows, batch_size):
    """An `ImageClassifier` of a linear layer on the encoder as it is."""
    from simclr_keras import augmentation, evaluation

    features = encoder_and_images.extract(
        encoder, labelled.images.subset(rows), batch_size
    )
    weights = fit_linear(features, labelled.labels[rows])
    images = labelled.images
    value_range = (0, np.iinfo(images.dtype).max)
    classifier = evaluation.ImageClassifier(
        encoder.model,
        labelled.class_names,
        # Of what it was trained on, wherever it is applied.
        augmentation=augmentation.CenterCropAndResize(
            *encoder.image_size,
            crop_proportion=1.0,
            only_other_sizes=True,
            value_range=value_range,
        ),
        value_range=value_range,
    )
    # Makes its weights.
    classifier(np.zeros((1, *images.image_shape), images.dtype))
    classifier.classifier.set_weights(weights)
    return classifier


def train_all(encoder, labelled, rows, options):
    """An `ImageClassifier` of which all weights were trained."""
    from simclr_keras import evaluation

    images, _ = labelled.images.subset(rows).arrays()
    print("Fine-tuning ...", flush=True)
    return evaluation.fine_tune(
        encoder.model,
        (images, labelled.labels[rows]),
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        class_names=labelled.class_names,
        value_range=(0, np.iinfo(images.dtype).max),
        seed=options.seed,
    ).model


def probabilities(classifier, images, batch_size):
    """Float array (N, C) of a set of images."""
    logits = classifier.predict(
        images.batches(batch_size), verbose=encoder_and_images.progress()
    )
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def measure(classifier, labelled, rows, batch_size):
    """What held-out images are taken for, places of classes (M,)."""
    if not len(rows):
        return np.zeros(0, int)
    return probabilities(
        classifier, labelled.images.subset(rows), batch_size
    ).argmax(axis=1)


# --- What is written --------------------------------------------------------
def describe(options, labelled, train, test, predicted):
    """What `results.json` has."""
    count = len(labelled.class_names)
    confusion = np.zeros((count, count), int)  # True, then predicted.
    np.add.at(confusion, (labelled.labels[test], predicted), 1)
    right = int(np.trace(confusion))
    totals = confusion.sum(axis=1)
    return {
        "accuracy": right / len(test) if len(test) else None,
        "method": "fine_tune" if options.fine_tune else "linear",
        "num_train_images": len(train),
        "num_test_images": len(test),
        "classes": {
            name: {
                "num_train_images": int((labelled.labels[train] == k).sum()),
                "num_test_images": int(totals[k]),
                "accuracy": confusion[k, k] / totals[k] if totals[k] else None,
            }
            for k, name in enumerate(labelled.class_names)
        },
        "confusion": confusion.tolist(),
    }


def write_predictions(name, classifier, images, batch_size):
    """Writes `predictions.csv` and returns how many lines it has."""
    found = probabilities(classifier, images, batch_size)
    with open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "probability"])
        for path, row in zip(images.paths, found):
            best = int(row.argmax())
            writer.writerow(
                [
                    printable(path),
                    classifier.class_names[best],
                    f"{row[best]:.6f}",
                ]
            )
    return len(found)


def train(options, pairs, encoder, folder):
    """Trains, measures, and writes all but the predictions."""
    import report

    import simclr_keras

    labelled = load_labelled(options, pairs, encoder)
    rows, held_out = split(labelled.labels, options.test_fraction, options.seed)
    if options.fine_tune:
        classifier = train_all(encoder, labelled, rows, options)
    else:
        classifier = train_linear(encoder, labelled, rows, options.batch_size)
    predicted = measure(classifier, labelled, held_out, options.batch_size)
    results = {
        **describe(options, labelled, rows, held_out, predicted),
        "arguments": vars(options),
        **report.describe_environment(),
    }
    classifier.save(os.path.join(folder, "classifier.keras"))
    command_line.write_results(folder, results)
    if len(held_out):
        simclr_keras.plots.plot_confusion(
            labelled.labels[held_out],
            predicted,
            [contact_sheet.short(name, 24) for name in labelled.class_names],
            os.path.join(folder, "confusion.png"),
        )
        print(
            f"{results['accuracy']:.1%} of {len(held_out):,} held-out images "
            f"right, trained on {len(rows):,}; by chance "
            f"{1 / len(labelled.class_names):.1%}."
        )
    else:
        print(f"Trained on {len(rows):,} images. None is held out to measure.")
    return classifier


def main(arguments=None):
    """Trains a classifier, or loads one, and applies it."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(options)
        pairs = None
        if options.labels:
            pairs = read_labels(options.labels, options.apply)
        encoder = encoder_and_images.load_encoder(options)
        if options.apply:
            # First: nobody wants to hear of them after an hour of training.
            with command_line.said_of("--apply"):
                images = encoder_and_images.load_images(
                    options.apply, encoder
                ).train
        stale = re.compile(r"predictions\.csv|confusion\.png")
        with command_line.folder_aside(
            options.output, options.overwrite, stale
        ) as folder:
            if options.classifier:
                classifier = encoder_and_images.load_classifier(options)
            else:
                classifier = train(options, pairs, encoder, folder)
            if options.apply:
                name = os.path.join(folder, "predictions.csv")
                count = write_predictions(
                    name, classifier, images, options.batch_size
                )
                print(f"{count:,} images classified.")
        print(f"The results are in {options.output}")


if __name__ == "__main__":
    main()
