"""Random Sobel filter."""

import keras
from keras import ops

from simclr_keras.augmentation.functional import per_image
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    check_probability,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomSobel(RandomImageLayer):
    """Replaces an image by the strength of its edges.

    Each channel becomes the length of its gradient, by Sobel's 3x3 filters
    with the border reflected, clipped to the value range.

    Args:
        probability: Float in [0, 1]. Defaults to 1.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`; at least 2x2 pixels.

    Returns:
        float32 tensor of the images' shape.

    Raises:
        ValueError: If `probability` lies outside [0, 1].

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> sobel = simclr_keras.augmentation.RandomSobel(seed=1)
        >>> views = sobel(keras.random.uniform((8, 32, 32, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Figures 4
          and 5, which do not say how often it is applied.
    """

    jit_compile = True

    def __init__(
        self, probability=1.0, value_range=(0, 255), seed=None, **kwargs
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.probability = check_probability("probability", probability)

    def parameters(self, shape, uniform):
        u = uniform(1)[:, 0]
        return {"is_filtered": u < self.probability}

    def transform(self, images, is_filtered):
        """Filters the images where the bool tensor (B,) says so."""
        if 1 in images.shape[1:3]:
            raise ValueError(
                "RandomSobel needs images of at least 2x2 pixels, whose border "
                "it reflects. Received: images.shape="
                f"{tuple(images.shape)}."
            )
        padded = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")

        def smooth(x, axis):  # 1 2 1
            before, middle, after = _three_shifts(x, axis)
            return before + 2.0 * middle + after

        def difference(x, axis):  # -1 0 1
            before, _, after = _three_shifts(x, axis)
            return after - before

        vertical = difference(smooth(padded, 2), 1)
        horizontal = difference(smooth(padded, 1), 2)
        edges = ops.sqrt(vertical**2 + horizontal**2)
        edges = ops.clip(edges, 0.0, 1.0)
        return ops.where(per_image(is_filtered), edges, images)

    def get_config(self):
        return {**super().get_config(), "probability": self.probability}


def _three_shifts(x, axis):
    if axis == 1:
        return x[:, :-2], x[:, 1:-1], x[:, 2:]
    return x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]
