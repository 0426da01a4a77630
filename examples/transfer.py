r"""What pretraining is worth with few labels, from end to end.

    python examples/transfer.py --image_folder=photos --recipe=cifar10 \
        --image_size=64 --run_dir=runs/photos

Pretrains on a folder of images with a subfolder for each class, as
`pretrain.py` does and with the same flags; a finished run is used as it is.
Exports the encoder for TensorFlow Hub, trained and untrained. Then another
process (`few_labels.py`), which knows nothing of this library, trains a
classifier on ten labelled images of each class: on the trained encoder, and on
the same network from scratch, in the same way.

The last thing printed are both accuracies on the held-out images, which neither
has seen. `RUN_DIR/transfer` holds the SavedModels and `results.json`.
"""

import json
import os
import subprocess
import sys

import loading
import pretrain
from absl import app, flags

flags.adopt_module_key_flags(pretrain)  # --help shows them, too
flags.DEFINE_integer("labels_per_class", 10, "Labelled images of each class.")
flags.DEFINE_string(
    "python",
    sys.executable,
    "Python of the process that loads the SavedModels. It needs "
    "tensorflow_hub, tf_keras and setuptools<81.",
)
FLAGS = flags.FLAGS

CLASSIFIER = os.path.join(os.path.dirname(__file__), "few_labels.py")


def choose_images(config, data):
    """The (images, labels) to train on, and the held-out ones as a set.

    Raises:
        ValueError: If there are no classes, or too few images of one.
    """
    if data.test is None or not data.train.has_labels:
        raise ValueError(
            "--image_folder must have a folder for each class, whose names "
            "are the labels. Received: images without labels."
        )
    import report

    import simclr_keras

    chosen = simclr_keras.evaluation.class_balanced_subset(
        data.train.labels, FLAGS.labels_per_class, seed=config["seed"]
    )
    held_out = report.EvaluationImages(data.test, config["eval_examples"])
    few = images_at(data.train, chosen), data.train.labels[chosen]
    return few, held_out


def images_at(image_set, places):
    """Some images of a set of any kind, by one pass over all."""
    import numpy as np

    images = np.empty((len(places), *image_set.image_shape), image_set.dtype)
    start = 0
    for batch in image_set.batches(256):
        is_in = (places >= start) & (places < start + len(batch))
        images[is_in] = batch.numpy()[places[is_in] - start]
        start += len(batch)
    return images


def save_images(path, few, held_out):
    """Writes what the other process trains and tests on."""
    import numpy as np

    images, labels = few
    np.savez(
        path,
        images=images,
        labels=labels,
        test_images=np.concatenate(list(held_out.batches())),
        test_labels=held_out.labels(),
    )


def export(folder, model):
    """Writes the trained and the untrained encoder as SavedModels.

    Args:
        folder: The run's `RunFolder`.
        model: `SimCLRModel` of the run, untrained.

    Returns:
        List of the two folders.
    """
    import keras

    import simclr_keras

    paths = [folder.file("transfer", name) for name in ("trained", "untrained")]
    untrained = model.encoder.get_weights()
    trained = keras.saving.load_model(folder.file("encoder.keras"))
    # The model card of the untrained encoder has nothing to say on training.
    card = {
        "results": folder.file("results.json"),
        "recipe": folder.file("config.json"),
    }
    for path, weights, kwargs in zip(
        paths, (trained.get_weights(), untrained), (card, {})
    ):
        model.encoder.set_weights(weights)
        simclr_keras.export_saved_model(
            model, path, include_head=False, overwrite=True, **kwargs
        )
    return paths


def train_classifiers(images, paths):
    """The accuracies that `few_labels.py` prints, in a process of its own."""
    process = subprocess.run(
        [FLAGS.python, CLASSIFIER, images, *paths],
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.returncode:
        sys.exit(
            f"Error: {CLASSIFIER} failed, see above. It needs tensorflow_hub, "
            "tf_keras and setuptools<81; --python may name another Python that "
            "has them. The run is kept: the same command continues from it."
        )
    return json.loads(process.stdout.splitlines()[-1])


def main(argv):
    """Pretrains, exports, trains classifiers and compares them."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    if FLAGS.print_config:
        pretrain.main(argv)
        return
    # Only now: it takes TensorFlow seconds to load, and --help none.
    loading.load_tensorflow()
    import made_of
    import pretraining

    results = os.path.join(pretraining.run_dir(), "results.json")
    is_finished = os.path.exists(results)
    # Of a finished run nothing is trained: it is read.
    FLAGS.resume = FLAGS.resume or is_finished
    try:
        folder, config = pretraining.configure()
        data = pretraining.load_data(config)
        if is_finished:
            now = made_of.describe(config, data)
            before = folder.read_json(made_of.NAME) or now
            # Nothing is trained, by whatever version.
            before = {**before, "versions": now["versions"]}
            folder.check_made_of(before, now, FLAGS.resume == "force")
        few, held_out = choose_images(config, data)
        model = pretraining.build_model(config, data, epochs=1)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"Error: {error}")
    if not is_finished:
        pretrain.main(argv)
    print(f"Exporting to {folder.file('transfer')} ...", flush=True)
    os.makedirs(folder.file("transfer"), exist_ok=True)
    images = folder.file("transfer", "images.npz")
    save_images(images, few, held_out)
    pretrained, from_scratch = train_classifiers(images, export(folder, model))
    folder.write_json(
        os.path.join("transfer", "results.json"),
        {
            "pretrained": pretrained,
            "from_scratch": from_scratch,
            "labels_per_class": FLAGS.labels_per_class,
            "num_labelled_images": len(few[1]),
            "num_test_images": held_out.num_images,
        },
    )
    print(
        f"Accuracy on {held_out.num_images:,} held-out images, trained on "
        f"{len(few[1])} labelled ones:\n"
        f"  pretrained    {pretrained:.1%}\n"
        f"  from scratch  {from_scratch:.1%}"
    )


if __name__ == "__main__":
    app.run(main)
