"""The augmentation of SimCLR: the paper's operators in the paper's order."""

import keras
from keras import ops

from simclr_keras import distribution
from simclr_keras.argument_checks import check_boolean, check_number
from simclr_keras.augmentation import functional
from simclr_keras.augmentation.random_color_jitter import RandomColorJitter
from simclr_keras.augmentation.random_gaussian_blur import RandomGaussianBlur
from simclr_keras.augmentation.random_grayscale import RandomGrayscale
from simclr_keras.augmentation.random_horizontal_flip import (
    RandomHorizontalFlip,
)
from simclr_keras.augmentation.random_image_layer import RandomImageLayer
from simclr_keras.augmentation.random_resized_crop import RandomResizedCrop


@keras.saving.register_keras_serializable(package="simclr_keras")
class SimCLRAugmentation(RandomImageLayer):
    """Crop and resize, flip, colour jitter, grayscale, blur: one view.

    Calling it twice on the same images gives two views of each, a positive
    pair. Images with other than three channels get brightness and contrast but
    neither saturation, hue nor grayscale, which need colour.

    Args:
        height, width: Positive integers: the size of the views, in pixels.
        strength: Number s >= 0 of the colour jitter: brightness, contrast and
            saturation 0.8 s, hue 0.2 s; 0 is no jitter. Defaults to 1 (the
            paper's for ImageNet; 0.5 for CIFAR-10).
        blur: Whether to blur. Defaults to True (the paper's for ImageNet;
            False for CIFAR-10).
        flip: Whether to flip left to right; leave it out where left and right
            mean something, as in digits. Defaults to True.
        area_range: Of `RandomResizedCrop`. Defaults to (0.08, 1.0).
        aspect_ratio_range: Of `RandomResizedCrop`. Defaults to (3/4, 4/3).
        interpolation: Of `RandomResizedCrop`. Defaults to `"bicubic"`.
        jitter_probability: Float in [0, 1]. Defaults to 0.8.
        grayscale_probability: Float in [0, 1]. Defaults to 0.2.
        blur_probability: Float in [0, 1]. Defaults to 0.5.
        evaluation_size: Positive integer or pair (height, width): the size of
            the images that `evaluation()` makes, for an encoder that takes
            any. Random crops show things larger than they are in a whole
            image, so that more than the views' size makes up for it
            ([Touvron et al., 2019](https://arxiv.org/abs/1906.06423)).
            Defaults to None, the views' size.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`.

    Returns:
        float32 tensor (B, height, width, C) or (height, width, C), in
        `value_range`. Unless `training`, the images as they are; see
        `evaluation()`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> augmentation = simclr_keras.SimCLRAugmentation(
        ...     32, 32, strength=0.5, blur=False, seed=1
        ... )
        >>> images = keras.random.uniform((8, 32, 32, 3)) * 255
        >>> view_1, view_2 = augmentation(images), augmentation(images)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 3 and
          Appendix A; Appendix B.9 for CIFAR-10.
    """

    jit_compile = True

    def __init__(
        self,
        height,
        width,
        strength=1.0,
        blur=True,
        flip=True,
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
        interpolation="bicubic",
        jitter_probability=0.8,
        grayscale_probability=0.2,
        blur_probability=0.5,
        evaluation_size=None,
        value_range=(0, 255),
        seed=None,
        **kwargs,
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        strength = check_number(
            "strength", strength, "be a number >= 0", lambda x: x >= 0
        )
        check_boolean("blur", blur)
        check_boolean("flip", flip)
        self.strength = strength
        self.blur = blur
        self.flip = flip
        self.area_range = area_range
        self.aspect_ratio_range = aspect_ratio_range
        self.interpolation = interpolation
        self.jitter_probability = jitter_probability
        self.grayscale_probability = grayscale_probability
        self.blur_probability = blur_probability
        if evaluation_size is not None:
            evaluation_size = functional.standardize_size(
                evaluation_size, "evaluation_size"
            )
        self.evaluation_size = evaluation_size
        # Each works in [0, 1] and draws with this layer's key.
        options = {"value_range": (0, 1), "seed": seed}
        self.crop = RandomResizedCrop(
            height,
            width,
            area_range=area_range,
            aspect_ratio_range=aspect_ratio_range,
            interpolation=interpolation,
            name="crop",
            **options,
        )
        self.height, self.width = self.crop.height, self.crop.width
        self.horizontal_flip = RandomHorizontalFlip(
            name="horizontal_flip", **options
        )
        self.color_jitter = RandomColorJitter(
            name="color_jitter",
            brightness=0.8 * strength,
            contrast=0.8 * strength,
            saturation=0.8 * strength,
            hue=min(0.2 * strength, 0.5),  # half a turn is every hue
            probability=jitter_probability,
            **options,
        )
        self.light_jitter = RandomColorJitter(
            name="light_jitter",
            brightness=0.8 * strength,
            contrast=0.8 * strength,
            saturation=0.0,
            hue=0.0,
            probability=jitter_probability,
            **options,
        )
        self.grayscale = RandomGrayscale(
            grayscale_probability, name="grayscale", **options
        )
        self.gaussian_blur = RandomGaussianBlur(
            probability=blur_probability, name="gaussian_blur", **options
        )

    def operators(self, channels):
        """The layers that images with so many channels pass, in order."""
        colored = channels in (3, None)
        layers = [self.crop]
        if self.flip:
            layers.append(self.horizontal_flip)
        if self.strength:
            layers.append(self.color_jitter if colored else self.light_jitter)
        if colored:
            layers.append(self.grayscale)
        if self.blur:
            layers.append(self.gaussian_blur)
        return layers

    def draw(self, shape, index=None, key=None):
        if index is None:
            index = distribution.sample_index(shape[0])
        if key is None:
            key = self.next_key()
        parameters = {}
        for layer in self.operators(shape[3]):
            parameters[layer.name] = layer.draw(shape, index, key)
            shape = layer.compute_output_shape(tuple(shape))
        return parameters

    def transform_planes(self, planes, **parameters):
        """Applies the operators in their order."""
        for layer in self.operators(planes.shape[2]):
            if layer.name in parameters:  # The crop is not, of crops.
                planes = layer.transform_planes(
                    planes, **parameters[layer.name]
                )
        return planes

    def leading_crop(self):
        return self.operators(None)[0].leading_crop()

    def apply_after_crop(self, images, index=None, key=None):
        parameters = self.draw(ops.shape(images), index, key)
        del parameters[self.operators(images.shape[-1])[0].name]
        return self.transform_in_range(images, parameters)

    def evaluation(self):
        """As of the crop, in this `evaluation_size` and `value_range`."""
        return self.crop.evaluation(self.value_range, self.evaluation_size)

    def compute_output_shape(self, input_shape):
        return self.crop.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "height": self.height,
            "width": self.width,
            "strength": self.strength,
            "blur": self.blur,
            "flip": self.flip,
            "area_range": self.area_range,
            "aspect_ratio_range": self.aspect_ratio_range,
            "interpolation": self.interpolation,
            "jitter_probability": self.jitter_probability,
            "grayscale_probability": self.grayscale_probability,
            "blur_probability": self.blur_probability,
            "evaluation_size": self.evaluation_size,
        }
