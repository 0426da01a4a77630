"""Scaling of images in [0, 1] to what a backbone takes."""

import typing

from keras import ops


class Scaling(typing.NamedTuple):
    """x -> (x - mean) / deviation, channel by channel.

    Attributes:
        mean, deviation: Tuples of one number for all channels, or of one
            number per channel, for images in [0, 1].
        reverse: Boolean, whether to reverse the channels first, RGB to BGR.
    """

    mean: tuple
    deviation: tuple
    reverse: bool = False

    @classmethod
    def of(cls, input_scaling):
        """The scaling that `BackboneEncoder`'s argument stands for.

        Args:
            input_scaling: As in `BackboneEncoder`.

        Returns:
            A `Scaling`.

        Raises:
            ValueError: If the argument has none of the documented forms.
        """
        wanted = input_scaling
        if isinstance(wanted, str) and wanted in _NAMED:
            return _NAMED[wanted]
        if isinstance(wanted, (list, tuple)):
            pair = _numbers(wanted)
            if len(pair) == 2 and pair[0] < pair[1]:
                size = pair[1] - pair[0]
                return cls((-pair[0] / size,), (1 / size,))
        if isinstance(wanted, dict) and set(wanted) == {"mean", "deviation"}:
            scaling = cls(**{k: _numbers(v) for k, v in wanted.items()})
            if scaling.mean and min(scaling.deviation, default=0) > 0:
                return scaling
        raise ValueError(
            "`input_scaling` must be a pair (low, high) with low < high, a "
            'dictionary {"mean": ..., "deviation": ...} with deviations above '
            f"0, or one of {tuple(_NAMED)}. Received: "
            f"input_scaling={input_scaling!r}."
        )

    def __call__(self, images):
        """Scales images (B, H, W, C) in [0, 1]."""
        channels = images.shape[-1]
        for numbers in (self.mean, self.deviation):
            if channels is not None and len(numbers) not in (1, channels):
                raise ValueError(
                    "`input_scaling` must hold one number per channel. "
                    f"Received: {numbers} for images of {channels} channels."
                )
        if self.reverse:
            images = ops.flip(images, axis=-1)
        mean = ops.convert_to_tensor(self.mean, images.dtype)
        deviation = ops.convert_to_tensor(self.deviation, images.dtype)
        return (images - mean) / deviation


# The constants of `keras.applications.imagenet_utils.preprocess_input`.
_NAMED = {
    "tf": Scaling((0.5,), (0.5,)),
    "torch": Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Scaling(
        (103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,), reverse=True
    ),
}


def _numbers(values):
    """One number or several as a tuple of floats; () if they are neither."""
    values = values if hasattr(values, "__len__") else [values]
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return ()
