"""Loads published SimCLR weights into the components of this library."""

from simclr_keras.published_weights.loading import (
    PublishedWeights,
    load_published_weights,
)

__all__ = ["PublishedWeights", "load_published_weights"]
