"""Squeeze and excitation: channel weights from the whole image."""

import keras
from keras import ops

from simclr_keras.encoders.convolution import conv2d


@keras.saving.register_keras_serializable(package="simclr_keras")
class SqueezeExcitation(keras.layers.Layer):
    """Multiplies each channel by a factor computed from the pooled image.

        output = x * sigmoid(W_2 relu(W_1 mean_{H,W}(x) + b_1) + b_2)

    Args:
        hidden_dim: Positive integer, width of the hidden layer.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor (B, H, W, C).

    Returns:
        Float tensor (B, H, W, C).

    Example:
        from simclr_keras.encoders.squeeze_excitation import SqueezeExcitation

        layer = SqueezeExcitation(4)
        y = layer(keras.random.uniform((2, 8, 8, 16)))  # (2, 8, 8, 16)

    Reference:
        - [Hu et al., 2018](https://arxiv.org/abs/1709.01507), Section 3.
    """

    def __init__(self, hidden_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.reduce = conv2d(
            hidden_dim, 1, use_bias=True, name="reduce", dtype=self.dtype_policy
        )
        self.expand = None  # As wide as the input, so created in `build`.

    def build(self, input_shape):
        pooled_shape = (input_shape[0], 1, 1, input_shape[-1])
        self.reduce.build(pooled_shape)
        self.expand = conv2d(
            input_shape[-1],
            1,
            use_bias=True,
            name="expand",
            dtype=self.dtype_policy,
        )
        self.expand.build((input_shape[0], 1, 1, self.hidden_dim))

    def call(self, inputs):
        pooled = ops.mean(inputs, axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
        hidden = ops.relu(self.reduce(pooled))
        return inputs * ops.sigmoid(self.expand(hidden))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "hidden_dim": self.hidden_dim}
