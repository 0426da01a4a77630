"""Contrastive losses, called with the projections of the two views."""

from simclr_keras.losses.nt_xent import NTXentLoss

__all__ = ["NTXentLoss"]
