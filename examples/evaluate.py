r"""What an encoder is worth on labelled images, as the papers measure it.

    python examples/evaluate.py --encoder=runs/cifar10
    python examples/evaluate.py --encoder=model.keras --images=labelled \
        --output=worth

A run of `pretrain.py` is measured on its own images, unless others are given.
The protocols:

    knn               nearest neighbours, temperature 0.1
    linear            a logistic regression on frozen features, by L-BFGS
    linear_on_images  a linear classifier on augmented images, by SGD, for
                      90 epochs through the frozen encoder
    fine_tune         all weights, on a few labels of each class, and the same
                      network from scratch in the same way

Prints a table and writes it with the numbers behind it: results.json, per
class classes.csv, confusion.png of the linear classifier, and map.png.
"""

import json
import os
import re
import time

import command_line
import encoder_and_images
import labelled_data

PROTOCOLS = ("knn", "linear", "linear_on_images", "fine_tune")
# What a flag is for, where it is for one of them alone.
PROTOCOL_OF = {
    "k": "knn",
    "linear_epochs": "linear_on_images",
    "nocrops": "linear_on_images",
    "learning_rates": "linear_on_images",
    "fractions": "fine_tune",
    "fine_tune_epochs": "fine_tune",
    "fine_tune_rate": "fine_tune",
}


def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser)
    labelled_data.add_labelled_data(parser, required=False)
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=PROTOCOLS,
        default=["knn", "linear"],
        help="what to measure",
    )
    parser.add_argument(
        "--k",
        type=command_line.positive,
        metavar="N",
        help="neighbours that vote. Default: the root of the number of "
        "images, at most 200",
    )
    parser.add_argument(
        "--fractions",
        nargs="+",
        type=command_line.fraction,
        default=[0.01, 0.1],
        metavar="FRACTION",
        help="of the labels, for fine_tune; the same of each class",
    )
    parser.add_argument(
        "--fine_tune_epochs",
        nargs="+",
        type=command_line.positive,
        metavar="EPOCHS",
        help="for each of --fractions, in the paper 60 and 30. Default: 60, or "
        "as many as make 1,000 steps",
    )
    parser.add_argument(
        "--linear_epochs",
        type=command_line.positive,
        default=90,
        metavar="EPOCHS",
        help="for linear_on_images",
    )
    parser.add_argument(
        "--nocrops",
        action="store_true",
        help="for linear_on_images: the images themselves in place of random "
        "crops and flips of them, which an encoder that was trained for a "
        "short time knows less well",
    )
    parser.add_argument(
        "--learning_rates",
        nargs="+",
        type=float,
        default=[0.03, 0.1, 0.3, 1.0],
        metavar="RATE",
        help="for linear_on_images, for 256 images; a tenth of the training "
        "images chooses",
    )
    parser.add_argument(
        "--fine_tune_rate",
        type=float,
        default=0.05,
        metavar="RATE",
        help="learning rate of fine_tune, for 256 images",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    command_line.add_output(
        parser,
        "where to write. Default: evaluation, in the folder of a run",
        required=False,
    )
    return parser


def check(parser, options):
    """Raises a `UsageError` for what can be told without TensorFlow."""
    encoder_and_images.check_encoder(options)
    is_run = os.path.isfile(os.path.join(options.encoder, "config.json"))
    has_data = options.images or options.dataset or options.arrays
    if not has_data and not is_run:
        raise command_line.UsageError(
            "--images, --dataset or --arrays must say what to measure on, "
            "where --encoder is no run of pretrain.py. Received: "
            f"{options.encoder}"
        )
    # A run knows its data set, but not where it lies by now.
    labelled_data.check_labelled_data(options, has_dataset=not has_data)
    if options.output is None and not is_run:
        raise command_line.UsageError("--output must say where to write.")
    options.output = options.output or os.path.join(
        options.encoder, "evaluation"
    )
    if "fine_tune" in options.protocols:
        encoder_and_images.check_trainable(options)
    for flag, protocol in PROTOCOL_OF.items():
        is_given = getattr(options, flag) != parser.get_default(flag)
        if is_given and protocol not in options.protocols:
            raise command_line.UsageError(
                f"--{flag} needs {protocol} among --protocols."
            )
    if options.fine_tune_epochs is None:
        options.fine_tune_epochs = [None] * len(options.fractions)
    if len(options.fine_tune_epochs) != len(options.fractions):
        raise command_line.UsageError(
            "--fine_tune_epochs must have a number for each of --fractions. "
            f"Received: {options.fine_tune_epochs} for {options.fractions}"
        )
    command_line.check_output_folder(
        options, options.images, options.test_folder
    )


def stale_in(folder):
    """What an earlier call may have written and this one may not, or ()."""
    try:
        with open(os.path.join(folder, "results.json")) as file:
            is_own = "protocols" in json.load(file)["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        is_own = False
    return re.compile(r"(confusion|map)\.png|classes\.csv") if is_own else ()


def load_data(options, encoder):
    """The `LabelledData` to measure on: what is given, or the run's own."""
    if options.images or options.dataset or options.arrays:
        return labelled_data.load_labelled_data(
            options, encoder.image_size, encoder.folder_channels
        )
    import pretraining
    import recipes
    from run_folder import RunFolder

    saved = RunFolder(options.encoder, resume=True).read_config()
    moved = {} if options.data_dir is None else {"data_dir": options.data_dir}
    # A run may be older than some of the keys.
    config = recipes.resolve(saved.get("recipe"), moved, saved)
    return labelled_data.of_image_data(pretraining.load_data(config))


def features_of(encoder, images, data, options):
    """Representations (N, F) of images of the data's range."""
    from simclr_keras import evaluation

    # A run's images are larger than its views, and data sets of any size.
    whole = encoder_and_images.as_simclr_model(
        encoder, encoder.model, data.value_range
    )
    return evaluation.extract_features(
        whole, images, batch_size=options.batch_size
    )


def measure(encoder, data, options, folder):
    """Pairs of a line of the table and its accuracy, one after the other."""
    from recipes import count_neighbors

    from simclr_keras import evaluation

    images, labels = data.train
    if {"knn", "linear"} & set(options.protocols):
        train, test = (
            features_of(encoder, part, data, options)
            for part in (images, data.test[0])
        )
        sets = train, labels, test, data.test[1]
    if "knn" in options.protocols:
        k = count_neighbors({"knn_k": options.k}, len(train))
        yield f"knn, k {k}", evaluation.knn_accuracy(*sets, k=k)
        if len(data.class_names) > 5:
            accuracy = evaluation.knn_accuracy(*sets, k=k, top=5)
            yield f"knn, k {k}, among the first 5", accuracy
    if "linear" in options.protocols:
        result = evaluation.linear_evaluation(*sets, seed=options.seed)
        draw(data, test, result.predicted, folder)
        yield f"linear, L-BFGS, l2 {result.l2:.2g}", result.accuracy
    if "linear_on_images" in options.protocols:
        result = evaluation.linear_evaluation_on_images(
            encoder_and_images.as_simclr_model(
                encoder, encoder.model, data.value_range
            ),
            data.train,
            data.test,
            epochs=options.linear_epochs,
            learning_rates=options.learning_rates,
            **({"augmentation": None} if options.nocrops else {}),
            value_range=data.value_range,
            seed=options.seed,
            verbose=2,
        )
        name = "images" if options.nocrops else "crops"
        rate = f"{result.learning_rate:g}"
        yield f"linear, SGD on {name}, rate {rate}", result.accuracy
    if "fine_tune" in options.protocols:
        yield from measure_fine_tuned(encoder, data, options)


def measure_fine_tuned(encoder, data, options):
    """As `measure`, for a few labels, beside the same network untrained."""
    from fine_tune import from_scratch

    from simclr_keras import evaluation

    images, labels = data.train
    networks = {
        "from scratch": from_scratch(encoder.model, options.seed),
        "pretrained": encoder.model,
    }
    for fraction, epochs in zip(options.fractions, options.fine_tune_epochs):
        count = round(fraction * len(labels) / len(data.class_names))
        index = evaluation.class_balanced_subset(
            labels, max(count, 1), options.seed
        )
        for name, network in networks.items():
            tuned = evaluation.fine_tune(
                encoder_and_images.as_simclr_model(
                    encoder, network, data.value_range
                ),
                (images[index], labels[index]),
                data.test,
                epochs=epochs,
                learning_rate=options.fine_tune_rate,
                value_range=data.value_range,
                seed=options.seed,
            )
            share = f"{100 * fraction:.3g}% of the labels ({len(index):,})"
            yield f"{share}, {name}", tuned.accuracy


def draw(data, test_features, predicted, folder):
    """The pictures, and the accuracy of each class."""
    import numpy as np

    from simclr_keras import plots

    # Labels are numbers of any kind; names are in their order.
    classes = np.unique(data.train[1])
    labels, predicted = (
        np.searchsorted(classes, each) for each in (data.test[1], predicted)
    )
    names = data.class_names
    plots.plot_confusion(
        labels, predicted, names, os.path.join(folder, "confusion.png")
    )
    plots.plot_representations(
        test_features, labels, names, data.name, os.path.join(folder, "map.png")
    )
    labelled_data.write_classes(
        os.path.join(folder, "classes.csv"), labels, predicted, names
    )


def main(arguments=None):
    """Measures one protocol after the other; each is printed as it is known."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(parser, options)
        encoder = encoder_and_images.load_encoder(options)
        data = load_data(options, encoder)
        print(
            f"{data.name}: {len(data.train[1]):,} images to train on, "
            f"{len(data.test[1]):,} held out, {len(data.class_names):,} classes"
        )
        with command_line.folder_aside(
            options.output, options.overwrite, stale_in(options.output)
        ) as folder:
            found, started = [], time.monotonic()
            for name, accuracy in measure(encoder, data, options, folder):
                seconds = round(time.monotonic() - started, 1)
                started = time.monotonic()
                found.append(
                    {"what": name, "accuracy": accuracy, "seconds": seconds}
                )
                print(f"{name:40}{100 * accuracy:6.1f} %{seconds:9.1f} s")
            import report

            results = {
                "data": data.name,
                "num_train_images": len(data.train[1]),
                "num_test_images": len(data.test[1]),
                "arguments": vars(options),
                "accuracy": found,
                **report.describe_environment(),
            }
            command_line.write_results(folder, results)
    print(f"The results are in {options.output}")


if __name__ == "__main__":
    main()
