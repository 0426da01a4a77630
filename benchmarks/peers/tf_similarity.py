"""TensorFlow Similarity 0.17.1 on TensorFlow 2.15."""

import resnet18
import tensorflow as tf
import tensorflow_parts as parts
import worker
from tensorflow_similarity.augmenters.simclr import (
    simclr_training_augmentation,
)
from tensorflow_similarity.losses import SimCLRLoss
from tensorflow_similarity.models import create_contrastive_model
from tensorflow_similarity.models.contrastive_model import get_projector


def make_augmentation(config):
    dataset = augmented(worker.random_images(config), config)

    def run():
        for views in dataset:
            for view in views:
                view.numpy()

    return run, {}


def make_loss(config):
    loss = SimCLRLoss(config["temperature"])
    return parts.loss_and_gradient(loss, config), {}


def make_step(config):
    model = build_model(config)
    views = parts.repeated(tuple(worker.random_views(config)), config)

    def run():
        model.fit(views, verbose=0)

    return run, {"parameters": model.backbone.count_params()}


def make_end_to_end(config):
    model = build_model(config)
    dataset = augmented(worker.random_images(config), config).prefetch(2)

    def run():
        model.fit(dataset, verbose=0)

    return run, {"parameters": model.backbone.count_params()}


def augmented(images, config):
    """Batches of two views of uint8 images: an array, or a dataset."""
    size = config["image_size"]

    def view(image):
        image = tf.cast(image, "float32") / 255
        return simclr_training_augmentation(
            image, size, size, jitter_stength=0.5
        )

    if not isinstance(images, tf.data.Dataset):
        images = tf.data.Dataset.from_tensor_slices(images)
    # An image at a time, as many as there are cores at once: faster than
    # `SimCLRAugmenter`, which goes through a batch by `tf.map_fn`.
    dataset = images.map(
        lambda image: (view(image), view(image)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return dataset.batch(config["batch_size"])


def build_model(config):
    if config["dtype"] == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    tf.keras.utils.set_random_seed(config["seed"])
    encoder = resnet18.build(config["image_size"], config["width"])
    head = get_projector(encoder.output_shape[-1], config["dim"], num_layers=2)
    model = create_contrastive_model(
        backbone=encoder, projector=head, algorithm="simclr"
    )
    model.compile(
        tf.keras.optimizers.Adam(config["learning_rate"]),
        SimCLRLoss(config["temperature"]),
    )
    return model


def race(config):
    train, test = worker.load_race(config)
    model = build_model(config)
    dataset = augmented(parts.shuffled(train), config).prefetch(2)
    result = parts.fit_until_deadline(model, dataset, config)
    parts.write_features(model.backbone, config, train, test)
    return result


if __name__ == "__main__":
    worker.serve(globals())
