"""What `pretrain.py` does: data, model, training, results."""

import itertools
import os
import shlex
import sys
import time

import keras
import made_of
import recipes
import report
import tensorflow as tf
from absl import flags
from run_folder import (
    RunFolder,
    in_words,
    stops_with_advice,
    what_is_wrong,
)
from strategies import Workers, local_copy

import simclr_keras
from simclr_keras import callbacks, plots
from simclr_keras.data.image_files import find_images

FLAGS = flags.FLAGS


# --- The pieces -------------------------------------------------------------
def load_data(config):
    """Images to train on, and held-out ones."""
    size = config["source_size"]
    # Larger than the views, so that crops have detail: as large as what is
    # evaluated, if that is given; otherwise seven eighths of a side are.
    folder_size = round(config["image_size"] * 8 / 7)
    if config["evaluation_size"]:
        folder_size = max(config["image_size"], config["evaluation_size"])
    # What is cropped while it is decoded is decoded in every epoch.
    in_memory = False if crops_while_decoding(config) else None
    if config["cache_dir"] and in_memory is False:
        raise ValueError(
            "--cache_dir holds images of --source_size, and "
            "--crop_while_decoding cuts views out of whole ones. Received "
            "both: pass --nocrop_while_decoding, or leave out --cache_dir."
        )
    reads_crops = crops_while_decoding(config)
    if reads_crops and config["probe"] and config["probe_on"] == "images":
        raise ValueError(
            "--probe_on=images needs whole images, and --crop_while_decoding "
            "reads crops alone. Received both: pass --nocrop_while_decoding, "
            "or leave out --probe_on."
        )
    if config["image_folder"]:
        path, test_path = config["image_folder"], config["test_folder"]
        # Without classes there is no accuracy to hold images out for.
        has_labels = config["labels"] and has_classes(path, config["max_bytes"])
        holds_out = has_labels and not test_path
        return simclr_keras.data.load_image_folder(
            path,
            size or folder_size,
            test_path=test_path,
            test_fraction=config["test_fraction"] if holds_out else 0.0,
            seed=0,
            labels="inferred" if has_labels else None,
            channels="auto" if config["as_stored"] else config["channels"],
            on_error="skip" if config["skip_unreadable"] else "raise",
            in_memory=in_memory,
            cache_dir=config["cache_dir"],
            max_pixels=config["max_pixels"],
            max_bytes=config["max_bytes"],
        )
    if not config["dataset"]:
        raise ValueError(
            f"--recipe={config['recipe']} needs images: pass --image_folder, "
            "or --dataset."
        )
    if config["dataset"] == "digits":
        for flag in ("crop_while_decoding", "cache_dir"):
            if config[flag]:
                raise ValueError(
                    f"--{flag} needs photos, of --image_folder or of a "
                    "--dataset of TFDS. Received: --dataset=digits, which is "
                    "in memory."
                )
        return simclr_keras.data.load_digits(config["test_fraction"])
    return simclr_keras.data.load_tfds(
        config["dataset"],
        config["data_dir"],
        train_split=config["train_split"],
        test_split=config["test_split"] or None,
        image_size=size,
        label_key="label" if config["labels"] else None,
        in_memory=in_memory,
        cache_dir=config["cache_dir"],
    )


def has_classes(folder, max_bytes):
    """Whether there are images in two of a folder's folders, or more."""
    if not os.path.isdir(folder):
        return False  # which loading it tells
    with os.scandir(folder) as entries:
        classes = [entry.path for entry in entries if entry.is_dir()]
    with_images = (
        path
        for path in classes
        if not os.path.basename(path).startswith(".")
        and find_images(path, max_bytes).paths
    )
    return len(list(itertools.islice(with_images, 2))) == 2


def crops_while_decoding(config):
    """Whether views are cut out of whole images while these are decoded."""
    return config["crop_while_decoding"]


def build_model(config, data, epochs):
    """The compiled model, with initial weights that follow from the seed."""
    keras.utils.set_random_seed(config["seed"])
    size, channels = config["image_size"], data.image_shape[-1]
    # Any, where views and the images that are evaluated have different ones.
    encoder_size = None if config["evaluation_size"] else size
    model = simclr_keras.SimCLRModel(
        encoder=simclr_keras.encoders.ResNet(
            config["depth"],
            width_multiplier=config["width_multiplier"],
            sk_ratio=config["sk_ratio"],
            se_ratio=config["se_ratio"],
            stem=config["stem"],
            input_shape=(encoder_size, encoder_size, channels),
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
            evaluation_size=config["evaluation_size"],
            value_range=data.value_range,
            seed=config["seed"],
        ),
        num_classes=data.num_classes if uses_probe(config, data) else None,
        probe_on=config["probe_on"],
    )
    model.compile(
        optimizer=build_optimizer(config, data, epochs),
        loss=simclr_keras.NTXentLoss(config["temperature"]),
        micro_batch_size=config["micro_batch_size"],
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
    """Draws positive pairs, without using up draws of the training."""
    images = next(iter(report.EvaluationImages(data.train, limit=8).batches()))
    augmentation = type(model.augmentation).from_config(
        model.augmentation.get_config()
    )
    views = [augmentation(images, training=True) for _ in range(2)]
    plots.plot_views(images, views, data.value_range, path)


def build_dataset(model, config, data, initial_epoch, initial_step):
    """The batches of a run, of which each worker decodes its share."""

    def build(input_context):
        dataset = simclr_keras.data.training_dataset(
            data.train,
            config["batch_size"],
            seed=config["seed"],
            initial_epoch=initial_epoch,
            initial_step=initial_step,
            with_labels=uses_probe(config, data),
            crop=model.augmentation if crops_while_decoding(config) else None,
            input_context=input_context,
        )
        # Without end, so that no epoch waits for its first batch.
        return dataset.repeat()

    return model.distribute_strategy.distribute_datasets_from_function(build)


def train(model, config, data, folder, epochs, is_chief=True):
    """Trains from the last checkpoint to the end of the run.

    Returns:
        The history of the whole run, by column of `history.csv`.
    """
    checkpoints = callbacks.Checkpoints(
        folder.file("checkpoints"),
        every_minutes=config["checkpoint_minutes"],
    )
    history = callbacks.HistoryCSV(folder.file("history.csv"))
    done = checkpoints.restore(model)
    if (done or checkpoints.step) and is_chief:
        print(f"Resuming after {in_words(done, checkpoints.step, epochs)}.")
    if done >= epochs:
        return history.history
    shown = ("loss", "contrastive_accuracy", "probe_accuracy")
    tensorboard = keras.callbacks.TensorBoard(
        folder.file("tensorboard"), write_graph=False
    )
    with stops_with_advice(folder, checkpoints, model, epochs, is_chief):
        model.fit(
            build_dataset(model, config, data, done, checkpoints.step),
            steps_per_epoch=data.train.steps_per_epoch(config["batch_size"]),
            initial_epoch=done,
            epochs=epochs,
            verbose=0,
            shuffle=False,  # the dataset is shuffled already
            callbacks=[
                callbacks.StopOnNaN(),  # first, so that no NaN is saved
                history,
                callbacks.RunProgress(shown),
                *([tensorboard] if is_chief else []),
                checkpoints,  # last; also ends the run on Ctrl-C
            ],
        )
    return history.history


# --- The run ----------------------------------------------------------------
def run_dir():
    """The path of the run folder that the flags name."""
    images = os.path.basename(os.path.abspath(FLAGS.image_folder or ""))
    name = images if FLAGS.image_folder else recipes.chosen()
    return os.path.expanduser(FLAGS.run_dir or os.path.join("runs", name))


def configure():
    """The `RunFolder` of the flags, and the configuration of its run."""
    values = recipes.flags_set()
    folder = RunFolder(run_dir(), bool(FLAGS.resume))
    if FLAGS.resume and not folder.is_resumed:
        if not FLAGS["recipe"].present and not values:
            raise ValueError(
                f"There is no run to resume in {folder.path}. Pass the "
                "--run_dir of one, or say what to train with --recipe."
            )
        print(f"Nothing to resume in {folder.path}; starting a new run.")
    if folder.is_resumed and FLAGS["recipe"].present:
        values["recipe"] = FLAGS.recipe
    config = recipes.resolve(
        recipes.chosen(),
        values,
        folder.read_config() if folder.is_resumed else None,
    )
    return folder, config


def prepare():
    """Everything that can find a mistake, before anything is written."""
    # First of all: TensorFlow cannot change its devices later.
    workers = Workers(FLAGS.strategy, FLAGS.replicas, FLAGS.tpu)
    folder, config = configure()
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
    now = made_of.describe(config, data)
    before = folder.read_json(made_of.NAME) if folder.is_resumed else None
    folder.check_made_of(before or now, now, FLAGS.resume == "force")
    epochs = recipes.count_epochs(
        config, data.train.steps_per_epoch(config["batch_size"])
    )
    done = callbacks.Checkpoints(folder.file("checkpoints")).positions()
    if done and epochs < done[-1][0]:
        raise ValueError(
            "--epochs and --steps must not be fewer than the run has done. "
            f"Received: {epochs} epochs, and {done[-1][0]} that are done."
        )
    with workers.strategy.scope():
        model = build_model(config, data, epochs)
    # What it began with stays, but for what has been forced.
    if before is None or FLAGS.resume == "force":
        before = now
    return workers, folder, config, data, epochs, model, before


def lead(workers, folder, config, data, epochs, model, began_with, started):
    """Trains, evaluates and writes: what the chief of the workers does."""
    folder.write_json(made_of.NAME, began_with)
    folder.write_json("config.json", config)
    if data.skipped:
        folder.write_json("skipped.json", data.skipped)
    steps = data.train.steps_per_epoch(config["batch_size"])
    print(
        f"{data.train.num_images:,} images of {data.name}, views of "
        f"{config['image_size']} pixels, by the recipe {config['recipe']}: "
        f"{epochs * steps:,} steps of {config['batch_size']} images, as "
        f"{_times(epochs, 'whole epoch')} of {_times(steps, 'step')}. "
        f"Run folder: {folder.path}"
    )
    if config["image_folder"] and data.class_names is not None:
        print(_classes_in_words(data))
    if epochs * steps < recipes.FEWEST_STEPS and not folder.is_resumed:
        print(
            "That is too short to learn much: most is gained in the first "
            "thousand steps. --steps=1000 gives it so many."
        )
    plot_views(folder.file("views.png"), model, data)

    parts = [part for part in (data.train, data.test) if part is not None]
    image_sets = [
        report.EvaluationImages(part, config["eval_examples"]) for part in parts
    ]
    has_labels = len(parts) == 2 and all(part.has_labels for part in parts)
    labels = [part.labels() for part in image_sets] if has_labels else None

    def extract(model):
        return [images.features(model) for images in image_sets]

    features = {}
    if has_labels:
        pixels = report.pixel_model(data.image_shape, data.value_range)
        features["raw pixels"] = extract(pixels)
        features["untrained encoder"] = extract(local_copy(model))
    history = train(model, config, data, folder, epochs)
    features["trained encoder"] = extract(local_copy(model))

    folder.save_model(model)
    if history:
        plots.plot_history(history, folder.file("loss.png"))
    plots.plot_representations(
        features["trained encoder"][-1],
        labels[-1] if has_labels else None,
        data.class_names,
        f"{data.name}, trained encoder",
        folder.file("representations.png"),
    )
    accuracy = report.evaluate(
        features,
        labels,
        config["label_draws"],
        recipes.count_neighbors(config, image_sets[0].num_images),
    )
    folder.write_json(
        "results.json",
        {
            "recipe": config["recipe"],
            "dataset": data.name,
            "num_train_images": data.train.num_images,
            "num_test_images": image_sets[-1].num_images if has_labels else 0,
            "accuracy": accuracy,
            "note": "" if accuracy else report.NO_ACCURACY,
            "last_epoch": {
                name: column[-1] for name, column in history.items()
            },
            "epochs": epochs,
            "steps": int(model.optimizer.iterations.numpy()),
            "training_seconds": round(sum(history.get("seconds", [])), 1),
            "last_start_seconds": round(time.monotonic() - started, 1),
            "strategy": FLAGS.strategy,
            "replicas": workers.num_replicas,
            **report.describe_environment(),
        },
    )
    print(f"\nThe results are in {folder.file('results.json')}\n")
    print(report.format_table(accuracy, image_sets[-1].num_images))
    if config["image_folder"]:
        images = shlex.quote(config["image_folder"])
        print(
            "\nWhat the encoder makes of each photo is written by\n    python "
            f"examples/features.py --encoder={shlex.quote(folder.path)} "
            f"--images={images} --output=features.npz"
        )


def _times(number, word):
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _classes_in_words(data):
    """What was taken for labels, and how to say otherwise."""
    names = [*data.class_names[:3], *(["..."] if data.num_classes > 3 else [])]
    held_out = 0 if data.test is None else data.test.num_images
    return (
        f"{data.num_classes:,} folders are taken for classes "
        f"({', '.join(map(str, names))}), and {held_out:,} images are held out "
        "to measure by them. --labels=false trains on all images, without "
        "classes."
    )


def run(prepared, started):
    """Trains and evaluates.

    Args:
        prepared: What `prepare` returned.
        started: Float, the `time.monotonic()` of the start.
    """
    workers, folder, config, data, epochs, model, _ = prepared
    # None writes before all have looked at the run folder.
    workers.wait_for_all()
    if workers.is_chief:
        try:
            folder.lock()
        except (ValueError, OSError) as error:
            sys.exit(f"Error: {error}")
        resume = f"pass --run_dir={shlex.quote(folder.path)} --resume."
        try:
            lead(*prepared, started)
        except KeyboardInterrupt:  # before training, or in the evaluation
            print(f"\nInterrupted. To go on, {resume}")
            sys.exit(130)  # as a shell reports Ctrl-C
        except tf.errors.InvalidArgumentError as error:  # in what is drawn
            sys.exit(
                f"\nError: {what_is_wrong(error)}\nOnce the data is fixed, "
                f"{resume}"
            )
    else:
        train(model, config, data, folder, epochs, is_chief=False)
    workers.wait_for_all()
