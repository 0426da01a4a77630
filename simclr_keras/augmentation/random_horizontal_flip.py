"""Random horizontal flip."""

import keras
from keras import ops

from simclr_keras.augmentation.functional import per_image
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    check_probability,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomHorizontalFlip(RandomImageLayer):
    """Mirrors an image left to right, with a probability.

    It stands beside `keras.layers.RandomFlip` because that one's draws depend
    on the batch and are the same in every replica.

    Args:
        probability: Float in [0, 1]. Defaults to 0.5.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`.

    Returns:
        float32 tensor of the images' shape.

    Raises:
        ValueError: If `probability` lies outside [0, 1].

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> flip = simclr_keras.augmentation.RandomHorizontalFlip(seed=1)
        >>> views = flip(keras.random.uniform((8, 32, 32, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Appendix A.
    """

    jit_compile = True

    def __init__(
        self, probability=0.5, value_range=(0, 255), seed=None, **kwargs
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.probability = check_probability("probability", probability)

    def parameters(self, shape, uniform):
        u = uniform(1)[:, 0]
        return {"is_flipped": u < self.probability}

    def transform_planes(self, planes, is_flipped):
        """Mirrors the images where the bool tensor (B,) says so."""
        return ops.where(
            per_image(is_flipped), ops.flip(planes, axis=-1), planes
        )

    def get_config(self):
        return {**super().get_config(), "probability": self.probability}
