"""Random rotation by quarter turns."""

import keras
from keras import ops

from simclr_keras.augmentation.functional import per_image
from simclr_keras.augmentation.random_image_layer import RandomImageLayer


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomRotation(RandomImageLayer):
    """Rotates an image by 0, 90, 180 or 270 degrees, each as likely.

    Args:
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`; square.

    Returns:
        float32 tensor of the images' shape.

    Raises:
        ValueError: If the images are not square.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> rotation = simclr_keras.augmentation.RandomRotation(seed=1)
        >>> views = rotation(keras.random.uniform((8, 32, 32, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Figures 4
          and 5.
    """

    jit_compile = True

    def parameters(self, shape, uniform):
        u = uniform(1)[:, 0]
        return {"quarter_turns": ops.cast(ops.floor(4.0 * u), "int32")}

    def transform(self, images, quarter_turns):
        """Rotates counter-clockwise by the quarter turns (B,), 0 to 3."""
        rows, columns = images.shape[1:3]
        if rows != columns:
            raise ValueError(
                "RandomRotation needs square images. Received: images.shape="
                f"{tuple(images.shape)}. Crop them first, for instance with "
                "RandomResizedCrop."
            )
        # A quarter turn transposes and mirrors; a half turn mirrors twice.
        turns = per_image(quarter_turns)
        # Axis by axis: on TensorFlow, Keras 3.12 takes one.
        half = ops.flip(ops.flip(images, axis=1), axis=2)
        quarter = ops.transpose(images, (0, 2, 1, 3))
        images = ops.where(turns == 2, half, images)
        images = ops.where(turns == 1, ops.flip(quarter, axis=1), images)
        return ops.where(turns == 3, ops.flip(quarter, axis=2), images)
