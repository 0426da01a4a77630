"""Random cutout."""

import keras
from keras import ops

from simclr_keras.argument_checks import check_number
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    check_probability,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomCutout(RandomImageLayer):
    """Covers a square of each image.

    The centre is uniform over the pixels, so that part of the square can lie
    beyond the border.

    Args:
        size: Float in (0, 1]: side of the square to the image's shorter side.
            Defaults to 0.5.
        fill: Number in [0, 1]: what the square holds, as a place in the value
            range. Defaults to 0.
        probability: Float in [0, 1]. Defaults to 1.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`.

    Returns:
        float32 tensor of the images' shape.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> cutout = simclr_keras.augmentation.RandomCutout(seed=1)
        >>> views = cutout(keras.random.uniform((8, 32, 32, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Figures 4
          and 5, which name the operator and not its size; half the side is
          CIFAR-10's in
          [DeVries and Taylor, 2017](https://arxiv.org/abs/1708.04552).
    """

    jit_compile = True

    def __init__(
        self,
        size=0.5,
        fill=0.0,
        probability=1.0,
        value_range=(0, 255),
        seed=None,
        **kwargs,
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.size = check_number(
            "size", size, "lie in (0, 1]", lambda x: 0 < x <= 1
        )
        self.fill = check_number(
            "fill", fill, "lie in [0, 1]", lambda x: 0 <= x <= 1
        )
        self.probability = check_probability("probability", probability)

    def parameters(self, shape, uniform):
        u = uniform(3)
        rows, columns = (ops.cast(side, "float32") for side in shape[1:3])
        return {
            "is_cut": u[:, 0] < self.probability,
            "center_row": ops.floor(u[:, 1] * rows),
            "center_column": ops.floor(u[:, 2] * columns),
        }

    def transform(self, images, is_cut, center_row, center_column):
        """Covers a square around each centre (B,), in pixels."""
        _, rows, columns, _ = ops.shape(images)
        side = ops.round(
            self.size * ops.cast(ops.minimum(rows, columns), "float32")
        )

        def covered(count, center):  # -> (B, count)
            start = ops.reshape(center, (-1, 1)) - ops.floor(side / 2)
            pixel = ops.arange(count, dtype="float32")[None, :]
            return (pixel >= start) & (pixel < start + side)

        mask = (
            covered(rows, center_row)[:, :, None]
            & covered(columns, center_column)[:, None, :]
            & is_cut[:, None, None]
        )
        return ops.where(mask[..., None], self.fill, images)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "fill": self.fill,
            "probability": self.probability,
        }
