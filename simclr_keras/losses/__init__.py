"""Losses of projections: what a view has to tell its partner from."""

from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.nt_xent import NTXentLoss
from simclr_keras.losses.temperature import LearnedTemperature

__all__ = ["ContrastiveLoss", "LearnedTemperature", "NTXentLoss"]
