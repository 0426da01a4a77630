"""Weights that others have published, read into these components."""

from simclr_keras.checkpoints.published_weights import (
    PublishedWeights,
    load_published_weights,
)

__all__ = ["PublishedWeights", "load_published_weights"]
