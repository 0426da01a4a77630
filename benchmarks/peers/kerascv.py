"""KerasCV 0.6.4, the last one whose SimCLR works, on TensorFlow 2.15.

Not called `keras_cv.py`, which would hide the package from itself. Trainer and
augmenter are no longer exported, but there.
"""

import keras_cv
import resnet18
import tensorflow as tf
import tensorflow_parts as parts
import worker
from keras_cv.src.training import SimCLRTrainer
from keras_cv.src.training.contrastive.simclr_trainer import SimCLRAugmenter


def make_augmentation(config):
    augmenter = build_augmenter(config)
    dataset = parts.batches(worker.random_images(config), config)
    # As the trainer's `fit` does it.
    dataset = dataset.map(
        lambda x: (augmenter(x, training=True), augmenter(x, training=True)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )

    def run():
        for views in dataset:
            for view in views:
                view.numpy()

    return run, {}


def make_loss(config):
    loss = keras_cv.losses.SimCLRLoss(config["temperature"])

    return parts.loss_and_gradient(loss, config), {}


def make_step(config):
    # The trainer makes two views of what it is given: here both are the same.
    trainer = build_trainer(config, tf.keras.layers.Identity(), scale=1.0)
    images = parts.repeated(worker.random_views(config)[0], config)

    def run():
        trainer.fit(images, verbose=0)

    return run, {"parameters": trainer.encoder.count_params()}


def make_end_to_end(config):
    trainer = build_trainer(config, build_augmenter(config), scale=1 / 255)
    images = worker.random_images(config)

    def run():
        trainer.fit(images, batch_size=config["batch_size"], verbose=0)

    return run, {"parameters": trainer.encoder.count_params()}


def build_augmenter(config):
    # Strength 0.5 in this library's own terms; 0.5 is no change of saturation.
    return SimCLRAugmenter(
        (0, 255),
        config["image_size"],
        config["image_size"],
        brightness_factor=0.4,
        contrast_factor=0.4,
        saturation_factor=(0.3, 0.7),
        hue_factor=0.1,
    )


def build_trainer(config, augmenter, scale):
    if config["dtype"] == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    tf.keras.utils.set_random_seed(config["seed"])
    encoder = resnet18.build(config["image_size"], config["width"], scale)
    trainer = SimCLRTrainer(encoder, augmenter, config["dim"])
    trainer.compile(
        encoder_optimizer=tf.keras.optimizers.Adam(config["learning_rate"]),
        encoder_loss=keras_cv.losses.SimCLRLoss(config["temperature"]),
    )
    return trainer


def race(config):
    train, test = worker.load_race(config)
    trainer = build_trainer(config, build_augmenter(config), scale=1 / 255)
    dataset = parts.shuffled(train).batch(config["batch_size"])
    result = parts.fit_until_deadline(trainer, dataset, config)
    # As in training, the encoder takes images in [0, 255].
    parts.write_features(
        lambda images, training: trainer.encoder(255 * images, training),
        config,
        train,
        test,
    )
    return result


if __name__ == "__main__":
    worker.serve(globals())
