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


SLOW = ("RandAugment", "AugMix")


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
