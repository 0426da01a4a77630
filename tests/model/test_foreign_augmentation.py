"""Image layers that are not of this library, as `augmentation`."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import NTXentLoss, ProjectionHead, SimCLRModel
from simclr_keras.augmentation import RandomGaussianNoise

SEED = 3
STEPS = 4
IMAGES = np.random.default_rng(0).integers(0, 256, (14, 8, 8, 3), "uint8")


class Coin(keras.layers.Layer):
    """Flips every other image, as KerasCV would write it: by `if`."""

    def __init__(self, seed=SEED):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=None):
        if not training:
            return images
        draws = keras.random.uniform(
            (keras.ops.shape(images)[0],), seed=self.seed_generator
        )
        return tf.map_fn(
            lambda x: self.flip(*x),
            (images, draws),
            fn_output_signature="uint8",
        )

    def flip(self, image, draw):
        if draw > 0.5:
            image = image[:, ::-1]
        return image


def fitted(augmentation, **compiling):
    """A model after `STEPS` steps, half of them on 6 images instead of 8."""
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model = SimCLRModel(encoder, ProjectionHead(4), augmentation)
    model.compile(keras.optimizers.SGD(0.1), NTXentLoss(0.5), **compiling)
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).batch(8).repeat(2)
    history = model.fit(dataset, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    return model


@pytest.mark.slow
def test_a_layer_that_needs_autograph():
    compiled, eager = fitted(Coin()), fitted(Coin(), run_eagerly=True)
    assert int(compiled.optimizer.iterations) == STEPS
    # In the norm over all weights: float32 in other kernels makes up to 2e-5
    # in four steps, other draws 0.3 to 2 (measured for four sets of images).
    assert distance(compiled, eager) < 1e-3
    assert distance(fitted(Coin(SEED + 1)), eager) > 1e-1


class DrawsUnseeded(keras.layers.Layer):
    """Draws from Keras's global generator, for which there is no seed."""

    def call(self, images, training=None):
        images = keras.ops.cast(images, "float32")
        noise = keras.random.uniform(keras.ops.shape(images), maxval=50)
        return images + noise if training else images


def test_a_layer_that_draws_without_a_seed():
    models = []
    for compiling in ({}, {"run_eagerly": True}):
        # Keras 3.12 keeps its global generator when a seed is set.
        keras.utils.clear_session(free_memory=False)
        models.append(fitted(DrawsUnseeded(), **compiling))
    compiled, eager = models
    assert int(compiled.optimizer.iterations) == STEPS
    # The shapes are looked at without a draw: both draw the same (float32).
    assert distance(compiled, eager) < 1e-3


def distance(model, expected):
    a, b = (
        np.concatenate([np.ravel(w) for w in m.get_weights()])
        for m in (model, expected)
    )
    return np.linalg.norm(a - b) / np.linalg.norm(b)


class AlwaysNoisy(keras.layers.Layer):
    """Draws in inference too, as KerasCV's layers do."""

    def call(self, images):
        noise = tf.random.uniform(tf.shape(images), maxval=50)
        return keras.ops.cast(images, "float32") + noise


@pytest.mark.parametrize(
    ("layer", "is_used"), [(AlwaysNoisy, False), (keras.layers.Rescaling, True)]
)
def test_inference_leaves_out_what_cannot_be_told_not_to_draw(layer, is_used):
    scale = () if layer is AlwaysNoisy else (0.5,)
    model = fitted(keras.Sequential([layer(*scale)]), run_eagerly=True)
    images = IMAGES.astype("float32")
    h = model.predict(images, verbose=0)
    np.testing.assert_array_equal(model.predict(images, verbose=0), h)
    expected = model.encoder(images / 255 * (0.5 if is_used else 1))
    # float32, scaled in another order
    np.testing.assert_allclose(h, expected, atol=1e-5)


@pytest.mark.slow  # Two models, compiled for two replicas each.
def test_in_a_step_of_two_replicas():
    # Logical devices must be set up before anything else runs.
    process = subprocess.run(
        [sys.executable, "-m", "tests.model.test_foreign_augmentation"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == 0, process.stderr[-3000:]


def _fit_in_two_replicas():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for make in (
        Coin,
        # Asks the other replicas how many images they have.
        lambda: keras.Sequential([RandomGaussianNoise(seed=SEED)]),
    ):
        with strategy.scope():
            model = fitted(make())
        (state,) = model.augmentation.variables
        # Each replica moved its own: two views in each step.
        states = strategy.experimental_local_results(state.value)
        for state in states:
            np.testing.assert_array_equal(state, [SEED, 2 * STEPS])
        assert len({state.device for state in states}) == 2
        for variable in model.trainable_variables:
            a, b = strategy.experimental_local_results(variable.value)
            np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
    _fit_in_two_replicas()
