"""Encoders: images (B, H, W, C) in [0, 1] -> representations h (B, F)."""

from simclr_keras.batch_norm import BatchNormalization, fuse_batch_norm
from simclr_keras.encoders.backbone_encoder import BackboneEncoder
from simclr_keras.encoders.resnet import (
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNet200,
)

__all__ = [
    "BackboneEncoder",
    "BatchNormalization",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNet200",
    "fuse_batch_norm",
]
