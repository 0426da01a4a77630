"""Batch norm with the settings that encoders and projection head share."""

import keras

from simclr_keras import distribution


def batch_norm(synchronized=None, **kwargs):
    """Returns a `BatchNormalization` over channels, momentum 0.9, eps 1e-5.

    Args:
        synchronized: As for `distribution.synchronizes`.
        **kwargs: Further arguments of `keras.layers.BatchNormalization`.
    """
    return keras.layers.BatchNormalization(
        axis=-1,
        momentum=0.9,
        epsilon=1e-5,
        synchronized=distribution.synchronizes(synchronized),
        **kwargs,
    )
