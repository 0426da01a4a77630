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


@pytest.mark.slow
def test_equal_augmentations_share_what_is_compiled():
    def of(*layers, **kwargs):
        model = tiny_model(augmentation=keras.Sequential([*layers]), **kwargs)
        fit(model, IMAGES, epochs=1)
        (function,) = model.compiled_augmentations.values()
        return function

    one = of(RandomGaussianNoise(seed=1), RandomGaussianNoise(0.3))
    same = of(RandomGaussianNoise(seed=2), RandomGaussianNoise(0.3, name="b"))
    assert one is same
    other = of(RandomGaussianNoise(), RandomGaussianNoise(0.4))
    turned = of(RandomGaussianNoise(0.3), RandomGaussianNoise())
    assert len({id(each) for each in (one, other, turned)}) == 3


@pytest.mark.slow
def test_what_is_shared_makes_the_same_views_as_what_is_not():
    losses = []
    for _ in range(2):
        for compiling in ({}, {"jit_compile": False}):
            model = tiny_model(
                augmentation=SimCLRAugmentation(8, 8, seed=5),
                compiling=compiling,
            )
            losses.append(fit(model, IMAGES, epochs=2)["loss"])
    for each in losses[1:]:
        # float32; XLA adds up in another order.
        np.testing.assert_allclose(each, losses[0], rtol=1e-4)


@pytest.mark.slow
def test_an_attribute_that_is_set_is_seen():
    def loss(layer):
        model = tiny_model(augmentation=layer)
        return fit(model, IMAGES, epochs=1)["loss"]

    first = SimCLRAugmentation(8, 8, seed=5)
    plain = loss(first)
    first.color_jitter.brightness = 0.0
    first.color_jitter.contrast = 0.0
    # Neither does the next one get what was compiled of the first, nor
    # whoever has other attributes what was compiled of others.
    assert loss(SimCLRAugmentation(8, 8, seed=5)) == plain
    changed = SimCLRAugmentation(8, 8, seed=5)
    changed.strength = 0
    assert loss(changed) != plain


def test_a_layer_of_ones_own_is_not_shared():
    class Darker(RandomImageLayer):
        jit_compile = True

        def __init__(self, factor):
            super().__init__(seed=1)
            self.factor = factor  # Not in `get_config`.

        def parameters(self, shape, uniform):
            return {"u": uniform(1)}

        def transform(self, images, u):
            return images * self.factor * u[:, :, None, None]

    losses = set()
    for factor in (0.2, 0.9):
        model = tiny_model(augmentation=Darker(factor))
        losses.add(fit(model, IMAGES, epochs=1)["loss"][0])
        assert len(model.compiled_augmentations) == 1
    assert len(losses) == 2
