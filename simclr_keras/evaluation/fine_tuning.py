"""Fine-tuning: encoder and classifier trained together on labelled images."""

import typing

import keras
import numpy as np
from keras import ops

from simclr_keras.augmentation import RandomHorizontalFlip, RandomResizedCrop
from simclr_keras.evaluation.checks import check_count, check_labels
from simclr_keras.evaluation.image_classifier import ImageClassifier
from simclr_keras.model import SimCLRModel
from simclr_keras.optimizers import WarmupCosineDecay, scaled_learning_rate


class FineTuned(typing.NamedTuple):
    """What `fine_tune` returns.

    Attributes:
        model: `ImageClassifier`, from images to classes.
        accuracy: Float in [0, 1], of the test images; None without.
        history: Dictionary from the names of losses and metrics to their
            values, one an epoch.
    """

    model: ImageClassifier
    accuracy: float | None
    history: dict

    def __repr__(self):
        return f"FineTuned(accuracy={self.accuracy}, model={self.model.name!r})"


def fine_tune(
    model,
    train,
    test=None,
    *,
    epochs=60,
    batch_size=256,
    learning_rate=0.05,
    optimizer=None,
    augmentation="crop and flip",
    head_layers=0,
    class_names=None,
    value_range=None,
    seed=0,
    verbose=0,
    callbacks=(),
):
    """Trains a copy of an encoder, with a classifier, on labelled images.

    By default as the paper does with 1 % of ImageNet's labels: all weights,
    Nesterov momentum of 0.9, the learning rate 0.05 x batch size / 256 without
    warm-up, decayed by a half cosine, no weight decay, and of the augmentation
    the crop and the flip alone. The paper takes 60 epochs for 1 % of the labels
    and 30 for 10 %. Choose the images by `class_balanced_subset`.

    With an encoder that was never trained this is the supervised baseline, by
    the same network and augmentation in the same number of steps.

    Args:
        model: `SimCLRModel`, or an encoder from images in [0, 1] to
            representations (B, F). It stays as it is: a copy is trained, which
            needs a `get_config` of layers of your own.
        train: Pair of images (N, H, W, C) and integer labels (N,).
        test: As `train`, to measure the accuracy. Defaults to None.
        epochs: Positive integer. Defaults to 60.
        batch_size: Positive integer; all images, if there are fewer. Defaults
            to 256.
        learning_rate: Float > 0, for 256 images. Defaults to 0.05.
        optimizer: `keras.optimizers.Optimizer`, in place of the paper's and of
            `learning_rate`; SimCLRv2 has LARS at 0.005 x the root of the batch
            size. Defaults to None.
        augmentation: Layer applied to images in training; `None`, or `"crop
            and flip"`, a `RandomResizedCrop` to the size of the encoder's
            images and a `RandomHorizontalFlip`. Defaults to the latter.
        head_layers: Integer, how many layers of a `SimCLRModel`'s projection
            head stay between the encoder and the classifier. SimCLRv2 keeps
            one (its `ft_proj_selector`). Defaults to 0.
        class_names: Sequence of strings, one for each label, in their order.
            None names them by their numbers. Defaults to None.
        value_range: Pair of numbers (low, high), the range of the images. None
            is the model's, or for an encoder (0, 255) for integers and (0, 1)
            for floats. Defaults to None.
        seed: Integer, draws the order of images, the augmentation and the first
            weights of the classifier. Defaults to 0.
        verbose: As in `keras.Model.fit`. Defaults to 0.
        callbacks: Sequence of `keras.callbacks.Callback` for `fit`. Defaults to
            ().

    Returns:
        `FineTuned`: the model, its accuracy, and the history.

    Raises:
        TypeError: If `train` or `test` is not a pair, labels are not integers,
            or the encoder cannot be copied.
        ValueError: If images and labels differ in their number, the test has
            labels that the training has not, the head has too few layers, or a
            number is out of its range.

    Example:
        index = simclr_keras.evaluation.class_balanced_subset(labels, 10)
        tuned = simclr_keras.evaluation.fine_tune(
            model, (images[index], labels[index]), (test_images, test_labels)
        )
        print(f"{tuned.accuracy:.1%} with ten labels a class")
        tuned.model.save("classifier.keras")

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 6 and
          Appendix B.5.
        - [Chen et al., 2020](https://arxiv.org/abs/2006.10029), Section 2.2:
          fine-tuning from a layer of the head.
    """
    check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    images, labels = _unpack(train, "train")
    classes, labels = np.unique(labels, return_inverse=True)
    if class_names is None:
        class_names = classes
    elif len(class_names) != len(classes):
        raise ValueError(
            "`class_names` must name each label that `train` has. Received: "
            f"{len(class_names)} names for {len(classes)} labels."
        )
    if test is not None:
        test = _of_known_classes(*_unpack(test, "test"), classes)
    encoder, head = _copies(model, head_layers, images.shape)
    if value_range is None:
        is_model = isinstance(model, SimCLRModel)
        are_floats = np.issubdtype(images.dtype, np.floating)
        value_range = (
            model.value_range
            if is_model
            else ((0, 1) if are_floats else (0, 255))
        )
    if isinstance(augmentation, str):
        if augmentation != "crop and flip":
            raise ValueError(
                '`augmentation` must be "crop and flip", a layer or None. '
                f"Received: augmentation={augmentation!r}."
            )
        augmentation = _crop_and_flip(model, images.shape, value_range, seed)
    classifier = ImageClassifier(
        encoder, class_names, head, augmentation, value_range, seed
    )
    batch_size = min(batch_size, len(images))
    steps = -(-len(images) // batch_size)
    if optimizer is None:
        rate = scaled_learning_rate(learning_rate, batch_size)
        optimizer = keras.optimizers.SGD(
            WarmupCosineDecay(rate, epochs * steps),
            momentum=0.9,
            nesterov=True,
        )
    classifier.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = classifier.fit(
        _batches(images, labels, batch_size, seed),
        steps_per_epoch=steps,
        epochs=epochs,
        shuffle=False,
        verbose=verbose,
        callbacks=list(callbacks),
    ).history
    accuracy = None
    if test is not None:
        test_images, test_labels = test
        logits = classifier.predict(test_images, verbose=0)
        accuracy = float(np.mean(logits.argmax(axis=-1) == test_labels))
    return FineTuned(classifier, accuracy, history)


def _batches(images, labels, batch_size, seed):
    """Batches without end; all images once an epoch, in a seeded order."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(images))
        for start in range(0, len(images), batch_size):
            rows = order[start : start + batch_size]
            yield images[rows], labels[rows]


def _unpack(data, name):
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(
            f"`{name}` must be a pair (images, labels). Received: "
            f"{type(data).__name__}; a set of simclr_keras.data has "
            "`set.arrays()`."
        )
    images = np.asarray(data[0])
    if images.ndim != 4 or len(images) < 1:
        raise ValueError(
            f"Images of `{name}` must have the shape (N, H, W, C). Received: "
            f"shape={images.shape}."
        )
    return images, check_labels(data[1], len(images), f"labels of {name}")


def _of_known_classes(images, labels, classes):
    """Images, and the place of their labels among the classes."""
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        raise ValueError(
            "`test` must have no labels that `train` has not. Received: "
            f"{unknown[:5].tolist()}, while `train` has "
            f"{classes[:20].tolist()}."
        )
    return images, np.searchsorted(classes, labels)


def _copies(model, head_layers, image_shape):
    """Copies of the encoder and of the first layers of the head, or None."""
    if not isinstance(model, SimCLRModel):
        if head_layers:
            raise ValueError(
                "`head_layers` needs a SimCLRModel, which has a projection "
                f"head. Received: head_layers={head_layers} with a "
                f"{type(model).__name__}."
            )
        return _copy(model, (1, *image_shape[1:])), None
    encoder = _copy(model.encoder, (1, *image_shape[1:]))
    if not head_layers:
        return encoder, None
    layers = getattr(model.projection_head, "layers", [])
    ends = [
        place
        for place, layer in enumerate(layers)
        if isinstance(layer, keras.layers.Dense)
    ]
    if not 0 < head_layers <= len(ends):
        raise ValueError(
            f"`head_layers` must be at most {len(ends)}, the layers of the "
            f"projection head that was trained. Received: "
            f"head_layers={head_layers}."
        )
    # Each with the batch norm and the activation that follow it.
    kept = layers[: [*ends, len(layers)][head_layers]]
    width = kept[0].kernel.shape[0]
    copy = keras.Sequential([keras.Input((width,)), *map(_empty_copy, kept)])
    copy.set_weights([w for layer in kept for w in layer.get_weights()])
    return encoder, copy


def _copy(layer, shape):
    """A layer of the same weights, built for images of a shape."""
    if not layer.built:
        raise ValueError(
            f"The encoder {layer.name!r} must have weights. Received one that "
            "is not built: call it on images, train it or load it first."
        )
    copy = _empty_copy(layer)
    if not copy.built or len(copy.weights) != len(layer.weights):
        copy(ops.zeros(shape))
    copy.set_weights(layer.get_weights())
    copy.trainable = True
    return copy


def _empty_copy(layer):
    try:
        config = keras.saving.serialize_keras_object(layer)
        return keras.saving.deserialize_keras_object(
            config,
            {type(layer).__name__: type(layer)},
            # It comes from this process, not from a file.
            safe_mode=False,
        )
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(
            f"`fine_tune` trains a copy, and {layer.name!r}, a "
            f"{type(layer).__name__}, cannot be copied: give its class a "
            "`get_config` that returns the arguments of its constructor. Keras "
            f"says: {error}"
        ) from error


def _crop_and_flip(model, image_shape, value_range, seed):
    """The paper's augmentation for fine-tuning, to the encoder's size."""
    size = image_shape[1:3]
    if isinstance(model, SimCLRModel):
        model_size = getattr(model.evaluation_preprocessing, "height", None)
        if model_size is not None:
            size = (model_size, model.evaluation_preprocessing.width)
        model = model.encoder
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, tuple) and None not in expected[1:3]:
        size = expected[1:3]
    keywords = {"value_range": value_range, "seed": seed}
    return keras.Sequential(
        [RandomResizedCrop(*size, **keywords), RandomHorizontalFlip(**keywords)]
    )
