r"""Trains a student to answer as a classifier does, on images without labels.

    python examples/distill.py --teacher=tuned/classifier.keras \
        --dataset=cifar10 --width_multiplier=0.5 --output=student
    python examples/distill.py --teacher=tuned/classifier.keras \
        --images=labelled --student=runs/small --output=student

What SimCLRv2 does last: the student sees the images, of which the labels are
not used, and the probabilities that the teacher gives. It is another encoder,
pretrained (--student), or a ResNet that was never trained. The held-out images
measure both. Writes classifier.keras, the student, and results.json into
--output.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import command_line
import encoder_and_images
import labelled_data
import loading


def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    parser.add_argument(
        "--teacher",
        type=command_line.path,
        required=True,
        metavar="FILE",
        help="classifier.keras of fine_tune.py or classify.py",
    )
    parser.add_argument(
        "--student",
        type=command_line.path,
        metavar="ENCODER",
        help="run folder of pretrain.py or .keras file of an encoder. Default: "
        "a ResNet that was never trained",
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=18,
        help="of that ResNet",
    )
    parser.add_argument(
        "--width_multiplier",
        type=float,
        default=0.5,
        help="of that ResNet",
    )
    labelled_data.add_labelled_data(parser)
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="higher ones tell more of the unlikely classes",
    )
    parser.add_argument(
        "--epochs",
        type=command_line.positive,
        default=60,
        metavar="N",
        help="of the student",
    )
    command_line.add_training(parser)
    command_line.add_output(parser, "folder to write to")
    return parser


def check(options):
    """Raises a `UsageError` for what can be told without TensorFlow."""
    command_line.check_exists("--teacher", options.teacher, is_folder=False)
    if options.student is not None:
        student = as_encoder(options.student)
        encoder_and_images.check_encoder(student)
        encoder_and_images.check_trainable(student)
    labelled_data.check_labelled_data(options)
    command_line.check_output_folder(
        options, options.images, options.test_folder
    )


def as_encoder(name):
    """The arguments by which `encoder_and_images` knows an encoder."""
    return argparse.Namespace(encoder=name, image_size=None)


def load_teacher(options):
    """The `Encoder` of an `ImageClassifier`, which is its `whole`."""
    loading.load_tensorflow()
    from simclr_keras.evaluation import ImageClassifier

    found = encoder_and_images.load_encoder(as_encoder(options.teacher))
    if not isinstance(found.whole, ImageClassifier):
        raise command_line.UsageError(
            "--teacher must be a classifier.keras. Received a "
            f"{type(found.whole).__name__}: {options.teacher}"
        )
    return found


def make_student(options, shape):
    """The encoder that is to be trained."""
    import keras

    import simclr_keras

    if options.student is not None:
        student = as_encoder(options.student)
        return encoder_and_images.load_encoder(student).model
    keras.utils.set_random_seed(options.seed)
    return simclr_keras.encoders.ResNet(
        options.depth,
        width_multiplier=options.width_multiplier,
        stem="cifar" if max(shape[:2]) <= 64 else "imagenet",
        input_shape=shape,
    )


def places(data, class_names):
    """Labels of the held-out images as places among a teacher's classes."""
    import numpy as np

    unknown = set(data.class_names) - set(class_names)
    if unknown:
        raise ValueError(
            "The classes of the images must be the teacher's, which are "
            f"{class_names[:10]}. Received: {sorted(unknown)[:10]}."
        )
    found = [class_names.index(name) for name in data.class_names]
    return np.asarray(found)[
        np.searchsorted(np.unique(data.train[1]), data.test[1])
    ]


def accuracy_of(classifier, images, labels):
    """Of a classifier on images."""
    predicted = classifier.predict(images, verbose=0).argmax(axis=1)
    return float((predicted == labels).mean())


def main(arguments=None):
    """Distils, and measures teacher and student."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(options)
        found = load_teacher(options)
        teacher = found.whole
        student = make_student(options, (*found.image_size, found.channels))
        data = labelled_data.load_labelled_data(
            options, found.image_size, found.folder_channels
        )
        test = data.test[0], places(data, list(teacher.class_names))
        with command_line.folder_aside(
            options.output, options.overwrite
        ) as folder:
            from simclr_keras import callbacks, evaluation

            trained = evaluation.distill(
                teacher,
                student,
                data.train[0],
                test,
                temperature=options.temperature,
                epochs=options.epochs,
                batch_size=options.train_batch_size,
                learning_rate=options.learning_rate,
                seed=options.seed,
                callbacks=[callbacks.RunProgress(("loss",))],
            )
            trained.model.save(os.path.join(folder, "classifier.keras"))
            accuracy = {
                "teacher": accuracy_of(teacher, *test),
                "student": trained.accuracy,
            }
            parameters = {
                "teacher": teacher.encoder.count_params(),
                "student": student.count_params(),
            }
            import report

            command_line.write_results(
                folder,
                {
                    "data": data.name,
                    "accuracy": accuracy,
                    "parameters": parameters,
                    "num_train_images": len(data.train[1]),
                    "num_test_images": len(data.test[1]),
                    "arguments": vars(options),
                    **report.describe_environment(),
                },
            )
    print(f"Accuracy on {len(data.test[1]):,} held-out images:")
    for name, value in accuracy.items():
        print(f"  {name}  {value:.1%}, {parameters[name]:,} weights")
    print(f"The results are in {options.output}")


if __name__ == "__main__":
    main()
