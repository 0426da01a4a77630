"""Keras's own image layers as `augmentation`."""

import keras
import numpy as np
import pytest

from tests.partners import pretraining

AUGMENTATIONS = {
    "one layer": lambda: keras.layers.RandomTranslation(0.1, 0.1),
    "keras.Sequential": lambda: keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomTranslation(0.1, 0.1),
            keras.layers.RandomContrast((0.5, 0.5)),
        ]
    ),
    "keras.layers.Pipeline": lambda: keras.layers.Pipeline(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomBrightness(0.2),
        ]
    ),
    "RandAugment": lambda: keras.layers.RandAugment(value_range=(0, 255)),
    "AugMix": lambda: keras.layers.AugMix(value_range=(0, 255)),
}


SLOW = ("RandAugment", "AugMix", "Sequential")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
        for n in AUGMENTATIONS
    ],
)
def test_pretrains(name, tmp_path):
    keras.utils.set_random_seed(0)
    augmentation = AUGMENTATIONS[name]()
    model = pretraining.pretrained(pretraining.tiny_encoder(), augmentation)
    pretraining.check_saves_and_loads(model, tmp_path)
    view = augmentation(pretraining.images(), training=True)
    assert np.any(view != pretraining.images())


def draws(layer, count=32):
    """How many different images a layer makes of equal ones."""
    image = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3))
    image = image.astype("float32")
    found = layer(np.repeat(image, count, axis=0), training=True)
    return len({view.tobytes() for view in np.asarray(found)})


def test_what_is_drawn_for_each_image():
    """As docs/migrating.md says it."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    for layer in (
        layers.RandomBrightness(0.5),
        layers.RandomContrast(0.5),
        layers.RandomRotation(0.5),
        layers.RandomTranslation(0.3, 0.3),
    ):
        assert draws(layer) == 32, layer.name
    assert draws(layers.RandomCrop(8, 8)) == 1
    # Blurred or not.
    blur = layers.RandomGaussianBlur(factor=0.5, kernel_size=3, sigma=1.0)
    assert draws(blur) == 2


def test_rand_augment_chooses_its_operations_for_all_images():
    keras.utils.set_random_seed(0)
    layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=1)
    images = np.zeros((32, 8, 8, 3), "float32")
    chosen = layer.get_random_transformation(images)["layer_idxes"]
    assert np.shape(chosen) == (1,)
