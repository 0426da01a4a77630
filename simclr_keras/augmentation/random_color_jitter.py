"""Random brightness, contrast, saturation and hue, in a random order."""

import keras
from keras import ops

from simclr_keras.argument_checks import check_boolean, check_number
from simclr_keras.augmentation import functional
from simclr_keras.augmentation.functional import per_image
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    check_probability,
)

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@keras.saving.register_keras_serializable(package="simclr_keras")
class RandomColorJitter(RandomImageLayer):
    """Changes brightness, contrast, saturation and hue of an image.

    With `probability`, the four are applied one after the other, in an order
    drawn for each image, each followed by a clip. A strength of 0 leaves its
    operation out.

    Args:
        brightness: Number b >= 0: the image is multiplied by
            U(max(0, 1 - b), 1 + b). Defaults to 0.8.
        contrast: Number c >= 0: distances from the channel's mean are
            multiplied by U(max(0, 1 - c), 1 + c). Defaults to 0.8.
        saturation: Number s >= 0: the saturation of HSV is multiplied by
            U(max(0, 1 - s), 1 + s). Defaults to 0.8.
        hue: Number h in [0, 0.5]: the hue is turned by U(-h, h), in turns of
            the colour circle. Defaults to 0.2.
        probability: Float in [0, 1]: how often an image is changed at all.
            Defaults to 0.8.
        additive_brightness: If True, U(-b, b) is added, in units of the value
            range, as in the first version of the reference code. Defaults to
            False.
        value_range, seed, **kwargs: See `RandomImageLayer`.

    Call arguments:
        images, training, index: See `RandomImageLayer`. Three channels, unless
            `saturation` and `hue` are 0.

    Returns:
        float32 tensor of the images' shape.

    Raises:
        ValueError: If a strength or the probability is out of its range, or if
            the images have other than three channels and `saturation` or `hue`
            is not 0.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> jitter = simclr_keras.augmentation.RandomColorJitter(
        ...     0.4, 0.4, 0.4, 0.1, seed=1
        ... )
        >>> views = jitter(keras.random.uniform((8, 32, 32, 3)) * 255)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Appendix A:
          strengths 0.8 s, 0.8 s, 0.8 s and 0.2 s, s = 1 for ImageNet, 0.5 for
          CIFAR-10. Multiplied brightness is of the SimCLRv2 code.
    """

    jit_compile = True

    def __init__(
        self,
        brightness=0.8,
        contrast=0.8,
        saturation=0.8,
        hue=0.2,
        probability=0.8,
        additive_brightness=False,
        value_range=(0, 255),
        seed=None,
        **kwargs,
    ):
        super().__init__(value_range=value_range, seed=seed, **kwargs)
        self.brightness, self.contrast, self.saturation = (
            check_number(name, value, "be a number >= 0", lambda x: x >= 0)
            for name, value in (
                ("brightness", brightness),
                ("contrast", contrast),
                ("saturation", saturation),
            )
        )
        self.hue = check_number(
            "hue",
            hue,
            "lie in [0, 0.5], in turns of the colour circle",
            lambda x: 0 <= x <= 0.5,
        )
        check_boolean("additive_brightness", additive_brightness)
        self.probability = check_probability("probability", probability)
        self.additive_brightness = additive_brightness

    def parameters(self, shape, uniform):
        u = uniform(9)  # (B, 9)
        applied = u[:, 8] < self.probability

        def scale(column, strength):
            low, high = max(0.0, 1.0 - strength), 1.0 + strength
            drawn = low + u[:, column] * (high - low)
            return functional.where(applied, drawn, 1.0)

        def shift(column, strength):
            drawn = (2.0 * u[:, column] - 1.0) * strength
            return functional.where(applied, drawn, 0.0)

        brightness = shift if self.additive_brightness else scale
        return {
            "brightness": brightness(0, self.brightness),
            "contrast": scale(1, self.contrast),
            "saturation": scale(2, self.saturation),
            "hue": shift(3, self.hue),
            # Sorting four random numbers makes every order as likely.
            "order": ops.cast(ops.argsort(u[:, 4:8], axis=1), "int32"),
        }

    def transform_planes(
        self, planes, brightness, contrast, saturation, hue, order
    ):
        """Applies the four operations of each image in its order.

        Args:
            planes: Float tensor (B, H, C, W) in [0, 1].
            brightness: Float tensor (B,), factors (or numbers to add).
            contrast: Float tensor (B,), factors.
            saturation: Float tensor (B,), factors.
            hue: Float tensor (B,), turns.
            order: int32 tensor (B, 4): which operation comes first, second,
                third and last; 0 brightness, 1 contrast, 2 saturation, 3 hue.

        Returns:
            Float tensor (B, H, C, W) in [0, 1].
        """
        if self.saturation or self.hue:
            functional.check_three_channels(
                planes.shape[2], type(self).__name__
            )

        def affine_round(planes, operation):
            # Brightness, contrast and saturation all scale about some point,
            # x -> point + (x - point) scale, so that one round serves three
            # kinds of images: (B,) `operation` says which, _HUE is none.
            def pick(kind, value, otherwise):
                mask = per_image(operation == kind)
                return ops.where(mask, value, otherwise)

            mean = ops.mean(planes, axis=(1, 3), keepdims=True)
            point = pick(_CONTRAST, mean, 0.0)
            scale = pick(_CONTRAST, per_image(contrast), 1.0)
            if not self.additive_brightness:
                scale = pick(_BRIGHTNESS, per_image(brightness), scale)
            if self.saturation:
                value = ops.max(planes, axis=2, keepdims=True)
                chroma = value - ops.min(planes, axis=2, keepdims=True)
                point = pick(_SATURATION, value, point)
                stretched = functional.saturation_scale(
                    value, chroma, per_image(saturation)
                )
                scale = pick(_SATURATION, stretched, scale)
            planes = point + (planes - point) * scale
            if self.additive_brightness:
                planes = planes + pick(_BRIGHTNESS, per_image(brightness), 0.0)
            return ops.clip(planes, 0.0, 1.0)

        def affine_rounds(planes, operations):
            # A loop, so that XLA finishes a round before it starts the next;
            # it would rather compute all of them again for every use.
            return ops.fori_loop(
                0,
                operations.shape[1],
                lambda k, x: affine_round(x, ops.take(operations, k, axis=1)),
                planes,
            )

        if not self.hue:
            return affine_rounds(planes, order)
        # Hue is expensive. It comes once, for all images, between the
        # operations that come before it and those that come after.
        place = ops.arange(4, dtype="int32")[None, :]
        place_of_hue = ops.argmax(ops.cast(order == _HUE, "int32"), axis=1)
        place_of_hue = ops.cast(place_of_hue, "int32")[:, None]
        before = ops.where(place < place_of_hue, order, _HUE)[:, :3]
        after = ops.where(place > place_of_hue, order, _HUE)[:, 1:]
        planes = affine_rounds(planes, before)
        planes = functional.turn_hue(planes, per_image(hue), axis=2)
        return affine_rounds(ops.clip(planes, 0.0, 1.0), after)

    def get_config(self):
        return {
            **super().get_config(),
            "brightness": self.brightness,
            "contrast": self.contrast,
            "saturation": self.saturation,
            "hue": self.hue,
            "probability": self.probability,
            "additive_brightness": self.additive_brightness,
        }
