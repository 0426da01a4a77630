"""LARS, and the learning rate schedule that goes with it."""

from simclr_keras.optimizers.lars import LARS
from simclr_keras.optimizers.learning_rate import (
    WarmupCosineDecay,
    scaled_learning_rate,
)

__all__ = ["LARS", "WarmupCosineDecay", "scaled_learning_rate"]
