"""What the encoder of a run is worth on the run's own labelled images.

    python examples/evaluate.py --run_dir=runs/cifar10

Takes a finished run of `pretrain.py` whose data has labels and held-out
images, and measures, as the papers do:

    knn               nearest neighbours, k 200 and temperature 0.1
    linear            a logistic regression on frozen features, by L-BFGS
    linear_on_images  a linear classifier on augmented images, by SGD, for
                      90 epochs through the frozen encoder
    fine_tune         all weights, on a few labels of each class, and the same
                      network from scratch in the same way

Prints a table and writes it with the numbers behind it: results.json, per
class classes.csv, confusion.png of the linear classifier, and map.png.
"""

import argparse
import csv
import json
import os
import time

import command_line

PROTOCOLS = ("knn", "linear", "linear_on_images", "fine_tune")


def parse_arguments(arguments=None):
    """The command line."""
    parser = command_line.Parser(__doc__)
    parser.add_argument(
        "--run_dir",
        type=command_line.path,
        required=True,
        metavar="FOLDER",
        help="run folder of pretrain.py, with config.json and encoder.keras",
    )
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=PROTOCOLS,
        default=["knn", "linear"],
        help="what to measure",
    )
    parser.add_argument(
        "--fractions",
        nargs="+",
        type=_fraction,
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
    parser.add_argument(
        "--data_dir",
        type=command_line.path,
        metavar="FOLDER",
        help="where TFDS finds its data sets, if not where the run did",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument(
        "--output",
        type=command_line.path,
        metavar="FOLDER",
        help="where to write; RUN_DIR/evaluation by default",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what an earlier call has written there",
    )
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        _check(options)
    return parser, options


def _fraction(text):
    """A part of the labels, in (0, 1]."""
    try:
        if 0 < float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must lie in (0, 1]. Received: {text}")


def _check(options):
    for name in ("config.json", "encoder.keras"):
        if not os.path.isfile(os.path.join(options.run_dir, name)):
            raise command_line.UsageError(
                "--run_dir must be the folder of a finished run of "
                f"pretrain.py. Received: {options.run_dir}, which has no {name}"
            )
    if options.fine_tune_epochs is None:
        options.fine_tune_epochs = [None] * len(options.fractions)
    if len(options.fine_tune_epochs) != len(options.fractions):
        raise command_line.UsageError(
            "--fine_tune_epochs must have a number for each of --fractions. "
            f"Received: {options.fine_tune_epochs} for {options.fractions}"
        )
    if options.output is None:
        options.output = os.path.join(options.run_dir, "evaluation")
    command_line.check_output_folder(options)


class Run:
    """The data of a run, and its network with and without its training."""

    def __init__(self, options):
        import keras
        import pretrain
        from run_folder import RunFolder

        folder = RunFolder(options.run_dir, resume=True)
        config = folder.read_config()
        if options.data_dir is not None:
            config["data_dir"] = options.data_dir
        data = pretrain.load_data(config)
        if not data.train.has_labels or data.test is None:
            raise ValueError(
                "The run's data must have labels and held-out images. "
                f"Received: {data.name}."
            )
        self.data, self.seed = data, options.seed
        self.model = pretrain.build_model(config, data, epochs=1)
        self.weights = {
            "from scratch": self.model.encoder.get_weights(),
            "pretrained": keras.saving.load_model(
                folder.file("encoder.keras")
            ).get_weights(),
        }
        self.train, self.test = data.train.arrays(), data.test.arrays()

    def model_of(self, name):
        """The model with the weights of that name, until the next call."""
        self.model.encoder.set_weights(self.weights[name])
        return self.model

    def subset(self, fraction):
        """That part of the labels, as many of each class, as a pair."""
        from simclr_keras import evaluation

        images, labels = self.train
        count = round(fraction * len(labels) / self.data.num_classes)
        index = evaluation.class_balanced_subset(
            labels, max(count, 1), self.seed
        )
        return images[index], labels[index]


def measure(run, options, folder):
    """Pairs of a line of the table and its accuracy, one after the other."""
    from simclr_keras import evaluation

    model = run.model_of("pretrained")
    if {"knn", "linear"} & set(options.protocols):
        train, test = (
            evaluation.extract_features(model, part)
            for part in (run.data.train, run.data.test)
        )
        sets = train, run.train[1], test, run.test[1]
    if "knn" in options.protocols:
        k = min(200, len(train))
        yield f"knn, k {k}", evaluation.knn_accuracy(*sets, k=k)
    if "linear" in options.protocols:
        result = evaluation.linear_evaluation(*sets)
        draw(run, test, result.predicted, folder)
        yield f"linear, L-BFGS, l2 {result.l2:.2g}", result.accuracy
    if "linear_on_images" in options.protocols:
        result = evaluation.linear_evaluation_on_images(
            model,
            run.train,
            run.test,
            epochs=options.linear_epochs,
            learning_rates=options.learning_rates,
            seed=run.seed,
            verbose=2,
        )
        rate = f"{result.learning_rate:g}"
        yield f"linear, SGD on images, rate {rate}", result.accuracy
    if "fine_tune" in options.protocols:
        for fraction, epochs in zip(
            options.fractions, options.fine_tune_epochs
        ):
            for name in run.weights:
                tuned = evaluation.fine_tune(
                    run.model_of(name),
                    run.subset(fraction),
                    run.test,
                    epochs=epochs,
                    learning_rate=options.fine_tune_rate,
                    seed=run.seed,
                )
                yield f"{fraction:.0%} of the labels, {name}", tuned.accuracy


def draw(run, test_features, predicted, folder):
    """The pictures, and the accuracy of each class."""
    from simclr_keras import plots

    labels, names = run.test[1], run.data.class_names
    plots.plot_confusion(
        labels, predicted, names, os.path.join(folder, "confusion.png")
    )
    plots.plot_representations(
        test_features,
        labels,
        names,
        run.data.name,
        os.path.join(folder, "map.png"),
    )
    path = os.path.join(folder, "classes.csv")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "images", "accuracy"])
        for k, name in enumerate(names):
            is_right = predicted[labels == k] == k
            share = is_right.mean() if len(is_right) else ""
            writer.writerow([name, len(is_right), share])


def main(arguments=None):
    """Measures one protocol after the other; each is printed as it is known."""
    parser, options = parse_arguments(arguments)
    with (
        command_line.one_line_errors(parser),
        command_line.folder_aside(options.output) as folder,
    ):
        run = Run(options)
        found, started = [], time.monotonic()
        for name, accuracy in measure(run, options, folder):
            seconds = round(time.monotonic() - started, 1)
            started = time.monotonic()
            found.append(
                {"what": name, "accuracy": accuracy, "seconds": seconds}
            )
            print(f"{name:40}{100 * accuracy:6.1f} %{seconds:9.1f} s")
        import report

        results = {
            "data": run.data.name,
            "num_train_images": run.data.train.num_images,
            "num_test_images": run.data.test.num_images,
            "arguments": vars(options),
            "accuracy": found,
            **report.describe_environment(),
        }
        path = os.path.join(folder, "results.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)
            file.write("\n")
    print(f"The results are in {options.output}")


if __name__ == "__main__":
    main()
