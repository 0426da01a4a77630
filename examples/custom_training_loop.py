"""The pieces of SimCLR in your own code, in four ways.

    python examples/custom_training_loop.py

Each function stands alone and can be copied: a `tf.GradientTape` loop, views
made by `tf.data`, image layers in a `keras.Sequential`, and a functional model
that is trained with labels. They learn from scikit-learn's digits, in less
than a minute on two CPU cores.
"""

if __name__ == "__main__":
    # Before the imports that take seconds, for which `--help` does not wait.
    import command_line

    command_line.Parser(__doc__).parse_args()

import keras
import numpy as np
import tensorflow as tf

import simclr_keras

STEPS = 60  # of each of the four
BATCH_SIZE = 64

SIDE = 8  # of the digits, in pixels


def make_encoder():
    """A small network of your own as encoder: digits in [0, 1] to h."""
    backbone = keras.Sequential([keras.Input((SIDE, SIDE, 1))])
    for filters, strides in ((32, 1), (64, 2), (64, 1)):
        backbone.add(
            keras.layers.Conv2D(
                filters, 3, strides, padding="same", use_bias=False
            )
        )
        backbone.add(keras.layers.BatchNormalization(momentum=0.9))
        backbone.add(keras.layers.ReLU())
    return simclr_keras.encoders.BackboneEncoder(backbone)


def make_augmentation(seed=None):
    """Views of digits; without flips, as a flipped digit is another sign."""
    return simclr_keras.SimCLRAugmentation(
        SIDE, SIDE, strength=0.5, blur=False, flip=False, seed=seed
    )


def make_optimizer(steps):
    """LARS, with warm-up in the first tenth of the steps."""
    schedule = simclr_keras.WarmupCosineDecay(
        0.5, total_steps=steps, warmup_steps=steps // 10
    )
    return simclr_keras.LARS(schedule, weight_decay=1e-4)


def gradient_tape_loop(images, steps, batch_size, seed=0):
    """Algorithm 1 by hand.

    Args:
        images: uint8 array (N, 8, 8, 1).
        steps: Integer.
        batch_size: Integer.
        seed: Integer, of the views and of the order of the images.

    Returns:
        The encoder, and the list of the losses.
    """
    augmentation = make_augmentation(seed)
    encoder, head = make_encoder(), simclr_keras.ProjectionHead(64)
    head.build(encoder.output_shape)
    loss_function = simclr_keras.NTXentLoss(temperature=0.2)
    optimizer = make_optimizer(steps)
    variables = encoder.trainable_variables + head.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(batch):
        views = tf.concat([augmentation(batch), augmentation(batch)], axis=0)
        with tf.GradientTape() as tape:
            # Both views as one batch, so that they share batch statistics.
            h = encoder(views / 255.0, training=True)
            z_1, z_2 = tf.split(head(h, training=True), 2)
            loss = loss_function(z_1, z_2)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    batches = batches_of(images, batch_size, seed).take(steps)
    return encoder, [float(step(batch)) for batch in batches]


def views_in_tf_data(images, steps, batch_size, seed=0):
    """`SimCLRModel` on views that `tf.data` makes, on other cores.

    A layer's own counter of draws must not be used here, since parallel calls
    would read it at the same time. What `apply` draws follows from a key and
    the images' indices alone, so the views are the same in every run.
    """
    augmentation = make_augmentation()

    def view_of(batch, draw):
        key = tf.stack([tf.constant(seed, draw.dtype), draw])
        return augmentation.apply(batch, tf.range(batch_size), key)

    def two_views(step, batch):
        return {
            "view_1": view_of(batch, 2 * step),
            "view_2": view_of(batch, 2 * step + 1),
        }

    data = batches_of(images, batch_size, seed).take(steps).enumerate()
    data = data.map(two_views, num_parallel_calls=tf.data.AUTOTUNE)
    model = simclr_keras.SimCLRModel(
        make_encoder(), simclr_keras.ProjectionHead(64)
    )
    return model.encoder, fit(model, data.prefetch(2), steps)


def sequential_augmentation(images, steps, batch_size, seed=0):
    """`SimCLRModel` with any image layers, Keras's among them."""
    augmentation = keras.Sequential(
        [
            simclr_keras.augmentation.RandomResizedCrop(
                SIDE, SIDE, area_range=(0.3, 1.0), seed=seed
            ),
            keras.layers.RandomRotation(0.05, fill_mode="constant", seed=seed),
            simclr_keras.augmentation.RandomColorJitter(
                brightness=0.4, contrast=0.4, saturation=0, hue=0, seed=seed
            ),
        ]
    )
    model = simclr_keras.SimCLRModel(
        make_encoder(), simclr_keras.ProjectionHead(64), augmentation
    )
    data = batches_of(images, batch_size, seed).take(steps)
    return model.encoder, fit(model, data, steps)


def functional_classifier(images, labels, steps, batch_size, seed=0):
    """Encoder, image layer and LARS in a functional model with labels."""
    encoder = make_encoder()
    inputs = keras.Input((SIDE, SIDE, 1), dtype="uint8")
    x = simclr_keras.augmentation.RandomResizedCrop(
        SIDE, SIDE, area_range=(0.5, 1.0), seed=seed
    )(inputs)  # In `predict` the images pass unchanged.
    h = encoder(keras.layers.Rescaling(1 / 255)(x))
    outputs = keras.layers.Dense(10, activation="softmax")(h)
    model = keras.Model(inputs, outputs)
    model.compile(make_optimizer(steps), "sparse_categorical_crossentropy")
    data = batches_of((images, labels), batch_size, seed).take(steps)
    losses = Losses()
    model.fit(data, callbacks=[losses], verbose=0)
    return encoder, losses.values


def batches_of(arrays, batch_size, seed):
    """An infinite `tf.data.Dataset`, each epoch in another order."""
    data = tf.data.Dataset.from_tensor_slices(arrays)
    data = data.shuffle(len(data), seed=seed).repeat()
    return data.batch(batch_size, drop_remainder=True)


def fit(model, data, steps):
    """Trains a `SimCLRModel`; returns the losses of the steps."""
    model.compile(
        make_optimizer(steps), simclr_keras.NTXentLoss(temperature=0.2)
    )
    losses = Losses()
    model.fit(data, callbacks=[losses], verbose=0)
    return losses.values


class Losses(keras.callbacks.Callback):
    """Records the loss of every step.

    Attributes:
        values: List of floats.
    """

    def __init__(self):
        super().__init__()
        self.values = []
        self.total = 0.0

    def on_train_batch_end(self, batch, logs=None):
        # Keras gives the mean over the steps so far.
        total = logs["loss"] * (batch + 1)
        self.values.append(total - self.total)
        self.total = total


def main():
    """Runs the four and prints how the loss fell."""
    keras.utils.set_random_seed(0)
    data = simclr_keras.data.load_digits()
    images, labels = data.train.arrays()
    size = STEPS, BATCH_SIZE
    for name, (encoder, losses) in {
        "tf.GradientTape loop": gradient_tape_loop(images, *size),
        "views in tf.data": views_in_tf_data(images, *size),
        "keras.Sequential": sequential_augmentation(images, *size),
        "functional, with labels": functional_classifier(images, labels, *size),
    }.items():
        first, last = np.mean(losses[:5]), np.mean(losses[-5:])
        accuracy = knn_accuracy(encoder, data)
        print(f"{name}: loss {first:.2f} -> {last:.2f}, kNN {accuracy:.1%}")


def knn_accuracy(encoder, data):
    """Accuracy of 20 nearest neighbors on the held-out digits."""
    features = []
    for part in (data.train, data.test):
        images, labels = part.arrays()
        h = simclr_keras.evaluation.extract_features(encoder, images / 255.0)
        features += [h, labels]
    return simclr_keras.evaluation.knn_accuracy(*features, k=20)


if __name__ == "__main__":
    main()
