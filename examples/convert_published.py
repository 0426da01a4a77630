r"""Converts Google's published SimCLR weights to files of this library.

    python examples/convert_published.py --path=r50_1x_sk0/saved_model \
        --output=encoder.keras

`--path` is a TF2 checkpoint or the folder of a SavedModel. The kind of network
is read from it and printed. Every file that is written is loaded again, and its
outputs are compared with those of the network that it was written from.

    import keras, simclr_keras
    encoder = keras.saving.load_model("encoder.keras")
    representations = encoder(images)  # floats in [0, 1]
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags

flags.DEFINE_string("path", None, "Checkpoint or SavedModel.", required=True)
flags.DEFINE_string("output", "encoder.keras", "Where to write the encoder.")
flags.DEFINE_string(
    "head_output", None, "Where to write the projection head, a .keras file."
)
flags.DEFINE_string(
    "classifier_output", None, "Where to write the classifier, a .keras file."
)
flags.DEFINE_string(
    "saved_model", None, "Folder to write a SavedModel for TF Hub to."
)
flags.DEFINE_boolean("overwrite", False, "Replace files that are there.")
FLAGS = flags.FLAGS

# float32: a loaded model may sum in another order.
TOLERANCE = 1e-5
CLASSIFIER_NOTE = """\
The classifier is assumed to be on the representation h. In a SimCLRv2 network
that was fine-tuned it is on a layer of the projection head, not on h; the file
does not say which."""


def describe(encoder, head, classifier):
    """What the file holds, as a table to print."""
    names = "depth", "width_multiplier", "sk_ratio", "se_ratio", "stem"
    lines = [("encoder", f"ResNet, {encoder.count_params():,} parameters")]
    lines += [(name, getattr(encoder, name)) for name in names]
    lines += [("representation", encoder.output_shape[-1])]
    lines += [("channels", encoder.image_shape[-1])]
    found = "none"
    if head is not None:
        found = f"{head.num_layers} layers, {head.output_dim} outputs"
    lines += [("projection head", found)]
    found = "none" if classifier is None else f"{classifier.units} classes"
    lines += [("classifier", found)]
    text = "\n".join(f"  {name:17s} {value}" for name, value in lines)
    return text if classifier is None else f"{text}\n{CLASSIFIER_NOTE}"


def save(path, model, inputs):
    """Writes a model, loads it again and compares their outputs.

    Raises:
        ValueError: If the outputs differ.
    """
    import keras

    from simclr_keras.write_aside import write_aside

    with write_aside(path, ".keras") as aside:
        model.save(aside)
        loaded = keras.saving.load_model(aside)
        expected, outputs = (
            each(inputs, training=False) for each in (model, loaded)
        )
        compare(path, expected, outputs)


def compare(path, expected, outputs):
    """Prints by how much two outputs differ.

    Raises:
        ValueError: If they differ by more than rounding.
    """
    import keras
    import numpy as np

    expected, outputs = map(keras.ops.convert_to_numpy, (expected, outputs))
    difference = np.abs(expected - outputs).max()
    print(
        f"Wrote {path}; loaded again, its outputs differ by "
        f"{difference:.1e} at most."
    )
    if not difference <= TOLERANCE * max(1.0, np.abs(expected).max()):
        raise ValueError(
            f"The outputs of {path} are not those of the network that it was "
            "written from."
        )


def as_model(layer, features):
    """A layer on representations as a model, to be saved by itself."""
    import keras

    return keras.Sequential([keras.Input((features,)), layer])


def convert():
    """Reads the weights, and writes what the flags ask for."""
    files = "output", "head_output", "classifier_output"
    for name in ("path", "saved_model", *files):
        # A shell leaves the ~ of --output=~/x alone.
        if FLAGS[name].value:
            FLAGS[name].value = os.path.expanduser(FLAGS[name].value)
    for name in files:
        path = FLAGS[name].value
        if path and not path.endswith(".keras"):
            raise ValueError(f"--{name} must end in .keras. Received: {path}.")
        if path and os.path.exists(path) and not FLAGS.overwrite:
            raise ValueError(
                f"--{name} is there already: {path}. Choose another, or "
                "replace it with --overwrite."
            )
    # Only now: it takes TensorFlow seconds to load, and --help none.
    import numpy as np

    import simclr_keras

    weights = simclr_keras.load_published_weights(FLAGS.path)
    encoder, head, classifier = weights
    print(f"{FLAGS.path} holds\n{describe(*weights)}")
    for name, part in (
        ("head_output", head),
        ("classifier_output", classifier),
    ):
        if FLAGS[name].value and part is None:
            raise ValueError(
                f"--{name} needs weights that {FLAGS.path} does not hold. "
                "Leave the flag out."
            )

    size = 32 if encoder.stem == "cifar" else 224
    shape = (2, size, size, encoder.image_shape[-1])
    images = np.random.default_rng(0).random(shape, "float32")
    representations = encoder(images, training=False)
    # First: it refuses a folder that holds anything but an export.
    if FLAGS.saved_model:
        import tensorflow as tf

        model = encoder
        if head is not None:
            model = simclr_keras.SimCLRModel(encoder, projection_head=head)
        simclr_keras.export_saved_model(
            model, FLAGS.saved_model, overwrite=FLAGS.overwrite
        )
        module = tf.saved_model.load(FLAGS.saved_model)
        compare(FLAGS.saved_model, representations, module(images))
    save(FLAGS.output, encoder, images)
    for path, part in (
        (FLAGS.head_output, head),
        (FLAGS.classifier_output, classifier),
    ):
        if path:
            features = encoder.output_shape[-1]
            save(path, as_model(part, features), representations)


def main(argv):
    """Converts, or says what is wrong with the file."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    try:
        convert()
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    app.run(main)
