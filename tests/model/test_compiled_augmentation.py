"""When XLA compiles the augmentation of a step, and when not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import SimCLRAugmentation
from simclr_keras.augmentation import RandomGaussianNoise, RandomImageLayer
from tests.model.models import IMAGES, fit, tiny_model


class ByText(RandomImageLayer):
    """Has an operation that XLA lacks."""

    def parameters(self, shape, uniform):
        return {"u": uniform(1)}

    def transform(self, images, u):
        noise = tf.strings.to_number(tf.strings.as_string(u))
        return images * (0.5 + noise[:, :, None, None] / 2)


@pytest.mark.parametrize(
    ("make", "compiling"),
    [
        (lambda layer: layer, {"jit_compile": False}),
        (
            lambda layer: keras.Sequential(
                [RandomGaussianNoise(seed=1), layer]
            ),
            {},
        ),
    ],
)
def test_an_augmentation_that_xla_cannot_compile(make, compiling):
    model = tiny_model(augmentation=make(ByText(seed=1)), compiling=compiling)
    assert np.isfinite(fit(model, IMAGES, epochs=1)["loss"]).all()


def test_jit_compile_false_compiles_nothing():
    model = tiny_model(
        augmentation=RandomGaussianNoise(seed=7),
        compiling={"jit_compile": False},
    )
    fit(model, IMAGES, epochs=1)
    assert not model.compiled_augmentations


def test_images_of_many_sizes_are_not_compiled_one_by_one():
    def generate():
        for size in range(9, 21):
            yield np.full((4, size, size + 1, 3), size, "uint8")

    images = tf.data.Dataset.from_generator(
        generate, output_signature=tf.TensorSpec((4, None, None, 3), "uint8")
    )
    model = tiny_model(augmentation=SimCLRAugmentation(8, 8, seed=1))
    fit(model, images, epochs=1)
    assert not model.compiled_augmentations


def test_one_function_is_traced_once():
    model = tiny_model(augmentation=RandomGaussianNoise(seed=7))
    fit(model, IMAGES)
    (compiled,) = model.compiled_augmentations.values()
    assert compiled.function_spec.jit_compile
    assert compiled.experimental_get_tracing_count() == 1
