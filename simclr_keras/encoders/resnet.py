"""ResNet encoders of SimCLR and SimCLRv2."""

import math
import numbers

import keras

from simclr_keras import distribution
from simclr_keras.encoders import resnet_blocks
from simclr_keras.encoders.image_dtype import (
    check_image_dtype,
    to_unit_range,
)

# Depth -> block and number of blocks in each of the four groups.
_ARCHITECTURES = {
    18: (resnet_blocks.basic_block, (2, 2, 2, 2)),
    34: (resnet_blocks.basic_block, (3, 4, 6, 3)),
    50: (resnet_blocks.bottleneck_block, (3, 4, 6, 3)),
    101: (resnet_blocks.bottleneck_block, (3, 4, 23, 3)),
    152: (resnet_blocks.bottleneck_block, (3, 8, 36, 3)),
    200: (resnet_blocks.bottleneck_block, (3, 24, 36, 3)),
}
_STEMS = ("imagenet", "cifar")


@keras.saving.register_keras_serializable(package="simclr_keras")
class ResNet(keras.Model):
    """ResNet v1.5, images -> representations h.

    A functional model that ends in the global average pool: no projection
    head, no classifier. Its layout, initial values and names of endpoints are
    those of the published SimCLR models, so that their weights fit.

    Args:
        depth: 18 or 34 (basic blocks), or 50, 101, 152, 200 (bottlenecks,
            output four times as wide). Defaults to 50.
        width_multiplier: Float >= 1/64, factor on the 64, 128, 256 and 512
            filters of the four groups, rounded down. The papers use 1, 2, 3,
            4. Defaults to 1.
        sk_ratio: Float in [0, 1]. Above 0 the encoder is SimCLRv2's variant
            with selective kernels (published with 0.0625): the 3x3 of a
            bottleneck becomes a `SelectiveKernelConv2D`, shortcuts pool
            before they project, and the "imagenet" stem has three 3x3
            convolutions. Basic blocks keep their 3x3 and change shortcut and
            stem only, as in the reference implementation. Defaults to 0.
        se_ratio: Float in [0, 1]. Above 0 each block's output goes through a
            `SqueezeExcitation` before it joins the shortcut; the hidden layer
            has `filters * se_ratio` channels, at least 1. Defaults to 0.
        stem: "imagenet", a 7x7 convolution with stride 2 and a 3x3 max pool
            with stride 2, or "cifar", a 3x3 convolution with stride 1 and no
            pool, for images of about 32 pixels (as SimCLR on CIFAR-10).
            Defaults to "imagenet".
        input_shape: Tuple (H, W, C); H and W may be `None`, C may not.
            Defaults to (None, None, 3).
        synchronized: Boolean or `None`: whether batch norm shares statistics
            between the replicas of `tf.distribute`, as in the paper, so that
            local statistics cannot reveal positive pairs (Section 2.2).
            Defaults to `None`: yes on the TensorFlow backend; no on others,
            where Keras does not support it and a batch is the global one
            anyway.
        name: String, name of the model.
        dtype: String or `keras.DTypePolicy` of all layers. Defaults to
            `None`, the global policy.
        **kwargs: `trainable` of `keras.Model`.

    Attributes:
        endpoints: Dict of Keras tensors, `initial_conv` (before its batch
            norm), `initial_max_pool`, `block_group1` to `block_group4` and
            `final_avg_pool`. `keras.Model(encoder.input, encoder.endpoints)`
            returns them all.
        image_shape: The tuple given as `input_shape`. As in every Keras
            model, the attribute `input_shape` has the batch axis too.
        value_range: (0, 1), the range of the images that it takes.

    Call arguments:
        inputs: Float tensor (B, H, W, C) in [0, 1], no mean or standard
            deviation subtracted; or uint8, which is divided by 255. A
            `keras.Sequential` or functional model around the encoder casts
            integers to floats first: give it `keras.Input(shape,
            dtype="uint8")`.
        training: Boolean, whether batch norm uses the batch's statistics.

    Returns:
        Representations h, float tensor (B, F) with F = 512 * width_multiplier
        for basic blocks and 2048 * width_multiplier for bottlenecks; >= 0;
        float32 also under a mixed precision policy.

    Raises:
        ValueError: If an argument is outside the range given above.
        TypeError: If an argument has the wrong type, or images are integers
            other than uint8.

    Example:
        from simclr_keras.encoders import ResNet

        encoder = ResNet(depth=18, stem="cifar", input_shape=(32, 32, 3))
        h = encoder(keras.random.uniform((4, 32, 32, 3)))  # (4, 512)

    Reference:
        - [He et al., 2016](https://arxiv.org/abs/1512.03385), Table 1.
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 2.2
          for batch norm, the appendix on CIFAR-10 for its stem.
        - [Chen et al., 2020](https://arxiv.org/abs/2006.10029) (SimCLRv2)
          for deeper, wider and selective-kernel variants.
    """

    value_range = (0, 1)

    def __init__(
        self,
        depth=50,
        width_multiplier=1,
        sk_ratio=0.0,
        se_ratio=0.0,
        stem="imagenet",
        input_shape=(None, None, 3),
        synchronized=None,
        name=None,
        dtype=None,
        **kwargs,
    ):
        # === Arguments ===
        _check_architecture(depth, width_multiplier, stem)
        _check_ratio("sk_ratio", sk_ratio)
        _check_ratio("se_ratio", se_ratio)
        image_shape = _check_input_shape(input_shape)
        distribution.synchronizes(synchronized)
        if set(kwargs) - {"trainable"}:
            # Keras would ignore what a functional model does not know.
            raise TypeError(
                "`ResNet` takes no other keyword arguments than those in its "
                "docstring. Received: "
                f"{sorted(set(kwargs) - {'trainable'})}."
            )
        policy = keras.dtype_policies.get(dtype)
        options = resnet_blocks.BlockOptions(
            sk_ratio, se_ratio, synchronized, policy
        )

        # === Graph ===
        inputs = keras.Input(image_shape, name="images")
        filters = [int(f * width_multiplier) for f in (64, 128, 256, 512)]
        x, endpoints = _stem(inputs, filters[0], stem, options)
        block, num_blocks = _ARCHITECTURES[depth]
        for i in range(4):
            group = f"block_group{i + 1}"
            for j in range(num_blocks[i]):
                x = block(
                    x,
                    filters[i],
                    strides=2 if i > 0 and j == 0 else 1,
                    project=j == 0,
                    options=options,
                    name=f"{group}_block{j + 1}",
                )
            endpoints[group] = x
        h = keras.layers.GlobalAveragePooling2D(
            data_format="channels_last",
            name="final_avg_pool",
            # Keras computes the mean in float32 in any case; rounding it to
            # bfloat16 would cost precision and save nothing.
            dtype=_at_least_float32(policy),
        )(x)
        endpoints["final_avg_pool"] = h
        super().__init__(inputs=inputs, outputs=h, name=name, **kwargs)

        # === Config ===
        self.dtype_policy = policy
        self.depth = depth
        self.width_multiplier = width_multiplier
        self.sk_ratio = sk_ratio
        self.se_ratio = se_ratio
        self.stem = stem
        self.image_shape = image_shape
        self.synchronized = synchronized
        self._endpoints = endpoints

    # Before Keras casts to float32, in calls with tensors and in calls with
    # Keras tensors.
    def call(self, inputs, training=None, mask=None):
        inputs = to_unit_range(inputs, self.variable_dtype)
        return super().call(inputs, training=training, mask=mask)

    def compute_output_spec(self, inputs, training=None, mask=None):
        check_image_dtype(inputs)
        return super().compute_output_spec(inputs, training, mask)

    @property
    def endpoints(self):
        # A plain dict, as Keras wraps those that are attributes.
        return dict(self._endpoints)

    def get_config(self):
        return {
            **super().get_config(),  # name, trainable, dtype
            "depth": self.depth,
            "width_multiplier": self.width_multiplier,
            "sk_ratio": self.sk_ratio,
            "se_ratio": self.se_ratio,
            "stem": self.stem,
            "input_shape": tuple(self.image_shape),
            "synchronized": self.synchronized,
        }


def ResNet18(**kwargs):  # noqa: N802
    """`ResNet` of depth 18. Takes the other arguments by keyword."""
    return ResNet(depth=18, **kwargs)


def ResNet34(**kwargs):  # noqa: N802
    """`ResNet` of depth 34. Takes the other arguments by keyword."""
    return ResNet(depth=34, **kwargs)


def ResNet50(**kwargs):  # noqa: N802
    """`ResNet` of depth 50. Takes the other arguments by keyword."""
    return ResNet(depth=50, **kwargs)


def ResNet101(**kwargs):  # noqa: N802
    """`ResNet` of depth 101. Takes the other arguments by keyword."""
    return ResNet(depth=101, **kwargs)


def ResNet152(**kwargs):  # noqa: N802
    """`ResNet` of depth 152. Takes the other arguments by keyword."""
    return ResNet(depth=152, **kwargs)


def ResNet200(**kwargs):  # noqa: N802
    """`ResNet` of depth 200. Takes the other arguments by keyword."""
    return ResNet(depth=200, **kwargs)


def _stem(x, filters, stem, options):
    """Everything before the first block, and its two endpoints."""
    # (filters, kernel size, strides) of each convolution.
    convs = [(filters, 7, 2)]
    if stem == "cifar":
        convs = [(filters, 3, 1)]
    elif options.sk_ratio > 0:  # ResNet-D
        half = max(1, filters // 2)
        convs = [(half, 3, 2), (half, 3, 1), (filters, 3, 1)]

    endpoints = {}
    for k, (filters_k, kernel_size, strides) in enumerate(convs, start=1):
        x = resnet_blocks.conv(
            x, filters_k, kernel_size, strides, options, f"stem_conv{k}"
        )
        endpoints["initial_conv"] = x  # Of the last one, before batch norm.
        x = resnet_blocks.batch_norm(x, options, f"stem_bn{k}")
        x = resnet_blocks.relu(x, options, f"stem_relu{k}")
    if stem == "imagenet":
        x = keras.layers.MaxPooling2D(
            3,
            strides=2,
            padding="same",
            data_format="channels_last",
            name="stem_pool",
            dtype=options.dtype,
        )(x)
    endpoints["initial_max_pool"] = x
    return x, endpoints


def _at_least_float32(policy):
    is_half = policy.compute_dtype in ("float16", "bfloat16")
    return "float32" if is_half else policy


def _check_architecture(depth, width_multiplier, stem):
    if not isinstance(depth, numbers.Integral):
        raise TypeError(
            f"`depth` must be an integer. Received: depth={depth!r}."
        )
    if depth not in _ARCHITECTURES:
        raise ValueError(
            f"`depth` must be one of {tuple(_ARCHITECTURES)}. "
            f"Received: depth={depth!r}."
        )
    if not isinstance(width_multiplier, numbers.Real):
        raise TypeError(
            "`width_multiplier` must be a number. "
            f"Received: width_multiplier={width_multiplier!r}."
        )
    if not 1 / 64 <= width_multiplier < math.inf:
        raise ValueError(
            "`width_multiplier` must be at least 1/64, which leaves one "
            "filter in the narrowest layers. "
            f"Received: width_multiplier={width_multiplier!r}."
        )
    if not isinstance(stem, str) or stem not in _STEMS:
        raise ValueError(
            f"`stem` must be one of {_STEMS}. Received: stem={stem!r}."
        )


def _check_ratio(name, value):
    if not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be a number. Received: {name}={value!r}."
        )
    if not 0 <= value <= 1:
        raise ValueError(
            f"`{name}` must lie in [0, 1]; 0 turns it off. "
            f"Received: {name}={value!r}."
        )


def _check_input_shape(input_shape):
    """Returns `input_shape` as a tuple."""
    if not isinstance(input_shape, (tuple, list)):
        raise TypeError(
            "`input_shape` must be a tuple (height, width, channels). "
            f"Received: input_shape={input_shape!r}."
        )
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise ValueError(
            "`input_shape` must be (height, width, channels), without the "
            f"batch axis. Received: input_shape={input_shape!r}."
        )
    known = [size for size in shape[:2] if size is not None] + [shape[2]]
    if not all(isinstance(n, numbers.Integral) and n > 0 for n in known):
        raise ValueError(
            "`input_shape` must have a positive number of channels, and "
            "heights and widths that are positive or None. "
            f"Received: input_shape={input_shape!r}."
        )
    return shape
