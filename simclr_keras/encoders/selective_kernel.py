"""Selective kernels: two 3x3 convolutions, mixed by attention."""

import keras
from keras import ops

from simclr_keras.batch_norm import batch_norm
from simclr_keras.encoders.convolution import conv2d


@keras.saving.register_keras_serializable(package="simclr_keras")
class SelectiveKernelConv2D(keras.layers.Layer):
    """Two 3x3 convolutions, mixed channel by channel with attention.

    One 3x3 convolution to `2 * filters` channels, batch norm and ReLU produce
    two streams `u_1`, `u_2`. Their sum, pooled over the image, determines the
    weight of each stream in each channel:

        [l_1, l_2] = W_2 relu(BN(W_1 mean_{H,W}(u_1 + u_2)))
        output = a * u_1 + (1 - a) * u_2,    a = softmax([l_1, l_2])_1

    Differs from the paper on selective kernels, which has a 3x3 and a 5x5
    stream: in the published SimCLRv2 models both are 3x3.

    Args:
        filters: Positive integer, number of output channels.
        strides: 1 or 2. With 2 the input is zero-padded by one pixel on every
            side. Defaults to 1.
        sk_ratio: Float in (0, 1]; the attention's hidden layer has
            `max(int(filters * sk_ratio), min_dim)` channels. Defaults to
            0.0625, that of the published SimCLRv2 models.
        min_dim: Positive integer, minimum width of the hidden layer. Defaults
            to 32.
        synchronized: Boolean or `None`: whether batch norm uses statistics
            over all replicas of `tf.distribute`. Defaults to `None`: yes on
            the TensorFlow backend, no on others.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor (B, H, W, C).
        training: Boolean, whether batch norm uses the batch's statistics.

    Returns:
        Float tensor (B, ceil(H / strides), ceil(W / strides), filters), >= 0.

    Example:
        from simclr_keras.encoders.selective_kernel import SelectiveKernelConv2D

        layer = SelectiveKernelConv2D(64, strides=2)
        y = layer(keras.random.uniform((2, 32, 32, 16)))  # (2, 16, 16, 64)

    Reference:
        - [Li et al., 2019](https://arxiv.org/abs/1903.06586), Section 3.
        - [Chen et al., 2020](https://arxiv.org/abs/2006.10029) (SimCLRv2).
    """

    def __init__(
        self,
        filters,
        strides=1,
        sk_ratio=0.0625,
        min_dim=32,
        synchronized=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.sk_ratio = sk_ratio
        self.min_dim = min_dim
        self.synchronized = synchronized

        hidden_dim = max(int(filters * sk_ratio), min_dim)
        dtype = self.dtype_policy
        self.conv = conv2d(2 * filters, 3, strides, name="conv", dtype=dtype)
        self.conv_bn = batch_norm(synchronized, name="conv_bn", dtype=dtype)
        self.reduce = conv2d(hidden_dim, 1, name="reduce", dtype=dtype)
        self.reduce_bn = batch_norm(synchronized, name="reduce_bn", dtype=dtype)
        self.expand = conv2d(2 * filters, 1, name="expand", dtype=dtype)

    def build(self, input_shape):
        # Only the channels matter, as `call` may pad height and width.
        for layer, channels in (
            (self.conv, input_shape[-1]),
            (self.conv_bn, 2 * self.filters),
            (self.reduce, self.filters),
            (self.reduce_bn, self.reduce.filters),
            (self.expand, self.reduce.filters),
        ):
            layer.build((None, None, None, channels))

    def call(self, inputs, training=None):
        if self.strides > 1:
            inputs = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        streams = self.conv(inputs)  # (B, H', W', 2 filters)
        streams = ops.relu(self.conv_bn(streams, training=training))

        # Pooling first gives the same sum, and adds 1x1 maps only.
        pooled = ops.mean(streams, axis=(1, 2), keepdims=True)
        pooled = ops.add(*ops.split(pooled, 2, axis=-1))  # (B, 1, 1, filters)
        hidden = self.reduce_bn(self.reduce(pooled), training=training)
        logits = self.expand(ops.relu(hidden))  # (B, 1, 1, 2 filters)

        stream_1, stream_2 = ops.split(streams, 2, axis=-1)
        logit_1, logit_2 = ops.split(logits, 2, axis=-1)
        # A softmax over two logits is the sigmoid of their difference.
        attention = ops.sigmoid(logit_1 - logit_2)
        return stream_2 + attention * (stream_1 - stream_2)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        height = None if height is None else -(-height // self.strides)
        width = None if width is None else -(-width // self.strides)
        return (batch, height, width, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "sk_ratio": self.sk_ratio,
            "min_dim": self.min_dim,
            "synchronized": self.synchronized,
        }
