"""The model: images -> views -> representations -> projections -> loss."""

from simclr_keras.model.simclr_model import SimCLRModel

__all__ = ["SimCLRModel"]
