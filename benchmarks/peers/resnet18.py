"""A ResNet-18 with CIFAR stem in Keras 2, for peers whose own have none.

The layers of `simclr_keras.encoders.ResNet18(stem="cifar")`, one for one.
"""

import tensorflow as tf

layers = tf.keras.layers


def build(image_size, width, scale=1.0):
    """Model from images times `scale` in [0, 1] to representations."""
    inputs = layers.Input((image_size, image_size, 3))
    x = layers.Rescaling(scale, dtype="float32")(inputs)
    x = _conv_and_norm(x, int(64 * width), 3, 1)
    x = layers.ReLU()(x)
    for group in range(4):
        filters = int(64 * 2**group * width)
        for block in range(2):
            first = block == 0
            strides = 2 if first and group else 1
            y = _conv_and_norm(x, filters, 3, strides)
            y = _conv_and_norm(layers.ReLU()(y), filters, 3, 1)
            if first:
                x = _conv_and_norm(x, filters, 1, strides)
            x = layers.ReLU()(layers.Add()([x, y]))
    h = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return tf.keras.Model(inputs, h)


def _conv_and_norm(x, filters, kernel_size, strides):
    x = layers.Conv2D(
        filters, kernel_size, strides, padding="same", use_bias=False
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
