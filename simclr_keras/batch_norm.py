"""Batch norm with the settings shared by encoders and projection head."""

import keras

from simclr_keras import distribution


def batch_norm(synchronized=None, **kwargs):
    """Returns a `BatchNormalization` over channels, momentum 0.9, eps 1e-5.

    Args:
        synchronized: Boolean or `None`; see `distribution.synchronizes`.
        **kwargs: Other arguments of `keras.layers.BatchNormalization`.
    """
    return keras.layers.BatchNormalization(
        axis=-1,
        momentum=0.9,
        epsilon=1e-5,
        synchronized=distribution.synchronizes(synchronized),
        **kwargs,
    )
