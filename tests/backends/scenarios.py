"""The same numbers for every backend to work on.

    KERAS_BACKEND=tensorflow python -m tests.backends.scenarios FILE

writes what the backend makes of them. Nothing here imports a backend.
"""

import sys

import numpy as np
from keras import ops

import simclr_keras
from simclr_keras import augmentation

BATCH_SIZE = 32
STEPS = 5
_WITH_PROBABILITY_1 = {"probability": 1.0, "value_range": (0, 1)}
LAYERS = {
    "center_crop": lambda: augmentation.CenterCropAndResize(
        8, 10, crop_proportion=0.7, value_range=(0, 1)
    ),
    "color_jitter": lambda: augmentation.RandomColorJitter(
        **_WITH_PROBABILITY_1
    ),
    "crop": lambda: augmentation.RandomResizedCrop(8, 10, value_range=(0, 1)),
    "cutout": lambda: augmentation.RandomCutout(**_WITH_PROBABILITY_1),
    "flip": lambda: augmentation.RandomHorizontalFlip(value_range=(0, 1)),
    "gaussian_blur": lambda: augmentation.RandomGaussianBlur(
        kernel_size=5, **_WITH_PROBABILITY_1
    ),
    "gaussian_noise": lambda: augmentation.RandomGaussianNoise(
        **_WITH_PROBABILITY_1
    ),
    "grayscale": lambda: augmentation.RandomGrayscale(0.5, value_range=(0, 1)),
    "rotation": lambda: augmentation.RandomRotation(value_range=(0, 1)),
    "simclr": lambda: augmentation.SimCLRAugmentation(
        20, 18, value_range=(0, 1)
    ),
    "sobel": lambda: augmentation.RandomSobel(**_WITH_PROBABILITY_1),
}


def images(shape, high=255, dtype="uint8", seed=0):
    """Random images with a smooth part, so that a crop of one is not noise."""
    rng = np.random.default_rng(seed)
    batch, rows, columns, channels = shape
    y = np.arange(rows)[:, None, None] / rows
    x = np.arange(columns)[:, None] / columns
    frequency, phase = rng.uniform(0, 3, (2, batch, 1, 1, channels))
    waves = 0.5 + 0.5 * np.sin(2 * np.pi * (frequency * (x + y) + phase))
    noise = rng.random(shape)
    return ((0.7 * waves + 0.3 * noise) * high).astype(dtype)


def augmented(name, key=(7, 3)):
    """The views (8, H, W, 3) in [0, 1] that a layer makes under a key."""
    layer = LAYERS[name]()
    batch = ops.array(images((8, 14, 14, 3), 1, "float32"))
    if name == "center_crop":
        return layer(batch)
    return layer.apply(batch, key=ops.array(key, dtype="int32"))


def assign_weights(layer, seed=0):
    """Gives a layer weights that are the same on every backend.

    Kernels get He's normal distribution, and what starts at 0 or 1 stays.
    """
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        if len(weight.shape) > 1:
            fan_in = np.prod(weight.shape[:-1])
            value = rng.normal(size=weight.shape) * np.sqrt(2 / fan_in)
            weight.assign(value.astype(weight.dtype))


def make_model(
    cls=simclr_keras.SimCLRModel,
    channels=3,
    num_classes=None,
    width_multiplier=1 / 8,
    probe_on="views",
):
    """A small model with every part: ResNet, head, augmentation, LARS.

    The width is not less by default: PyTorch 2.13 has wrong gradients for
    strided 1x1 convolutions of fewer than eight channels on some processors,
    where oneDNN computes them.
    """
    model = cls(
        simclr_keras.encoders.ResNet18(
            width_multiplier=width_multiplier,
            stem="cifar",
            input_shape=(8, 8, channels),
        ),
        simclr_keras.ProjectionHead(16),
        simclr_keras.SimCLRAugmentation(8, 8, seed=3),
        num_classes=num_classes,
        probe_on=probe_on,
    )
    assign_weights(model.encoder, seed=1)
    assign_weights(model.projection_head, seed=2)
    model.compile(
        simclr_keras.LARS(
            simclr_keras.WarmupCosineDecay(
                simclr_keras.scaled_learning_rate(0.3, BATCH_SIZE),
                total_steps=2 * STEPS,
                warmup_steps=2,
            ),
            weight_decay=1e-4,
        ),
        simclr_keras.NTXentLoss(temperature=0.5),
    )
    return model


def fit(model, batch, labels=None):
    """Trains five steps on one batch: what each of them logs, (5,)."""
    history = model.fit(
        batch,
        labels,
        batch_size=len(batch),
        epochs=STEPS,
        shuffle=False,
        verbose=0,
    )
    return {name: np.array(v) for name, v in history.history.items()}


def training(probe_on="views"):
    """What five steps log, and the representations after them."""
    batch = images((BATCH_SIZE, 8, 8, 3))
    model = make_model(num_classes=4, probe_on=probe_on)
    history = fit(model, batch, np.arange(BATCH_SIZE) % 4)
    return {**history, "representations": model.predict(batch, verbose=0)}


def main(path):
    arrays = {
        f"augmented/{name}": ops.convert_to_numpy(augmented(name))
        for name in LAYERS
    }
    for name, array in training().items():
        arrays[f"training/{name}"] = array
    for name, array in training("images").items():
        arrays[f"on_images/{name}"] = array
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
