"""Weights that others have published, read into these components."""

from simclr_keras.published_weights.loading import (
    PublishedWeights,
    load_published_weights,
)

__all__ = ["PublishedWeights", "load_published_weights"]
