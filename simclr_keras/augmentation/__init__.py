"""Keras layers that turn images into views."""

from simclr_keras.augmentation import functional
from simclr_keras.augmentation.center_crop_and_resize import CenterCropAndResize
from simclr_keras.augmentation.contract import Augmentation, as_augmentation
from simclr_keras.augmentation.random_color_jitter import RandomColorJitter
from simclr_keras.augmentation.random_cutout import RandomCutout
from simclr_keras.augmentation.random_gaussian_blur import RandomGaussianBlur
from simclr_keras.augmentation.random_gaussian_noise import (
    RandomGaussianNoise,
)
from simclr_keras.augmentation.random_grayscale import RandomGrayscale
from simclr_keras.augmentation.random_horizontal_flip import (
    RandomHorizontalFlip,
)
from simclr_keras.augmentation.random_image_layer import RandomImageLayer
from simclr_keras.augmentation.random_resized_crop import RandomResizedCrop
from simclr_keras.augmentation.random_rotation import RandomRotation
from simclr_keras.augmentation.random_sobel import RandomSobel
from simclr_keras.augmentation.simclr_augmentation import SimCLRAugmentation

__all__ = [
    "Augmentation",
    "CenterCropAndResize",
    "RandomColorJitter",
    "RandomCutout",
    "RandomGaussianBlur",
    "RandomGaussianNoise",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomImageLayer",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSobel",
    "SimCLRAugmentation",
    "as_augmentation",
    "functional",
]
