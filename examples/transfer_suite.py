"""How far representations transfer: the paper's twelve data sets.

    python examples/transfer_suite.py --encoder=runs/imagenet \
        --data_dir=~/tensorflow_datasets --output=transferred

Section 4.3, Table 8 and Appendix B.8 of the paper: a linear classifier on
frozen features, by L-BFGS, and if asked for fine-tuning of all weights. Each
data set has its own splits and its own measure: accuracy, its mean over
classes, or the 11-point mean average precision (mAP) of images with several
labels. TFDS must have prepared them (`tfds build NAME`); those that are not
there are listed as missing. Two, Birdsnap and Aircraft, TFDS does not know.
Writes a table, table.md, and the numbers behind it, results.json.
"""

import os
import time
import typing

import command_line
import encoder_and_images

ACCURACY, PER_CLASS, MAP = "accuracy", "mean per class", "11-point mAP"


class Task(typing.NamedTuple):
    """One of the twelve.

    Attributes:
        name: String, as in the paper.
        tfds_name: String, or None where TFDS does not know it.
        train, test: Strings, the splits.
        measure: `ACCURACY`, `PER_CLASS` or `MAP`.
    """

    name: str
    tfds_name: typing.Any
    train: str
    test: str
    measure: str


TASKS = (
    Task("Food-101", "food101", "train", "validation", ACCURACY),
    Task("CIFAR-10", "cifar10", "train", "test", ACCURACY),
    Task("CIFAR-100", "cifar100", "train", "test", ACCURACY),
    Task("Birdsnap", None, "train", "test", ACCURACY),
    # The first of its ten partitions.
    Task("SUN397", "sun397/standard-part1-120k", "train", "test", ACCURACY),
    Task("Cars", "cars196", "train", "test", ACCURACY),
    Task("Aircraft", None, "train", "test", PER_CLASS),
    Task("VOC2007", "voc/2007", "train+validation", "test", MAP),
    Task("DTD", "dtd", "train+validation", "test", ACCURACY),
    Task("Pets", "oxford_iiit_pet", "train", "test", PER_CLASS),
    Task("Caltech-101", "caltech101", "train", "test", PER_CLASS),
    Task("Flowers", "oxford_flowers102", "train+validation", "test", PER_CLASS),
)
PROTOCOLS = ("linear", "fine_tune")
# One a decade of the paper's range, for each class of images with several
# labels; the paper tries 45.
MULTI_LABEL_L2 = tuple(10.0**k for k in range(5, -7, -1))


def make_parser():
    """The command line."""
    names = [task.name for task in TASKS]
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser)
    parser.add_argument(
        "--data_dir",
        type=command_line.path,
        metavar="FOLDER",
        help="where TFDS finds data sets. Default: where it puts them itself",
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"some of: {', '.join(names)}",
    )
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=PROTOCOLS,
        default=["linear"],
        help="what to measure",
    )
    parser.add_argument(
        "--fine_tune_epochs",
        type=command_line.positive,
        metavar="N",
        help="Default: 60, or as many as make 1,000 steps",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    command_line.add_output(parser, "folder to write to")
    return parser


def check(options):
    """Raises a `UsageError` for what can be told without TensorFlow."""
    encoder_and_images.check_encoder(options)
    if "fine_tune" in options.protocols:
        encoder_and_images.check_trainable(options)
    if options.data_dir:
        command_line.check_exists("--data_dir", options.data_dir, True)
    command_line.check_output_folder(options)


def load(task, image_size, data_dir):
    """The images of a task, or None where they are not prepared.

    Returns:
        Pair of an `ImageData` and, for train and test, the labels: integers
        (N,), or booleans (N, C) for mAP.
    """
    import simclr_keras

    if task.tfds_name is None:
        return None
    try:
        data = simclr_keras.data.load_tfds(
            task.tfds_name,
            data_dir,
            train_split=task.train,
            test_split=task.test,
            image_size=image_size,
            label_key=None if task.measure == MAP else "label",
            download=False,
        )
    except FileNotFoundError:
        return None
    if task.measure == MAP:
        splits = task.train, task.test
        return data, [read_labels(task, each, data_dir) for each in splits]
    return data, [data.train.labels, data.test.labels]


def read_labels(task, split, data_dir):
    """Which classes each image shows, in the order in which images are read.

    Returns:
        Boolean array (N, C).
    """
    import numpy as np
    import tensorflow_datasets as tfds

    builder = tfds.builder(f"{task.tfds_name}:*.*.*", data_dir=data_dir)
    records = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding({"labels": True}),
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    num_classes = builder.info.features["labels"].feature.num_classes
    return np.array(
        [
            np.isin(np.arange(num_classes), record["labels"])
            for record in records.as_numpy_iterator()
        ]
    )


def measure(task, encoder, data, labels, options):
    """Dictionary from each protocol to its result, None where it has none."""
    from simclr_keras import evaluation

    results = {}
    if "linear" in options.protocols:
        train, test = (
            encoder_and_images.extract(encoder, part, options.batch_size)
            for part in (data.train, data.test)
        )
        if task.measure == MAP:
            results["linear"] = linear_map(train, labels[0], test, labels[1])
        else:
            found = evaluation.linear_evaluation(
                train, labels[0], test, labels[1], seed=options.seed
            )
            results["linear"] = (
                found.accuracy
                if task.measure == ACCURACY
                else found.mean_per_class_accuracy
            )
    if "fine_tune" in options.protocols:
        results["fine_tune"] = None
        if task.measure != MAP:  # A class for each image is what it learns.
            results["fine_tune"] = fine_tune(task, encoder, data, options)
    return results


def fine_tune(task, encoder, data, options):
    """The accuracy after all weights were trained, as the task measures it."""
    import numpy as np

    from simclr_keras import evaluation

    images, labels = data.test.arrays()
    tuned = evaluation.fine_tune(
        encoder.model,
        data.train.arrays(),
        epochs=options.fine_tune_epochs,
        value_range=data.value_range,
        seed=options.seed,
        verbose=encoder_and_images.progress() or 2,
    )
    places = tuned.model.predict(images, verbose=0).argmax(axis=1)
    is_right = np.unique(data.train.labels)[places] == labels
    if task.measure == ACCURACY:
        return float(is_right.mean())
    classes = np.unique(labels)
    return float(np.mean([is_right[labels == c].mean() for c in classes]))


def linear_map(train, labels, test, test_labels):
    """The mAP of a logistic regression for each class.

    The regularisation is chosen by a fifth of the training images.

    Args:
        train, test: Float arrays (N, F) and (M, F).
        labels, test_labels: Boolean arrays (N, C) and (M, C).
    """
    import warnings

    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from simclr_keras import evaluation

    train, test = evaluation.standardize(train, test)
    held_out = np.zeros(len(train), bool)
    order = np.random.default_rng(0).permutation(len(train))
    held_out[order[: len(train) // 5]] = True
    # Those that a part of the images does not show cannot be measured there.
    known = labels[~held_out].any(axis=0) & labels[held_out].any(axis=0)

    def scores(rows, classes, others, l2):
        columns = []
        for is_shown in classes.T:
            with warnings.catch_warnings():
                # The limit on iterations is meant, so it is not news.
                warnings.filterwarnings("ignore", message=".*converge.*")
                classifier = LogisticRegression(C=1 / (l2 * len(rows)))
                classifier.fit(rows, is_shown)
            columns.append(classifier.decision_function(others))
        return np.stack(columns, axis=1)

    def validate(l2):
        found = scores(
            train[~held_out], labels[~held_out][:, known], train[held_out], l2
        )
        return evaluation.mean_average_precision(
            labels[held_out][:, known], found
        )

    best = max(MULTI_LABEL_L2, key=validate)
    shown = labels.any(axis=0) & test_labels.any(axis=0)
    found = scores(train, labels[:, shown], test, best)
    return evaluation.mean_average_precision(test_labels[:, shown], found)


def table(rows, protocols):
    """The results as a table in Markdown."""
    lines = [
        "| Data set | Measure | Train | Test | " + " | ".join(protocols) + " |",
        "| --- | --- | ---: | ---: | " + " | ".join(["---:"] * len(protocols)),
    ]
    lines[1] += " |"
    for row in rows:
        if row["results"] is None:
            cells = ["missing"] * len(protocols)
        else:
            cells = [_percent(row["results"][name]) for name in protocols]
        counts = [
            f"{row[name]:,}" if row[name] else ""
            for name in ("num_train_images", "num_test_images")
        ]
        cells = [row["name"], row["measure"], *counts, *cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(value):
    return "not measured" if value is None else f"{100 * value:.1f}"


def main(arguments=None):
    """Measures one data set after the other, and writes."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(options)
        encoder = encoder_and_images.load_encoder(options)
        rows = []
        with command_line.folder_aside(
            options.output, options.overwrite
        ) as folder:
            for task in TASKS:
                if task.name not in options.sets:
                    continue
                row = {
                    "name": task.name,
                    "measure": task.measure,
                    "num_train_images": None,
                    "num_test_images": None,
                    "results": None,
                }
                rows.append(row)
                found = load(task, encoder.image_size, options.data_dir)
                if found is None:
                    print(f"{task.name}: missing, {_advice(task)}")
                    continue
                data, labels = found
                started = time.monotonic()
                row["results"] = measure(task, encoder, data, labels, options)
                row["num_train_images"] = data.train.num_images
                row["num_test_images"] = data.test.num_images
                row["data"] = data.name
                row["seconds"] = round(time.monotonic() - started, 1)
                print(
                    f"{task.name}, {task.measure}: "
                    + ", ".join(
                        f"{name} {_percent(value)}"
                        for name, value in row["results"].items()
                    ),
                    flush=True,
                )
            if all(row["results"] is None for row in rows):
                raise ValueError(
                    "None of the data sets is prepared in "
                    f"{options.data_dir or 'the folder of TFDS'}."
                )
            text = table(rows, options.protocols)
            path = os.path.join(folder, "table.md")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            command_line.write_results(
                folder, {"arguments": vars(options), "sets": rows}
            )
    print(f"\n{text}\n\nThe results are in {options.output}")


def _advice(task):
    if task.tfds_name is None:
        return "TFDS does not know it"
    return f"tfds build {task.tfds_name} prepares it"


if __name__ == "__main__":
    main()
