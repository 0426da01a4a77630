"""Random Gaussian noise."""

import math

import keras
from keras import ops

from simclr_keras.argument_checks import check_number
from simclr_keras.augmentation.functional import per_image
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    check_probability,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomGaussianNoise(RandomImageLayer):
    """Adds normal noise to every value of an image, then clips.

    Args:
        stddev: Number >= 0: standard deviation, as a share of the value range.
            Defaults to 0.1.
        probability: Float in [0, 1]. Defaults to 1.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`. An image holds at most
            2**20 values (a square RGB image of 591 pixels), the length of a
            stream of random numbers.

    Returns:
        float32 tensor of the images' shape.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> noise = simclr_keras.augmentation.RandomGaussianNoise(seed=1)
        >>> views = noise(keras.random.uniform((8, 32, 32, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Figures 4
          and 5, which name the operator and not its strength.
    """

    jit_compile = True

    def __init__(
        self,
        stddev=0.1,
        probability=1.0,
        value_range=(0, 255),
        seed=None,
        **kwargs,
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.stddev = check_number(
            "stddev", stddev, "be a number >= 0", lambda x: x >= 0
        )
        self.probability = check_probability("probability", probability)

    def parameters(self, shape, uniform):
        size = shape[1] * shape[2] * shape[3]
        u = uniform(2 * size + 1)
        # Box and Muller: two uniform numbers make a normal one. 1 - u keeps
        # the logarithm's argument above 0.
        radius = ops.sqrt(-2.0 * ops.log(1.0 - u[:, :size]))
        noise = radius * ops.cos(2 * math.pi * u[:, size : 2 * size])
        return {
            "is_noisy": u[:, -1] < self.probability,
            "noise": ops.reshape(noise, (-1, *shape[1:])),
        }

    def transform(self, images, is_noisy, noise):
        """Adds `noise`, (B, H, W, C) standard normal, where told to."""
        noisy = ops.clip(images + self.stddev * noise, 0.0, 1.0)
        return ops.where(per_image(is_noisy), noisy, images)

    def get_config(self):
        return {
            **super().get_config(),
            "stddev": self.stddev,
            "probability": self.probability,
        }
