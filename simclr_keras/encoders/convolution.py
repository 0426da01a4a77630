"""Convolution with the settings that every encoder block shares."""

import keras


def conv2d(filters, kernel_size, strides=1, **kwargs):
    """Returns a `Conv2D` without bias, initialised as in the reference.

    Args:
        filters: Positive integer, number of output channels.
        kernel_size: Positive odd integer.
        strides: Positive integer. With 1 the padding is "same". With more it
            is "valid", and the caller first pads `(kernel_size - 1) // 2` on
            every side: "same" would pad an even-sized image on one side only.
        **kwargs: Further arguments of `keras.layers.Conv2D`.
    """
    config = {
        "padding": "same" if strides == 1 else "valid",
        "use_bias": False,
        # A new object for every layer: an initializer returns the same values
        # whenever it is called with the same shape.
        "kernel_initializer": keras.initializers.VarianceScaling(
            scale=1.0, mode="fan_in", distribution="truncated_normal"
        ),
        "data_format": "channels_last",
    }
    return keras.layers.Conv2D(
        filters, kernel_size, strides=strides, **{**config, **kwargs}
    )
