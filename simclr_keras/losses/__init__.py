"""Losses of projections: what a view has to tell its partner from."""

from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.hard_negatives import HardNegativeLoss
from simclr_keras.losses.margin_triplet import MarginTripletLoss
from simclr_keras.losses.nt_logistic import NTLogisticLoss
from simclr_keras.losses.nt_xent import NTXentLoss
from simclr_keras.losses.sup_con import SupConLoss
from simclr_keras.losses.temperature import LearnedTemperature

__all__ = [
    "ContrastiveLoss",
    "HardNegativeLoss",
    "LearnedTemperature",
    "MarginTripletLoss",
    "NTLogisticLoss",
    "NTXentLoss",
    "SupConLoss",
]
