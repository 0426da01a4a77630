"""Random Gaussian blur."""

import keras
from keras import ops

from simclr_keras.augmentation import functional
from simclr_keras.augmentation.functional import per_image
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    check_probability,
    standardize_range,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomGaussianBlur(RandomImageLayer):
    """Blurs an image, with a probability and a width of its own.

    Args:
        sigma_range: Pair of positive numbers: the standard deviation is drawn
            uniformly between them, in pixels. Defaults to (0.1, 2.0).
        kernel_size: Positive integer: taps of the kernel along a side; an even
            number counts as the odd one above it. None takes a tenth of the
            image's height: 23 taps at 224 pixels, 3 at 32, and no blur below
            20. Defaults to None.
        probability: Float in [0, 1]. Defaults to 0.5.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`.

    Returns:
        float32 tensor of the images' shape. Beyond the border there are zeros,
        as in the reference.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> blur = simclr_keras.augmentation.RandomGaussianBlur(seed=1)
        >>> views = blur(keras.random.uniform((8, 64, 64, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Appendix A.
          Google's code shares one sigma among a batch's first views and one
          among its second; the paper's text, and this layer, draw for each
          image.
    """

    jit_compile = True

    def __init__(
        self,
        sigma_range=(0.1, 2.0),
        kernel_size=None,
        probability=0.5,
        value_range=(0, 255),
        seed=None,
        **kwargs,
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.sigma_range = standardize_range("sigma_range", sigma_range, 0)
        if self.sigma_range[0] == 0:
            raise ValueError(
                "`sigma_range` must hold positive numbers. Received: "
                f"sigma_range={sigma_range!r}."
            )
        if kernel_size is not None:
            functional.check_kernel_size(kernel_size)
        self.kernel_size = kernel_size
        self.probability = check_probability("probability", probability)

    def parameters(self, shape, uniform):
        u = uniform(2)
        low, high = self.sigma_range
        return {
            "is_blurred": u[:, 0] < self.probability,
            "sigma": low + u[:, 1] * (high - low),
        }

    def transform_planes(self, planes, is_blurred, sigma):
        """Blurs where the bool (B,) says so, by sigma (B,) pixels."""
        kernel_size = self.kernel_size or ops.shape(planes)[1] // 10
        blurred = functional.blur_planes(planes, sigma, kernel_size)
        # A normalised kernel overshoots by a rounding at most.
        blurred = ops.clip(blurred, 0.0, 1.0)
        return ops.where(per_image(is_blurred), blurred, planes)

    def get_config(self):
        return {
            **super().get_config(),
            "sigma_range": self.sigma_range,
            "kernel_size": self.kernel_size,
            "probability": self.probability,
        }
