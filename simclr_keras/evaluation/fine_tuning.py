"""Fine-tuning: encoder and classifier trained together on labelled images."""

import keras

from simclr_keras.evaluation.checks import check_count, check_positive
from simclr_keras.evaluation.image_classifier import ImageClassifier
from simclr_keras.evaluation.labelled_images import (
    CROP_AND_FLIP,
    LabelledImages,
    TrainedClassifier,
    copy_encoder,
    empty_copy,
    train_classifier,
    training_augmentation,
)
from simclr_keras.projection_head import ProjectionHead

# For 1 % of ImageNet's labels, which are 12,811 images.
PAPER_EPOCHS = 60
# Fewer leave a classifier of few images where it began.
FEWEST_STEPS = 1000


def fine_tune(
    model,
    train,
    test=None,
    *,
    epochs=None,
    batch_size=256,
    learning_rate=0.05,
    optimizer=None,
    augmentation=CROP_AND_FLIP,
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
    warm-up, decayed by a half cosine, no weight decay (but the regularizers
    that layers have), and of the augmentation the crop and the flip alone. The
    paper takes 60 epochs for 1 % of the labels and 30 for 10 %. Choose the
    images by `class_balanced_subset`.

    With an encoder that was never trained this is the supervised baseline, by
    the same network and augmentation in the same number of steps.

    Args:
        model: `SimCLRModel`, or an encoder from images in [0, 1] to
            representations (B, F). It stays as it is: a copy is trained, of
            which nothing is frozen, and which needs a `get_config` of layers of
            your own. A model that overrides `encode` is refused.
        train: Pair of images (N, H, W, C) and integer labels (N,).
        test: As `train`, to measure the accuracy. Defaults to None.
        epochs: Positive integer. None is the paper's 60 for 1 % of the labels,
            or as many as make 1,000 steps: of a few hundred images 60 epochs
            are too few steps to learn anything. Defaults to None.
        batch_size: Positive integer; all images, if there are fewer. Defaults
            to 256.
        learning_rate: Float > 0, for 256 images. Defaults to 0.05.
        optimizer: `keras.optimizers.Optimizer`, in place of the paper's and of
            `learning_rate`; SimCLRv2 has LARS at 0.005 x the root of the batch
            size. Defaults to None.
        augmentation: Layer applied to images in training; `None`, for the
            images as a `SimCLRModel` evaluates them; or `"crop and flip"`, a
            `RandomResizedCrop` to the size of the encoder's images and a
            `RandomHorizontalFlip`. Defaults to the latter.
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
        `TrainedClassifier`: the model, its accuracy, and the history.

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
    # Before anything is copied.
    if epochs is not None:
        check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    check_positive(learning_rate, "learning_rate")
    data = LabelledImages(train, test, class_names)
    head = _copy_of_head(model, head_layers)
    encoder = copy_encoder(model, data.images.shape)
    value_range = data.value_range(model, value_range)
    classifier = ImageClassifier(
        encoder,
        data.class_names,
        head,
        training_augmentation(
            augmentation, model, data.images.shape, value_range, seed
        ),
        value_range,
        seed=seed,
    )
    classifier(data.images[:1])  # Makes its weights, for callbacks to save.
    if epochs is None:
        steps = -(-len(data.images) // batch_size)
        epochs = max(PAPER_EPOCHS, -(-FEWEST_STEPS // steps))
    history = train_classifier(
        classifier,
        data.images,
        data.labels,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        seed=seed,
        verbose=verbose,
        callbacks=callbacks,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return TrainedClassifier(classifier, data.accuracy(classifier), history)


def _copy_of_head(model, num_layers):
    """The first layers of a model's projection head, or None."""
    if isinstance(num_layers, bool) or not hasattr(num_layers, "__index__"):
        raise TypeError(
            "`head_layers` must be an integer. Received: "
            f"head_layers={num_layers!r}."
        )
    if not num_layers:
        return None
    head = getattr(model, "projection_head", None)
    if not isinstance(head, ProjectionHead):
        raise ValueError(
            "`head_layers` needs a SimCLRModel with a ProjectionHead. "
            f"Received: head_layers={num_layers} with a "
            f"{type(model).__name__} and a {type(head).__name__}."
        )
    layers = head.layers
    starts = [
        place
        for place, layer in enumerate(layers)
        if isinstance(layer, keras.layers.Dense)
    ]
    if not 0 < num_layers <= len(starts):
        raise ValueError(
            f"`head_layers` must lie from 0 to {len(starts)}, the layers of "
            "the projection head that was trained. Received: "
            f"head_layers={num_layers}."
        )
    # Each with the batch norm and the activation that follow it.
    kept = layers[: [*starts, len(layers)][num_layers]]
    width = kept[0].kernel.shape[0]
    copy = keras.Sequential([keras.Input((width,)), *map(empty_copy, kept)])
    copy.set_weights([w for layer in kept for w in layer.get_weights()])
    return copy
