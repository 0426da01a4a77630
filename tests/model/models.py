"""Small models and images that the tests of this folder share."""

import keras
import numpy as np
import tensorflow as tf

from simclr_keras import NTXentLoss, ProjectionHead, SimCLRModel
from simclr_keras.augmentation import RandomHorizontalFlip

TEMPERATURE = 0.5
RATE = 0.1
NUM_CLASSES = 4
BATCH = 8
EAGER = {"run_eagerly": True}  # the cheapest, for a step or two


def random_images(count=16, height=8, width=8, seed=0):
    rng = np.random.default_rng(seed)
    # Each its own color and texture, so that there is something to learn.
    colors = rng.uniform(64, 192, (count, 1, 1, 3))
    noise = rng.uniform(-64, 64, (count, height, width, 3))
    return (colors + noise).astype("uint8")


IMAGES = random_images()
LABELS = np.arange(16) % NUM_CLASSES
VIEWS = {"view_1": IMAGES, "view_2": random_images(seed=1)}


def tiny_encoder(shape=(8, 8, 3), **kwargs):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(
                8, 3, strides=2, use_bias=False, name="conv", **kwargs
            ),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ],
        name="encoder",
    )


def tiny_model(
    optimizer=None, compiling=None, encoder=None, cls=SimCLRModel, **kwargs
):
    """A model whose weights and draws are the same every time."""
    keras.utils.set_random_seed(0)
    kwargs.setdefault("augmentation", RandomHorizontalFlip(seed=7))
    if "projection_head" not in kwargs:
        kwargs["projection_head"] = ProjectionHead(4, name="head")
    model = cls(encoder or tiny_encoder(), **kwargs)
    model.compile(
        optimizer or keras.optimizers.SGD(RATE),
        NTXentLoss(TEMPERATURE),
        **(compiling or {}),
    )
    return model


def fit(model, *data, epochs=2, **kwargs):
    """The history, for data in its order."""
    kwargs["shuffle"] = False
    if not isinstance(data[0], (tf.data.Dataset, keras.utils.PyDataset)):
        kwargs.setdefault("batch_size", BATCH)
    return model.fit(*data, epochs=epochs, verbose=0, **kwargs).history


def weights(layer):
    return [v.numpy() for v in layer.weights]


def assert_equal(one, other, **tolerances):
    """Of two histories, dictionaries or lists of arrays."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        one, other = (list(map(d.get, sorted(d))) for d in (one, other))
    for a, b in zip(one, other, strict=True):
        if tolerances:
            np.testing.assert_allclose(a, b, **tolerances)
        else:
            np.testing.assert_array_equal(a, b)


class Batches(keras.utils.PyDataset):
    """Batches in a list."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def dataset(value, batch_size=BATCH):
    return tf.data.Dataset.from_tensor_slices(value).batch(batch_size)


def halves(array):
    return array[:BATCH], array[BATCH:]
