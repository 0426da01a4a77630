"""SimCLR for Keras: representations of images learned without labels."""

import importlib

from simclr_keras import (
    augmentation,
    callbacks,
    distribution,
    encoders,
    evaluation,
    losses,
    metrics,
    optimizers,
    plots,
)
from simclr_keras.augmentation import SimCLRAugmentation
from simclr_keras.losses import NTXentLoss
from simclr_keras.model import SimCLRModel
from simclr_keras.optimizers import (
    LARS,
    WarmupCosineDecay,
    scaled_learning_rate,
)
from simclr_keras.projection_head import ProjectionHead
from simclr_keras.published_weights import load_published_weights
from simclr_keras.version import __version__ as __version__

__all__ = [
    "LARS",
    "NTXentLoss",
    "ProjectionHead",
    "SimCLRAugmentation",
    "SimCLRModel",
    "WarmupCosineDecay",
    "augmentation",
    "callbacks",
    "data",
    "distribution",
    "encoders",
    "evaluation",
    "export",
    "export_saved_model",
    "load_published_weights",
    "losses",
    "metrics",
    "optimizers",
    "plots",
    "scaled_learning_rate",
]


def __getattr__(name):
    # These need TensorFlow, which is not there, or not loaded yet, where
    # Keras runs on another backend.
    if name in ("data", "export"):
        return importlib.import_module(f"simclr_keras.{name}")
    if name == "export_saved_model":
        return importlib.import_module("simclr_keras.export").export_saved_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
