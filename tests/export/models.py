"""Models to export, small enough for a second each."""

import keras
import numpy as np


def random_images(shape=(5, 8, 8, 3), seed=0):
    """uint8 images as float32, in [0, 255]."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape).astype("float32")


@keras.saving.register_keras_serializable(package="simclr_keras_tests")
class TinyEncoder(keras.Model):
    """Two convolutions and their endpoints, named as in `encoders.ResNet`."""

    def __init__(self, **kwargs):
        inputs = keras.Input((None, None, 3))
        x = inputs
        endpoints = {}
        for i, strides in enumerate((2, 1), start=1):
            x = keras.layers.Conv2D(
                8, 3, strides, kernel_regularizer="l2", name=f"conv{i}"
            )(x)
            x = keras.layers.BatchNormalization(
                synchronized=True, name=f"norm{i}"
            )(x)
            x = keras.layers.ReLU()(x)
            endpoints[f"block_group{i}"] = x
        h = keras.layers.GlobalAveragePooling2D()(x)
        super().__init__(inputs, h, **kwargs)
        self._endpoints = {**endpoints, "final_avg_pool": h}

    @property
    def endpoints(self):
        return dict(self._endpoints)

    def get_config(self):
        return {"name": self.name}


def tiny_encoder(shape=(None, None, 3), *layers, dtype=None):
    """One convolution, batch norm, and whatever layers are given."""
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(6, 3, name="conv", dtype=dtype),
            keras.layers.BatchNormalization(name="norm", dtype=dtype),
            keras.layers.ReLU(dtype=dtype),
            *layers,
            keras.layers.GlobalAveragePooling2D(dtype="float32"),
        ],
        name="encoder",
    )
    scramble(encoder)
    return encoder


def scramble(model, seed=0):
    """Moves what starts as zeros or ones, so that mistakes show."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(
            ("gamma", "beta", "moving_mean", "moving_variance")
        ):
            value = rng.uniform(0.5, 1.5, weight.shape)
            weight.assign(value.astype("float32"))


def chaotic_encoder(policy, num_blocks=16):
    """Deep and narrow, down to one pixel: a last bit grows to a good part.

    In training mode each batch norm divides by the deviation of the batch. A
    hard SiLU holds a constant that a graph optimizer moves elsewhere.
    """
    keras.utils.set_random_seed(2)
    inputs = x = keras.Input((8, 8, 3))
    for _ in range(num_blocks):
        x = keras.layers.Conv2D(16, 3, 2, "same", use_bias=False, dtype=policy)(
            x
        )
        x = keras.layers.BatchNormalization(momentum=0.999, dtype=policy)(x)
        x = keras.layers.Activation("hard_silu", dtype=policy)(x)
    h = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(inputs, h, name="encoder")


def _add_parts(encoder):
    encoder.conv = keras.layers.Conv2D(6, 3)
    encoder.norm = keras.layers.BatchNormalization()
    encoder.pool = keras.layers.GlobalAveragePooling2D()


class RawModel(keras.Model):
    """An encoder that says nothing of its shapes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        _add_parts(self)

    def call(self, images, training=None):
        return self.pool(self.norm(self.conv(images), training=training))


class RawLayer(keras.layers.Layer):
    """Likewise, as a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        _add_parts(self)

    def call(self, images, training=None):
        return self.pool(self.norm(self.conv(images), training=training))


class SilentLayer(RawLayer):
    """Likewise, and has its variables before it is called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv.build((None, 8, 8, 3))
        self.norm.build((None, 6, 6, 6))
        self.built = True
