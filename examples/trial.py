"""One trial of a study: train by some values, measure the representation."""

import hashlib
import time

import keras
import numpy as np
import studies
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import simclr_keras
from simclr_keras import augmentation, evaluation, losses
from simclr_keras.evaluation.checks import NotFiniteError

NEIGHBOURS = 20  # the sets are small
CONTRASTIVE = "contrastive_accuracy"
TOLD_BY = ("told_by_h", "told_by_z")


def run(config, images, seed):
    """Trains an encoder and measures it.

    Args:
        config: Dictionary with the keys of `studies.DEFAULTS`.
        images: `Images`.
        seed: Integer, draws weights, views and order.

    Returns:
        Dictionary of fractions: "linear", "knn", "knn_training" (each training
        image by its neighbours among the others), "linear_z" and
        "contrastive_accuracy", with "told_by_h" and "told_by_z" or "tuned_1 %"
        and so on if `config` asks for them; or "supervised". And "seconds".
    """
    keras.utils.set_random_seed(seed)
    keras.utils.clear_session()
    started = time.monotonic()
    train = _supervised if config["method"] == "supervised" else _contrastive
    try:
        results = train(config, images, seed)
    except (NotFiniteError, FloatingPointError):
        # What has diverged knows no class from another.
        results = dict.fromkeys(measures(config), 1 / images.num_classes)
        if config["told"] is not None:
            results.update(dict.fromkeys(TOLD_BY, guess(config["told"])))
        if CONTRASTIVE in results:
            results[CONTRASTIVE] = 1 / config["batch_size"]
        results["diverged"] = True
    results["seconds"] = round(time.monotonic() - started, 1)
    return results


def measures(config):
    """The accuracies that `run` gives for a configuration, a set of keys."""
    if config["method"] == "supervised":
        return {"supervised"}
    keys = {"linear", "linear_z", "knn", "knn_training", CONTRASTIVE}
    if config["told"] is not None:
        keys.update(TOLD_BY)
    if config["fine_tune"]:
        keys.update(f"tuned_{name}" for name in studies.FRACTIONS)
    return keys


class Images:
    """Images and labels to train on and to measure with, in memory.

    Args:
        data: `simclr_keras.data.ImageData` with labels.
        num_train: Integer, how many images to train on, equally many of each
            class, or all of a class that has fewer.
        num_test: As `num_train`.
    """

    def __init__(self, data, num_train, num_test):
        if data.class_names is None or data.test is None:
            raise ValueError(
                "A study compares accuracies: it needs images with labels, "
                "some of them held out. Received: images without labels."
            )
        self.train, self.labels = _some_of(data.train, num_train)
        self.test, self.test_labels = _some_of(data.test, num_test)
        self.value_range = data.value_range
        self.num_classes = data.num_classes
        if self.num_classes < 2:
            raise ValueError(
                "A study compares accuracies: it needs images of two classes "
                "or more. Received: images of one."
            )
        self.num_train, self.num_test = len(self.train), len(self.test)

    def fingerprint(self):
        """A string that tells these images and labels from others."""
        parts = (self.train, self.labels, self.test, self.test_labels)
        found = hashlib.sha256()
        for part in parts:
            found.update(np.ascontiguousarray(part).view("uint8"))
        return found.hexdigest()[:16]


def _some_of(image_set, count):
    images, labels = image_set.arrays()
    classes, counts = np.unique(labels, return_counts=True)
    per_class = count // len(classes)
    if per_class < 2:
        raise ValueError(
            "--images and --test_images must be two of each class or more. "
            f"Received: {count}, for {len(classes)} classes."
        )
    # Of a class that has no more, all.
    is_large = np.isin(labels, classes[counts > per_class])
    large = np.flatnonzero(is_large)
    if not len(large):
        return images, labels
    drawn = evaluation.class_balanced_subset(labels[large], per_class)
    index = np.concatenate([np.flatnonzero(~is_large), large[drawn]])
    return images[index], labels[index]


def _encoder(config, images):
    height, width, channels = images.train.shape[1:]
    if config["view_size"] != 1:
        height = width = None
    return simclr_keras.encoders.ResNet(
        config["depth"],
        width_multiplier=config["width"],
        stem=config["stem"],
        input_shape=(height, width, channels),
    )


def make_views(config, images, seed):
    """The augmentation of a trial: a layer, or a list of one for each view."""
    height, width = images.train.shape[1:3]
    options = {"value_range": images.value_range, "seed": seed}
    if config["views"] is None:
        size = config["view_size"]
        views = augmentation.SimCLRAugmentation(
            max(1, round(size * height)),
            max(1, round(size * width)),
            strength=config["strength"],
            blur=config["blur"],
            flip=config["flip"],
            area_range=(config["min_area"], 1.0),
            evaluation_size=None if size == 1 else (height, width),
            **options,
        )
        told = {
            "rotation": lambda: augmentation.RandomRotation(**options),
            "noise": lambda: augmentation.RandomGaussianNoise(
                probability=studies.TOLD["noise"], **options
            ),
            "sobel": lambda: augmentation.RandomSobel(
                probability=studies.TOLD["sobel"], **options
            ),
        }
        if config["told"] not in told:  # Nothing, or what is in it.
            return views
        return keras.Sequential([views, told[config["told"]]()])
    strength = config["strength"]
    area_range = (config["min_area"], 1.0)
    make = {
        "crop": lambda: [
            augmentation.RandomResizedCrop(
                height, width, area_range=area_range, **options
            ),
            augmentation.RandomHorizontalFlip(**options),
        ],
        "cutout": lambda: [augmentation.RandomCutout(**options)],
        "color": lambda: [
            augmentation.RandomColorJitter(
                0.8 * strength,
                0.8 * strength,
                0.8 * strength,
                0.2 * strength,
                **options,
            ),
            augmentation.RandomGrayscale(**options),
        ],
        "sobel": lambda: [augmentation.RandomSobel(**options)],
        "noise": lambda: [augmentation.RandomGaussianNoise(**options)],
        "blur": lambda: [
            augmentation.RandomGaussianBlur(probability=1.0, **options)
        ],
        "rotate": lambda: [augmentation.RandomRotation(**options)],
    }

    def compose(names):
        layers = [layer for name in names for layer in make[name]()]
        return keras.Sequential(layers)

    if not config["one_branch"]:
        return compose(config["views"])
    as_it_is = augmentation.CenterCropAndResize(
        height, width, only_other_sizes=True, value_range=images.value_range
    )
    return [compose(config["views"]), keras.Sequential([as_it_is])]


def make_loss(config):
    """The loss of a trial."""
    t = config["temperature"]
    make = {
        "nt_xent": lambda: losses.NTXentLoss(t),
        "unnormalized": lambda: losses.NTXentLoss(t, normalize=False),
        "decoupled": lambda: losses.NTXentLoss(t, decoupled=True),
        "decoupled_weighted": lambda: losses.NTXentLoss(
            t, decoupled=True, positive_weighting=0.5
        ),
        "nt_logistic": lambda: losses.NTLogisticLoss(t),
        "nt_logistic_semi_hard": lambda: losses.NTLogisticLoss(
            t, semi_hard=True
        ),
        "margin_triplet": lambda: losses.MarginTripletLoss(config["margin"]),
        "margin_triplet_semi_hard": lambda: losses.MarginTripletLoss(
            config["margin"], semi_hard=True
        ),
        "hard_negatives": lambda: losses.HardNegativeLoss(t),
        "sup_con": lambda: losses.SupConLoss(t),
    }
    return make[config["loss"]]()


def _optimizer(config, steps, batch_size):
    scaling = config["learning_rate_scaling"]
    rate = config["learning_rate"]
    if scaling != "none" and config["optimizer"] != "adamw":
        rate = simclr_keras.scaled_learning_rate(rate, batch_size, scaling)
    schedule = simclr_keras.WarmupCosineDecay(
        rate, total_steps=steps, warmup_steps=steps // 10
    )
    decay = config["weight_decay"]
    if config["optimizer"] == "lars":
        return simclr_keras.LARS(schedule, weight_decay=decay)
    if config["optimizer"] == "adamw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=decay)
    else:
        optimizer = keras.optimizers.SGD(schedule, 0.9, weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def _contrastive(config, images, seed):
    model = simclr_keras.SimCLRModel(
        _encoder(config, images),
        simclr_keras.ProjectionHead(
            config["head_dim"],
            num_layers=config["head_layers"],
            kind=config["head"],
        ),
        make_views(config, images, seed),
    )
    data = simclr_keras.data.from_arrays(
        images.train, images.labels, value_range=images.value_range
    )
    loss = make_loss(config)
    dataset = simclr_keras.data.training_dataset(
        data.train,
        config["batch_size"],
        seed=seed,
        with_labels=loss.uses_labels,
    )
    epochs = config["epochs"]
    model.compile(
        _optimizer(config, epochs * len(dataset), config["batch_size"]), loss
    )
    history = model.fit(
        dataset,
        epochs=epochs,
        verbose=0,
        shuffle=False,  # the dataset is shuffled already
        callbacks=[simclr_keras.callbacks.StopOnNaN()],
    ).history
    results = _measure(model, images, history)
    if config["told"] is not None:
        for name in ("representation", "projection"):
            key = TOLD_BY[name == "projection"]
            results[key] = _told_by(model, name, config["told"], images, seed)
    if config["fine_tune"]:
        for fraction in studies.FRACTIONS:
            results[f"tuned_{fraction}"] = _train_on_labels(
                model,
                config,
                images,
                seed,
                fraction,
                augmentation=make_views(
                    {**config, "views": ["crop"]}, images, seed
                ),
            )
    return results


def _measure(model, images, history):
    def of(output):
        return [
            evaluation.extract_features(model, x, output=output)
            for x in (images.train, images.test)
        ]

    def linear(features):
        return evaluation.linear_evaluation(
            features[0], images.labels, features[1], images.test_labels
        ).accuracy

    h = of("representation")
    k = min(NEIGHBOURS, len(images.train) - 1)
    return {
        "linear": linear(h),
        "linear_z": linear(of("projection")),
        "knn": evaluation.knn_accuracy(
            h[0], images.labels, h[1], images.test_labels, k=k
        ),
        "knn_training": evaluation.knn_accuracy(h[0], images.labels, k=k),
        CONTRASTIVE: history[CONTRASTIVE][-1],
        "contrastive_entropy": history["contrastive_entropy"][-1],
        "loss": history["loss"][-1],
    }


def _supervised(config, images, seed):
    return {
        "supervised": _train_on_labels(
            _encoder(config, images),
            config,
            images,
            seed,
            config["label_fraction"],
            augmentation=make_views(config, images, seed),
            make_optimizer=_optimizer,
        )
    }


def _train_on_labels(
    model, config, images, seed, fraction, augmentation, make_optimizer=None
):
    """Accuracy after about as many steps as the pretraining has.

    By the paper's optimizer for fine-tuning, unless another one is made.
    """
    train, labels = images.train, images.labels
    share = studies.FRACTIONS[fraction]
    if share < 1:
        per_class = max(1, round(share * len(train) / images.num_classes))
        per_class = min(
            per_class, np.unique(labels, return_counts=True)[1].min()
        )
        index = evaluation.class_balanced_subset(labels, per_class, seed)
        train, labels = train[index], labels[index]
    batch_size = min(config["batch_size"], len(train))
    steps = config["epochs"] * (images.num_train // config["batch_size"])
    steps_per_epoch = -(-len(train) // batch_size)
    epochs = max(1, round(steps / steps_per_epoch))
    optimizer = make_optimizer and make_optimizer(
        config, epochs * steps_per_epoch, batch_size
    )
    try:
        return evaluation.fine_tune(
            model,
            (train, labels),
            (images.test, images.test_labels),
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            augmentation=augmentation,
            value_range=images.value_range,
            seed=seed,
        ).accuracy
    except NotFiniteError:
        return 1 / images.num_classes


def guess(told):
    """How often one is right about a transformation who sees no image."""
    share = studies.TOLD[told]
    return 0.25 if told == "rotation" else max(share, 1 - share)


def transformed(images, value_range, told, seed):
    """Images, some of them transformed, and by which class.

    Args:
        images: Array (N, H, W, C).
        value_range: Pair (low, high).
        told: Key of `studies.TOLD`.
        seed: Integer.

    Returns:
        Pair of a float32 array (N, H, W, C) and of integers (N,).
    """
    rng = np.random.default_rng(seed)
    images = images.astype("float32")
    if told == "rotation":
        turns = rng.integers(0, 4, len(images))
        return np.stack(list(map(np.rot90, images, turns))), turns
    options = {"probability": 1.0, "value_range": value_range, "seed": seed}
    layer = {
        "grayscale": augmentation.RandomGrayscale,
        "noise": augmentation.RandomGaussianNoise,
        "sobel": augmentation.RandomSobel,
    }[told](**options)
    is_changed = rng.random(len(images)) < studies.TOLD[told]
    images[is_changed] = keras.ops.convert_to_numpy(layer(images[is_changed]))
    return images, is_changed.astype("int64")


def _told_by(model, output, told, images, seed):
    """Accuracy of a perceptron that is to tell what was done to an image."""
    features, classes = [], []
    # Of equal draws, the place of a test image would tell what it is.
    for draw, part in enumerate((images.train, images.test), 2 * seed):
        part, which = transformed(part, images.value_range, told, draw)
        features.append(evaluation.extract_features(model, part, output=output))
        classes.append(which)
    scaler = StandardScaler().fit(features[0])
    perceptron = MLPClassifier(
        (features[0].shape[1],),
        # It holds out a tenth, which must have some of each class.
        early_stopping=bool(np.bincount(classes[0]).min() >= 100),
        max_iter=2000,
        random_state=seed,
    ).fit(scaler.transform(features[0]), classes[0])
    return perceptron.score(scaler.transform(features[1]), classes[1])
