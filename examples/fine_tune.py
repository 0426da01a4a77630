r"""Trains an encoder, all of it, with a classifier on labelled images.

    python examples/fine_tune.py --encoder=runs/cifar10 --dataset=cifar10 \
        --fraction=0.01 --baseline --output=tuned
    python examples/fine_tune.py --encoder=model.keras --images=labelled \
        --head_layers=1 --optimizer=lars --output=tuned

As the paper does with few labels: Nesterov momentum, 0.05 for 256 images, no
warm-up, crop and flip. --head_layers=1 and --optimizer=lars are SimCLRv2's.
--baseline trains the same network from scratch as well, on the same images in
the same steps. Writes into --output:

    classifier.keras  a Keras model, images in, class names out (name_classes)
    results.json      the accuracies, and which images were trained on
    classes.csv       the accuracy of each class
    confusion.png     which classes are taken for which
    training.png      loss and accuracy, epoch by epoch
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import command_line
import encoder_and_images
import labelled_data


def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser, runs=False)
    labelled_data.add_labelled_data(parser)
    count = parser.add_mutually_exclusive_group()
    count.add_argument(
        "--fraction",
        type=command_line.fraction,
        metavar="FRACTION",
        help="of the labels, the same of each class. Default: all",
    )
    count.add_argument(
        "--labels_per_class",
        type=command_line.positive,
        metavar="N",
        help="in place of --fraction",
    )
    parser.add_argument(
        "--head_layers",
        type=int,
        default=0,
        metavar="N",
        help="layers of the projection head that stay, for --encoder=*.keras "
        "of a SimCLRModel",
    )
    parser.add_argument(
        "--epochs",
        type=command_line.positive,
        metavar="N",
        help="Default: 60, or as many as make 1,000 steps",
    )
    parser.add_argument(
        "--optimizer",
        choices=("sgd", "lars"),
        default="sgd",
        help="the paper's, or SimCLRv2's with 0.005 x the root of the batch",
    )
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="train the same network from scratch, too",
    )
    command_line.add_training(parser, "of sgd, for 256 images")
    command_line.add_output(parser, "folder to write to")
    return parser


def check(options):
    """Raises a `UsageError` for what can be told without TensorFlow."""
    encoder_and_images.check_encoder(options)
    encoder_and_images.check_trainable(options)
    labelled_data.check_labelled_data(options)
    command_line.check_output_folder(
        options, options.images, options.test_folder
    )


def choose(labels, options):
    """Places of the images to train on, as many of each class."""
    import numpy as np

    from simclr_keras import evaluation

    count = options.labels_per_class
    if options.fraction is not None:
        per_class = options.fraction * len(labels) / len(np.unique(labels))
        count = max(1, round(per_class))
    if count is None:
        return np.arange(len(labels))
    return evaluation.class_balanced_subset(labels, count, options.seed)


def from_scratch(model, seed):
    """The same network, never trained."""
    import keras

    keras.utils.set_random_seed(seed)
    return type(model).from_config(model.get_config())


def make_optimizer(options, num_images):
    """SimCLRv2's, None for the paper's."""
    if options.optimizer == "sgd":
        return None
    import simclr_keras

    batch_size = min(options.train_batch_size, num_images)
    rate = simclr_keras.scaled_learning_rate(0.005, batch_size, "sqrt")
    return simclr_keras.LARS(rate)


def tune(model, encoder, data, index, options):
    """A `TrainedClassifier` of a network in the place of an `Encoder`'s."""
    from simclr_keras import callbacks, evaluation

    images, labels = data.train
    # A head that is kept has its own model around it.
    if not options.head_layers:
        model = encoder_and_images.as_simclr_model(
            encoder, model, data.value_range
        )
    return evaluation.fine_tune(
        model,
        (images[index], labels[index]),
        data.test,
        epochs=options.epochs,
        batch_size=options.train_batch_size,
        learning_rate=options.learning_rate,
        optimizer=make_optimizer(options, len(index)),
        head_layers=options.head_layers,
        class_names=data.class_names,
        value_range=data.value_range,
        seed=options.seed,
        callbacks=[callbacks.RunProgress(("loss", "accuracy"))],
    )


def write(folder, data, trained, history, results):
    """Writes all that is known of a `TrainedClassifier`.

    Args:
        folder: Path.
        data: `LabelledData`.
        trained: `TrainedClassifier`.
        history: Dictionary of what `training.png` shows, epoch by epoch.
        results: Dictionary, for `results.json`.
    """
    import numpy as np

    from simclr_keras import plots

    trained.model.save(os.path.join(folder, "classifier.keras"))
    images, labels = data.test
    predicted = trained.model.predict(images, verbose=0).argmax(axis=1)
    # Labels are numbers of any kind; what is predicted are their places.
    labels = np.searchsorted(np.unique(data.train[1]), labels)
    labelled_data.write_classes(
        os.path.join(folder, "classes.csv"),
        labels,
        predicted,
        data.class_names,
    )
    plots.plot_confusion(
        labels,
        predicted,
        data.class_names,
        os.path.join(folder, "confusion.png"),
    )
    plots.plot_history(history, os.path.join(folder, "training.png"))
    command_line.write_results(folder, results)


def main(arguments=None):
    """Fine-tunes, from scratch as well if asked to, and writes."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(options)
        encoder = encoder_and_images.load_encoder(options)
        # With its head, if that is to be kept.
        model = encoder.whole if options.head_layers else encoder.model
        data = labelled_data.load_labelled_data(
            options, encoder.image_size, encoder.folder_channels
        )
        index = choose(data.train[1], options)
        with command_line.folder_aside(
            options.output, options.overwrite
        ) as folder:
            print("Training the pretrained network ...", flush=True)
            trained = tune(model, encoder, data, index, options)
            accuracy = {"pretrained": trained.accuracy}
            history = dict(trained.history)
            if options.baseline:
                print("Training the same from scratch ...", flush=True)
                fresh = from_scratch(model, options.seed)
                baseline = tune(fresh, encoder, data, index, options)
                accuracy["from scratch"] = baseline.accuracy
                for name, values in baseline.history.items():
                    history[f"from_scratch_{name}"] = values
            import report

            results = {
                "data": data.name,
                "accuracy": accuracy,
                "num_train_images": len(index),
                "epochs": len(trained.history["loss"]),
                "num_test_images": len(data.test[1]),
                "arguments": vars(options),
                **report.describe_environment(),
                # Files of a folder, otherwise places in the training set.
                "train_images": index.tolist()
                if data.paths is None
                else [data.paths[k] for k in index],
            }
            write(folder, data, trained, history, results)
    print(
        f"Accuracy on {len(data.test[1]):,} held-out images, trained on "
        f"{len(index):,} labelled ones:"
    )
    for name, value in accuracy.items():
        print(f"  {name:14}{value:.1%}")
    print(f"The results are in {options.output}")


if __name__ == "__main__":
    main()
