"""Random resized crop."""

import keras
from keras import ops

from simclr_keras.augmentation import functional
from simclr_keras.augmentation.center_crop_and_resize import CenterCropAndResize
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    standardize_range,
)

# At this size and below the reference evaluates whole images.
_SMALL_IMAGE = 32
# Steps of the aspect ratio in which the area of what fits is tabulated.
_ASPECT_RATIO_STEPS = 256
# How many random numbers a box is made of.
_NUM_NUMBERS = 4


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomResizedCrop(RandomImageLayer):
    """Cuts a random box out of each image and resizes it.

    The box's share of the area and its aspect ratio are uniform among those
    that fit into the image, its place uniform among the places it has. The
    reference implementation draws up to 100 times until a box fits; here the
    distribution of those that fit is inverted, so that two numbers do, for
    images of any shape. Where none fits, the whole image is taken.

    Args:
        height, width: Positive integers: the size of the result, in pixels.
        area_range: Pair of numbers in (0, 1]: smallest and largest share of
            the image's area. Defaults to (0.08, 1.0).
        aspect_ratio_range: Pair of positive numbers: the box's width to height,
            relative to that of the result. Defaults to (3/4, 4/3).
        interpolation: `"bicubic"`, `"bilinear"` or `"nearest"`, without
            antialiasing, as in the reference. Defaults to `"bicubic"`, whose
            overshoot is clipped.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`. Unless `training`, the
            images pass unchanged, whatever their size;
            `CenterCropAndResize` is the evaluation preprocessing.

    Returns:
        float32 tensor (B, height, width, C) or (height, width, C).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> crop = simclr_keras.augmentation.RandomResizedCrop(24, 24, seed=1)
        >>> tuple(crop(keras.random.uniform((8, 32, 48, 3)) * 255).shape)
        (8, 24, 24, 3)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Appendix A:
          "random size (uniform from 0.08 to 1.0 in area) and a random aspect
          ratio". The operator of the published code,
          `tf.image.sample_distorted_bounding_box`, is uniform in the box's
          height instead, which gives smaller crops: the median area of a
          square image is 0.40 there and 0.48 here.
    """

    jit_compile = True

    def __init__(
        self,
        height,
        width,
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
        interpolation="bicubic",
        value_range=(0, 255),
        seed=None,
        **kwargs,
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.height, self.width = functional.standardize_size((height, width))
        self.area_range = standardize_range("area_range", area_range, 0, 1)
        self.aspect_ratio_range = standardize_range(
            "aspect_ratio_range", aspect_ratio_range, 0
        )
        for name in ("area_range", "aspect_ratio_range"):
            if getattr(self, name)[0] == 0:
                raise ValueError(
                    f"`{name}` must hold positive numbers. Received: "
                    f"{name}={getattr(self, name)!r}."
                )
        functional.check_interpolation(interpolation)
        self.interpolation = interpolation

    def parameters(self, shape, uniform):
        return self.boxes(uniform(_NUM_NUMBERS), *shape[1:3])

    def boxes(self, numbers, rows, columns):
        """The boxes that random numbers stand for, one an image.

        Args:
            numbers: Float tensor (B, 4) in [0, 1), as `numbers` gives it.
            rows: Integer, or a tensor () or (B,): the height of the images, or
                of each of them, in pixels.
            columns: Their width, like `rows`.

        Returns:
            Dictionary of `"top"`, `"left"`, `"height"` and `"width"`, float32
            tensors (B,) of whole pixels.
        """
        u = numbers  # (B, 4)
        rows, columns = (ops.cast(side, "float32") for side in (rows, columns))
        aspect_ratio, area, fits = self._draw_shape(
            u[:, 0], u[:, 1], rows, columns
        )
        area = area * rows * columns  # in pixels
        height = ops.clip(ops.round(ops.sqrt(area / aspect_ratio)), 1, rows)
        width = ops.clip(ops.round(ops.sqrt(area * aspect_ratio)), 1, columns)
        height = ops.where(fits, height, rows)
        width = ops.where(fits, width, columns)
        return {
            "top": ops.floor(u[:, 2] * (rows - height + 1)),
            "left": ops.floor(u[:, 3] * (columns - width + 1)),
            "height": height,
            "width": width,
        }

    def numbers(self, index, key):
        """The random numbers of each image: float32 tensor (B, 4)."""
        return self.uniform(_NUM_NUMBERS, index, key)

    def _draw_shape(self, u_aspect_ratio, u_area, rows, columns):
        """Aspect ratio and area, uniform among those that fit."""
        smallest, largest = self.area_range
        low, high = (
            ratio * self.width / self.height
            for ratio in self.aspect_ratio_range
        )
        step = (high - low) / _ASPECT_RATIO_STEPS

        def largest_fitting(ratio, rows, columns):
            # A box fits if its sides do once they are rounded.
            by_height = (rows + 0.5) ** 2 * ratio / (rows * columns)
            by_width = (columns + 0.5) ** 2 / (ratio * rows * columns)
            return ops.minimum(ops.minimum(by_height, by_width), largest)

        # How much area there is to choose from at each aspect ratio is, up to
        # a factor, the density of the aspect ratio.
        steps = ops.arange(_ASPECT_RATIO_STEPS, dtype="float32")
        ratios = low + step * (steps + 0.5)  # (A,), the middles
        # A row for each image, or one for all if they are of one size.
        sides = (ops.reshape(side, (-1, 1)) for side in (rows, columns))
        room = largest_fitting(ratios, *sides) - smallest  # (B or 1, A)
        # A range of a single area has no room but is a choice all the same.
        room = functional.where(room >= 0, room + 1e-6, 0.0)
        cumulative = ops.cumsum(room, axis=1)  # (B or 1, A)
        fits = cumulative[:, -1] > 0
        target = u_aspect_ratio * cumulative[:, -1]  # (B,)
        below = ops.cast(cumulative <= target[:, None], "float32")  # (B, A)
        cell = ops.minimum(ops.sum(below, axis=1), _ASPECT_RATIO_STEPS - 1)
        is_cell = steps[None, :] == cell[:, None]  # (B, A)

        def in_cell(table):
            return ops.sum(functional.where(is_cell, table, 0.0), axis=1)

        room_there = in_cell(room)
        within = 1 - (in_cell(cumulative) - target) / functional.where(
            room_there > 0, room_there, 1.0
        )
        ratio = low + step * (cell + ops.clip(within, 0, 1))
        room_there = ops.maximum(
            largest_fitting(ratio, rows, columns) - smallest, 0.0
        )
        return ratio, smallest + u_area * room_there, fits

    def transform_planes(self, planes, top, left, height, width):
        """Cuts out the boxes, (B,) each in pixels, and resizes them."""
        planes = functional.resize_planes(
            planes,
            top,
            left,
            height,
            width,
            (self.height, self.width),
            self.interpolation,
        )
        return ops.clip(planes, 0.0, 1.0)

    def leading_crop(self):
        # A subclass that draws or cuts otherwise is not this crop.
        is_changed = any(
            getattr(type(self), name) is not getattr(RandomResizedCrop, name)
            for name in ("draw", "parameters", "transform", "transform_planes")
        )
        return None if is_changed else self

    def apply_after_crop(self, images, index=None, key=None):
        return ops.cast(images, self.compute_dtype)

    def evaluation(self, value_range=None, size=None):
        """The layer that prepares images for evaluation as these are trained.

        The middle of the image, 0.875 of its side and of the aspect ratio of
        `size`, resized to that. For 32 pixels or less it is the whole side, as
        in the reference. Images of that size are left as they are.

        Args:
            value_range: Pair (low, high). None is the layer's own.
            size: Positive integer or pair (height, width). None is the views'.

        Returns:
            A `CenterCropAndResize`.
        """
        size = (self.height, self.width) if size is None else size
        size = functional.standardize_size(size)
        return CenterCropAndResize(
            *size,
            crop_proportion=1.0 if max(size) <= _SMALL_IMAGE else 0.875,
            interpolation=self.interpolation,
            only_other_sizes=True,
            value_range=self.value_range
            if value_range is None
            else value_range,
        )

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-3], self.height, self.width, input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "height": self.height,
            "width": self.width,
            "area_range": self.area_range,
            "aspect_ratio_range": self.aspect_ratio_range,
            "interpolation": self.interpolation,
        }
