"""simclr_keras, as its README uses it. Run by `run.py` and `race.py`."""

import keras
import tensorflow as tf
import tensorflow_parts as parts
import worker

import simclr_keras


def make_augmentation(config):
    augmentation = build_augmentation(config)
    # Compiled by XLA, as `fit` does it.
    view = tf.function(augmentation.apply, jit_compile=True)
    dataset = parts.batches(worker.random_images(config), config)

    def run():
        for images in dataset:
            for z in (view(images), view(images)):
                z.numpy()  # waits until the views are there

    return run, {}


def make_loss(config):
    loss = simclr_keras.NTXentLoss(config["temperature"])

    return parts.loss_and_gradient(loss, config), {}


def make_step(config):
    model = build_model(config, augmentation=None)
    view_1, view_2 = worker.random_views(config)
    views = parts.repeated({"view_1": view_1, "view_2": view_2}, config)

    def run():
        model.fit(views, verbose=0)

    return run, {"parameters": model.encoder.count_params()}


def make_end_to_end(config):
    model = build_model(config, build_augmentation(config))
    images = worker.random_images(config)

    def run():
        model.fit(images, batch_size=config["batch_size"], verbose=0)

    return run, {"parameters": model.encoder.count_params()}


def build_augmentation(config):
    size = config["image_size"]
    return simclr_keras.SimCLRAugmentation(size, size, strength=0.5, blur=False)


def build_model(config, augmentation):
    if config["dtype"] == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(config["seed"])
    size = config["image_size"]
    encoder = simclr_keras.encoders.ResNet18(
        width_multiplier=config["width"],
        stem="cifar",
        input_shape=(size, size, 3),
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        simclr_keras.ProjectionHead(config["dim"]),
        augmentation,
        # The step is given views as an encoder takes them.
        value_range=(0, 1) if augmentation is None else None,
    )
    model.compile(
        keras.optimizers.Adam(config["learning_rate"]),
        simclr_keras.NTXentLoss(config["temperature"]),
    )
    return model


def race(config):
    train, test = worker.load_race(config)
    model = build_model(config, build_augmentation(config))
    dataset = parts.shuffled(train).batch(config["batch_size"])
    result = parts.fit_until_deadline(model, dataset.prefetch(2), config)
    parts.write_features(model.encoder, config, train, test)
    return result


if __name__ == "__main__":
    worker.serve(globals())
