"""The residual blocks of ResNet, as functions of Keras tensors.

Layers are named `{block}_{role}`, for example `block_group2_block1_conv2` or
`block_group2_block1_shortcut_bn`, so that a variable's path says where it
belongs whatever the order of construction. Files with weights depend on these
names.
"""

import dataclasses
from typing import Any

import keras

from simclr_keras.batch_norm import batch_norm as batch_norm_layer
from simclr_keras.encoders.convolution import conv2d
from simclr_keras.encoders.selective_kernel import SelectiveKernelConv2D
from simclr_keras.encoders.squeeze_excitation import SqueezeExcitation


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """What all blocks of an encoder have in common; see `ResNet`."""

    sk_ratio: float = 0.0
    se_ratio: float = 0.0
    synchronized: bool | None = None
    dtype: Any = None


def basic_block(x, filters, strides, project, options, name):
    """Two 3x3 convolutions around a shortcut (depths 18 and 34).

    Args:
        x: Keras tensor (B, H, W, C).
        filters: Positive integer, channels of both convolutions.
        strides: 1 or 2, of the first convolution.
        project: Boolean, whether the shortcut is a convolution, as it must be
            where the shape changes.
        options: `BlockOptions`; `sk_ratio` affects the shortcut only.
        name: String, prefix of the layers' names.

    Returns:
        Keras tensor (B, ceil(H / strides), ceil(W / strides), filters).

    Reference:
        - [He et al., 2016](https://arxiv.org/abs/1512.03385), Figure 5.
    """
    shortcut = x
    if project:
        shortcut = _projection(x, filters, strides, options, name)
    x = conv_bn(x, filters, 3, strides, options, name, "1")
    x = relu(x, options, f"{name}_relu1")
    x = conv_bn(x, filters, 3, 1, options, name, "2", last=True)
    return _join(x, shortcut, filters, options, name)


def bottleneck_block(x, filters, strides, project, options, name):
    """1x1, 3x3 and 1x1 convolutions around a shortcut (depth 50 and more).

    The stride is the 3x3's ("v1.5"). With `options.sk_ratio` > 0 the 3x3 is a
    selective kernel. The output has `4 * filters` channels; for the rest see
    `basic_block`.
    """
    shortcut = x
    if project:
        shortcut = _projection(x, 4 * filters, strides, options, name)
    x = conv_bn(x, filters, 1, 1, options, name, "1")
    x = relu(x, options, f"{name}_relu1")
    if options.sk_ratio > 0:
        x = SelectiveKernelConv2D(
            filters,
            strides,
            options.sk_ratio,
            synchronized=options.synchronized,
            name=f"{name}_sk",
            dtype=options.dtype,
        )(x)
    else:
        x = conv_bn(x, filters, 3, strides, options, name, "2")
        x = relu(x, options, f"{name}_relu2")
    x = conv_bn(x, 4 * filters, 1, 1, options, name, "3", last=True)
    return _join(x, shortcut, filters, options, name)


# oneDNN, which computes TensorFlow's convolutions on a CPU, writes beyond its
# memory in the gradient of a 1x1 convolution that has strides and fewer input
# channels than this: the process crashes, or weights are wrong (oneDNN issue
# 6035; TensorFlow 2.21).
_ONEDNN_CHANNELS = 16


def conv(x, filters, kernel_size, strides, options, name):
    """Convolution; with strides, padded equally on all sides first."""
    padding = (kernel_size - 1) // 2
    if kernel_size == 1 and strides > 1 and x.shape[-1] < _ONEDNN_CHANNELS:
        # The pixels that it would see, which it then sees one by one.
        x = keras.layers.MaxPooling2D(
            1,
            strides,
            data_format="channels_last",
            name=f"{name}_subsample",
            dtype=options.dtype,
        )(x)
        strides = 1
    if strides > 1 and padding:
        x = keras.layers.ZeroPadding2D(
            padding,
            data_format="channels_last",
            name=f"{name}_pad",
            dtype=options.dtype,
        )(x)
    return conv2d(
        filters, kernel_size, strides, name=name, dtype=options.dtype
    )(x)


def batch_norm(x, options, name, **kwargs):
    """Batch norm over channels."""
    return batch_norm_layer(
        options.synchronized, name=name, dtype=options.dtype, **kwargs
    )(x)


def relu(x, options, name):
    """Rectifier."""
    return keras.layers.ReLU(name=name, dtype=options.dtype)(x)


def conv_bn(
    x, filters, kernel_size, strides, options, name, suffix, last=False
):
    """Convolution `{name}_conv{suffix}`, then batch norm `{name}_bn{suffix}`.

    The `last` batch norm of a branch starts with gamma 0, so that a block
    starts as its shortcut alone.
    """
    gamma = "zeros" if last else "ones"
    x = conv(x, filters, kernel_size, strides, options, f"{name}_conv{suffix}")
    return batch_norm(x, options, f"{name}_bn{suffix}", gamma_initializer=gamma)


def _projection(x, filters, strides, options, name):
    name = f"{name}_shortcut"
    if options.sk_ratio > 0:
        # ResNet-D: a strided 1x1 would skip three pixels out of four, so they
        # are averaged first. An odd-sized image gets a row and column of zeros.
        if strides > 1:
            x = keras.layers.ZeroPadding2D(
                ((0, 1), (0, 1)),
                data_format="channels_last",
                name=f"{name}_pad",
                dtype=options.dtype,
            )(x)
        x = keras.layers.AveragePooling2D(
            2,
            strides,
            padding="same" if strides == 1 else "valid",
            data_format="channels_last",
            name=f"{name}_pool",
            dtype=options.dtype,
        )(x)
        strides = 1
    return conv_bn(x, filters, 1, strides, options, name, "")


def _join(x, shortcut, filters, options, name):
    if options.se_ratio > 0:
        x = SqueezeExcitation(
            # Of the block's filters, before a bottleneck expands them.
            max(1, int(filters * options.se_ratio)),
            name=f"{name}_se",
            dtype=options.dtype,
        )(x)
    x = keras.layers.Add(name=f"{name}_add", dtype=options.dtype)([x, shortcut])
    return relu(x, options, f"{name}_out")
