"""The evaluation preprocessing."""

import keras
from keras import ops

from simclr_keras.argument_checks import check_boolean
from simclr_keras.augmentation import functional
from simclr_keras.augmentation.contract import Augmentation
from simclr_keras.augmentation.images import check_images
from simclr_keras.value_range import standardize_value_range


@keras.saving.register_keras_serializable(package="simclr_keras")
class CenterCropAndResize(Augmentation, keras.layers.Layer):
    """Cuts the middle out of each image and resizes it, for evaluation.

    Args:
        height, width: Positive integers: the size of the result, in pixels.
        crop_proportion: Float in (0, 1]: side of the box to side of the image.
            Defaults to 0.875.
        interpolation: As in `RandomResizedCrop`. Defaults to `"bicubic"`.
        only_other_sizes: Whether images of (`height`, `width`) are left as
            they are. Defaults to False.
        value_range: Pair of numbers (low, high): the range of the images,
            into which the result is clipped. Defaults to (0, 255).
        **kwargs: Of `keras.layers.Layer`; the `dtype` defaults to float32.

    Call arguments:
        images: Tensor (B, H, W, C) or (H, W, C), integer or float.

    Returns:
        float32 tensor (B, height, width, C) or (height, width, C).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> crop = simclr_keras.augmentation.CenterCropAndResize(224, 224)
        >>> tuple(crop(keras.ops.ones((2, 256, 320, 3))).shape)
        (2, 224, 224, 3)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 4.2
          and the published code's evaluation.
    """

    jit_compile = True

    def __init__(
        self,
        height,
        width,
        crop_proportion=0.875,
        interpolation="bicubic",
        only_other_sizes=False,
        value_range=(0, 255),
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        self.height, self.width = functional.standardize_size((height, width))
        functional.check_interpolation(interpolation)
        check_boolean("only_other_sizes", only_other_sizes)
        self.crop_proportion = functional.check_crop_proportion(crop_proportion)
        self.interpolation = interpolation
        self.only_other_sizes = only_other_sizes
        self.value_range = standardize_value_range(value_range)
        self.built = True

    def __call__(self, images, *args, **kwargs):
        # Before Keras converts them, whose errors would not say of what.
        check_images(images, type(self).__name__)
        return super().__call__(images, *args, **kwargs)

    def call(self, images):
        images = ops.cast(images, functional.arithmetic_dtype(self))
        unbatched = len(images.shape) == 3
        if not unbatched and len(images.shape) != 4:
            raise ValueError(
                "CenterCropAndResize takes images (B, H, W, C) or one image "
                f"(H, W, C). Received: images.shape={tuple(images.shape)}."
            )
        images = images[None] if unbatched else images
        size, known = (self.height, self.width), tuple(images.shape[1:3])
        if not self.only_other_sizes:
            images = self._crop_and_resize(images)
        elif None in known and not keras.backend.is_keras_tensor(images):
            # As in a dataset of images of any size, and in what is exported.
            images = ops.cond(
                ops.all(ops.equal(ops.stack(ops.shape(images)[1:3]), size)),
                lambda: ops.reshape(images, (-1, *size, images.shape[-1])),
                lambda: self._crop_and_resize(images),
            )
        elif known != size:
            images = self._crop_and_resize(images)
        images = ops.cast(images, self.compute_dtype)
        return images[0] if unbatched else images

    def _crop_and_resize(self, images):
        images = functional.center_crop_and_resize(
            images,
            (self.height, self.width),
            self.crop_proportion,
            self.interpolation,
        )
        return ops.clip(images, *self.value_range)

    def next_key(self):
        return None

    def key(self, number, seed=None):
        return None

    def apply(self, images, index=None, key=None):
        return self(images)

    def evaluation(self):
        return self

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-3], self.height, self.width, input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "height": self.height,
            "width": self.width,
            "crop_proportion": self.crop_proportion,
            "interpolation": self.interpolation,
            "only_other_sizes": self.only_other_sizes,
            "value_range": self.value_range,
        }
