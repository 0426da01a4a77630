"""Pretrains an encoder by SimCLR, and says what its representations are worth.

    python examples/pretrain.py                                # digits, minutes
    python examples/pretrain.py --recipe=cifar10 --data_dir=...
    python examples/pretrain.py --recipe=cifar10 --image_folder=photos \
        --image_size=64 --run_dir=runs/photos
    python examples/pretrain.py --run_dir=runs/photos --resume
    python examples/pretrain.py --recipe=imagenet --strategy=mirrored

A recipe (`recipes.py`) gives every value; a flag replaces one. What the run
makes lies in its folder (`run_folder.py`). Ctrl-C ends a run between two steps
and `--resume` goes on from the last whole epoch, exactly as if the run had not
been interrupted. The last thing printed is a table of accuracies on held-out
images (`report.py`), which `results.json` holds too.
"""

import os
import platform
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Where a processor has no AVX-512, TensorFlow leaves oneDNN out, and a step
# takes twice as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import plots
import recipes
import report
import tensorflow as tf
from absl import app, flags, logging
from interrupt import StopOnInterrupt
from progress import RunProgress
from run_folder import Checkpoints, HistoryFile, RunFolder
from strategies import STRATEGIES, Workers, local_copy

import simclr_keras

# --- Flags ------------------------------------------------------------------
flags.DEFINE_enum(
    "recipe", "digits", list(recipes.RECIPES), "Where the values come from."
)
flags.DEFINE_string("run_dir", None, "Run folder. Default: runs/<recipe>.")
flags.DEFINE_boolean("resume", False, "Go on with the run in the run folder.")
flags.DEFINE_enum(
    "strategy",
    "none",
    STRATEGIES,
    "Where to train: one device, all GPUs of this machine, those of several "
    "machines (each needs TF_CONFIG and sees the run folder), or a TPU.",
)
flags.DEFINE_integer(
    "replicas", None, "With --strategy=mirrored: GPUs, or replicas on a CPU."
)
flags.DEFINE_string("tpu", "", "With --strategy=tpu: its name, or local.")

_DEFINE = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
}
for _key, (_type, _help) in recipes.KEYS.items():
    _DEFINE[_type](_key, None, f"{_help}. Default: the recipe's.")
FLAGS = flags.FLAGS


# --- The pieces -------------------------------------------------------------
def load_data(config):
    """Images to train on, and held-out ones."""
    size = config["source_size"]
    if config["image_folder"]:
        path, test_path = config["image_folder"], config["test_folder"]
        # Without classes there is no accuracy to hold images out for.
        has_classes = config["labels"] and any(
            os.path.isdir(os.path.join(path, name))
            for name in (os.listdir(path) if os.path.isdir(path) else [])
        )
        holds_out = has_classes and not test_path
        return simclr_keras.data.load_image_folder(
            path,
            # Larger than the views, so that crops have detail.
            size or round(config["image_size"] * 8 / 7),
            test_path=test_path,
            test_fraction=config["test_fraction"] if holds_out else 0.0,
            seed=0,
            labels="inferred" if config["labels"] else None,
            channels=config["channels"],
            on_error="skip" if config["skip_unreadable"] else "raise",
        )
    if config["dataset"] == "digits":
        return simclr_keras.data.load_digits(config["test_fraction"])
    return simclr_keras.data.load_tfds(
        config["dataset"],
        config["data_dir"],
        train_split=config["train_split"],
        test_split=config["test_split"] or None,
        image_size=size,
        label_key="label" if config["labels"] else None,
    )


def build_model(config, data, epochs):
    """The compiled model, with initial weights that follow from the seed."""
    keras.utils.set_random_seed(config["seed"])
    size, channels = config["image_size"], data.image_shape[-1]
    model = simclr_keras.SimCLRModel(
        encoder=simclr_keras.encoders.ResNet(
            config["depth"],
            width_multiplier=config["width_multiplier"],
            sk_ratio=config["sk_ratio"],
            se_ratio=config["se_ratio"],
            stem=config["stem"],
            input_shape=(size, size, channels),
        ),
        projection_head=simclr_keras.ProjectionHead(
            config["head_dim"], num_layers=config["head_layers"]
        ),
        augmentation=simclr_keras.SimCLRAugmentation(
            size,
            size,
            strength=config["strength"],
            blur=config["blur"],
            flip=config["flip"],
            area_range=(config["min_area"], 1.0),
            value_range=data.value_range,
            seed=config["seed"],
        ),
        num_classes=data.num_classes if uses_probe(config, data) else None,
    )
    model.compile(
        optimizer=build_optimizer(config, data, epochs),
        loss=simclr_keras.NTXentLoss(config["temperature"]),
    )
    return model


def build_optimizer(config, data, epochs):
    """The optimizer, with warm-up and cosine decay over the whole run."""
    steps_per_epoch = data.train.steps_per_epoch(config["batch_size"])
    peak, scaling = config["learning_rate"], config["learning_rate_scaling"]
    if scaling != "none":
        peak = simclr_keras.scaled_learning_rate(
            peak, config["batch_size"], scaling
        )
    warmup_epochs = min(config["warmup_epochs"], epochs)
    schedule = simclr_keras.WarmupCosineDecay(
        peak,
        total_steps=epochs * steps_per_epoch,
        warmup_steps=int(warmup_epochs * steps_per_epoch),
    )
    momentum, decay = config["momentum"], config["weight_decay"]
    if config["optimizer"] == "lars":
        return simclr_keras.LARS(schedule, momentum, weight_decay=decay)
    if config["optimizer"] == "sgd":
        optimizer = keras.optimizers.SGD(schedule, momentum, weight_decay=decay)
    elif config["optimizer"] == "adamw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=decay)
    else:
        raise ValueError(
            '--optimizer must be one of "lars", "sgd" or "adamw". Received: '
            f"{config['optimizer']!r}."
        )
    # Biases and batch normalisation; LARS leaves them out by itself.
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def uses_probe(config, data):
    """Whether a linear probe is trained beside the encoder."""
    return config["probe"] and data.train.has_labels


def plot_views(path, model, data):
    """Draws positive pairs, without touching the draws of the training."""
    images = next(iter(report.EvaluationImages(data.train, limit=8).batches()))
    augmentation = type(model.augmentation).from_config(
        model.augmentation.get_config()
    )
    views = [augmentation(images, training=True) for _ in range(2)]
    plots.plot_views(path, images, views, data.value_range)


def build_dataset(strategy, config, data, initial_epoch):
    """The batches of a run, of which each worker decodes its share."""

    def build(input_context):
        dataset = simclr_keras.data.training_dataset(
            data.train,
            config["batch_size"],
            seed=config["seed"],
            initial_epoch=initial_epoch,
            with_labels=uses_probe(config, data),
            input_context=input_context,
        )
        # Without end, so that no epoch waits for its first batch.
        return dataset.repeat()

    return strategy.distribute_datasets_from_function(build)


def train(model, config, data, folder, epochs, is_chief=True):
    """Trains from the last checkpoint to the end of the run.

    Returns:
        The run's `HistoryFile`, or None for a worker that writes nothing.
    """
    checkpoints = Checkpoints(folder.file("checkpoints"))
    done = checkpoints.restore(model)
    history = None
    if is_chief:
        history = HistoryFile(folder.file("history.csv"), done)
    if done:
        print(f"Resuming after epoch {done} of {epochs}.")
    if done >= epochs:
        return history
    steps_per_epoch = data.train.steps_per_epoch(config["batch_size"])
    # First, so that nothing spoilt is saved.
    callbacks = [simclr_keras.callbacks.StopOnNaN()]
    if is_chief:
        callbacks += [
            history,
            checkpoints,
            RunProgress(epochs, steps_per_epoch, done),
            keras.callbacks.TensorBoard(
                folder.file("tensorboard"), write_graph=False
            ),
        ]
    try:
        with StopOnInterrupt() as interrupt:
            model.fit(
                build_dataset(model.distribute_strategy, config, data, done),
                steps_per_epoch=steps_per_epoch,
                initial_epoch=done,
                epochs=epochs,
                verbose=0,
                shuffle=False,  # the data set is shuffled already
                callbacks=[*callbacks, interrupt],
            )
    except KeyboardInterrupt:
        if not is_chief:
            sys.exit(130)
        model.encoder.save(folder.file("encoder.keras"))
        print(
            f"\nInterrupted. {folder.file('encoder.keras')} is the encoder as "
            "it is now. The last checkpoint is that after epoch "
            f"{checkpoints.epochs()[-1]} of {epochs}; go on from there by\n"
            f"    {sys.argv[0]} --run_dir={folder.path} --resume"
        )
        sys.exit(130)  # as a shell reports Ctrl-C
    except FloatingPointError as error:
        if not is_chief:
            sys.exit(f"\n{error}")
        checkpoints.discard_unproven()
        sys.exit(
            f"\n{error}\nThe last good checkpoint is "
            f"{checkpoints.file(checkpoints.epochs()[-1])}."
        )
    except tf.errors.InvalidArgumentError as error:
        # A wrong image or label, or a file that cannot be read.
        sys.exit(
            f"\nError: {error.message}\nThe last checkpoint is that after "
            f"epoch {checkpoints.epochs()[-1]} of {epochs}; once the data is "
            f"mended, --run_dir={folder.path} --resume goes on from there."
        )
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        sys.exit(
            f"\nError: {error.message}\nA worker is gone. Start all of them "
            "again with --resume."
        )
    return history


def extract(model, image_sets):
    """The representations of each set of images by one model."""
    return [images.features(model) for images in image_sets]


def evaluate(config, features, labels):
    """The accuracies of each representation; none without labels."""
    accuracy = {}
    if labels is None:
        return accuracy
    for name, (train_features, test_features) in features.items():
        print(f"Evaluating {name} ...", flush=True)
        accuracy[name] = simclr_keras.evaluation.label_efficiency(
            train_features,
            labels[0],
            test_features,
            labels[1],
            num_draws=config["label_draws"],
            k=config["knn_k"],
        )
    return accuracy


def describe_machine():
    """What the run ran on."""
    return {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
    }


# --- The run ----------------------------------------------------------------
def prepare():
    """Everything that can find a mistake, before anything is written."""
    # First of all: TensorFlow cannot change its devices later.
    workers = Workers(FLAGS.strategy, FLAGS.replicas, FLAGS.tpu)
    flags_set = {
        key: FLAGS[key].value for key in recipes.KEYS if FLAGS[key].present
    }
    folder = RunFolder(
        FLAGS.run_dir or os.path.join("runs", FLAGS.recipe), FLAGS.resume
    )
    if FLAGS.resume and not folder.is_resumed:
        print(f"Nothing to resume in {folder.path}; beginning a new run.")
    if folder.is_resumed and FLAGS["recipe"].present:
        flags_set["recipe"] = FLAGS.recipe
    config = recipes.resolve(
        FLAGS.recipe,
        flags_set,
        folder.read_config() if folder.is_resumed else None,
    )
    if config["batch_size"] < 2:
        raise ValueError(
            "--batch_size must be at least 2, since a single image has no "
            f"negatives. Received: {config['batch_size']}."
        )
    if config["batch_size"] % workers.num_replicas:
        raise ValueError(
            f"--batch_size must be a multiple of the {workers.num_replicas} "
            f"replicas. Received: {config['batch_size']}."
        )
    keras.config.set_dtype_policy(config["mixed_precision"])
    data = load_data(config)
    epochs = recipes.count_epochs(
        config, data.train.steps_per_epoch(config["batch_size"])
    )
    with workers.strategy.scope():
        model = build_model(config, data, epochs)
    return workers, folder, config, data, epochs, model


def main(_):
    """Prepares, trains, evaluates."""
    started = time.monotonic()
    logging.set_verbosity(logging.ERROR)  # TFDS tells of each file it reads.
    try:
        workers, folder, config, data, epochs, model = prepare()
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        sys.exit(f"Error: {error}")
    # None writes before all have looked at the run folder.
    workers.wait_for_all()
    if workers.is_chief:
        lead(workers, folder, config, data, epochs, model, started)
    else:
        train(model, config, data, folder, epochs, is_chief=False)
    workers.wait_for_all()


def lead(workers, folder, config, data, epochs, model, started):
    """Trains, writes and evaluates: all of a run, but for other workers."""
    folder.write_json("config.json", config)
    print(
        f"{data.train.num_images:,} images of {data.name}, {epochs} epochs of "
        f"{data.train.steps_per_epoch(config['batch_size'])} steps of "
        f"{config['batch_size']} images. Run folder: {folder.path}"
    )
    plot_views(folder.file("views.png"), model, data)

    # What the encoder gives before it has learned anything.
    parts = [part for part in (data.train, data.test) if part is not None]
    image_sets = [
        report.EvaluationImages(part, config["eval_examples"]) for part in parts
    ]
    has_labels = len(parts) == 2 and all(part.has_labels for part in parts)
    labels = [part.labels() for part in image_sets] if has_labels else None
    features = {}
    if has_labels:
        pixels = report.pixel_model(data.image_shape, data.value_range)
        features["raw pixels"] = extract(pixels, image_sets)
        features["untrained encoder"] = extract(local_copy(model), image_sets)

    history = train(model, config, data, folder, epochs)

    model.encoder.save(folder.file("encoder.keras"))
    plots.plot_history(folder.file("loss.png"), history)
    features["trained encoder"] = extract(local_copy(model), image_sets)
    plots.plot_representations(
        folder.file("representations.png"),
        features["trained encoder"][-1],
        labels[-1] if has_labels else None,
        data.class_names,
        f"{data.name}, trained encoder",
    )
    accuracy = evaluate(config, features, labels)
    folder.write_json(
        "results.json",
        {
            "recipe": config["recipe"],
            "dataset": data.name,
            "num_train_images": data.train.num_images,
            "num_test_images": image_sets[-1].num_images if has_labels else 0,
            "accuracy": accuracy,
            "note": "" if accuracy else report.NO_ACCURACY,
            "last_epoch": history.last(),
            "epochs": epochs,
            "steps": int(model.optimizer.iterations.numpy()),
            "training_seconds": round(sum(history.column("seconds")), 1),
            "last_start_seconds": round(time.monotonic() - started, 1),
            "machine": describe_machine(),
            "strategy": FLAGS.strategy,
            "replicas": workers.num_replicas,
            "versions": {
                "python": platform.python_version(),
                "simclr_keras": simclr_keras.__version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
            },
        },
    )
    print(f"\nThe results are in {folder.file('results.json')}\n")
    print(report.format_table(accuracy, image_sets[-1].num_images))


if __name__ == "__main__":
    app.run(main)
