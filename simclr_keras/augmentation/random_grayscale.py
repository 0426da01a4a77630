"""Random grayscale."""

import keras
from keras import ops

from simclr_keras.augmentation import functional
from simclr_keras.augmentation.functional import per_image
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    check_probability,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomGrayscale(RandomImageLayer):
    """Takes the colour out of an image, with a probability.

    Args:
        probability: Float in [0, 1]. Defaults to 0.2.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`; three channels.

    Returns:
        float32 tensor of the images' shape; the channels of a gray image are
        equal.

    Raises:
        ValueError: If `probability` lies outside [0, 1], or if the images have
            other than three channels.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> grayscale = simclr_keras.augmentation.RandomGrayscale(seed=1)
        >>> views = grayscale(keras.random.uniform((8, 32, 32, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Appendix A.
    """

    jit_compile = True

    def __init__(
        self, probability=0.2, value_range=(0, 255), seed=None, **kwargs
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.probability = check_probability("probability", probability)

    def parameters(self, shape, uniform):
        u = uniform(1)[:, 0]
        return {"is_gray": u < self.probability}

    def transform_planes(self, planes, is_gray):
        """Takes the colour out where the bool tensor (B,) says so."""
        functional.check_three_channels(planes.shape[2], type(self).__name__)
        gray = functional.luma(planes, axis=2)
        return ops.where(per_image(is_gray), gray, planes)

    def get_config(self):
        return {**super().get_config(), "probability": self.probability}
