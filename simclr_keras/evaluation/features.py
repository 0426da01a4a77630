"""Representations of a whole set of images, as one NumPy array."""

import numpy as np

from simclr_keras.model import SimCLRModel
from simclr_keras.projection_head import ProjectionHead


def extract_features(model, images, batch_size=256):
    """Representations of all `images`, in their order.

    The model runs in inference mode: no augmentation, batch normalisation by
    its moving statistics. The answer is float32 under every precision policy.

    Args:
        model: A `SimCLRModel`, which takes images in its `value_range`, or
            an encoder, which takes floats in [0, 1]; any Keras model that
            ends in representations (B, F).
        images: Array (N, H, W, C); or a `tf.data.Dataset` or `PyDataset` of
            batches of images or of `(images, labels)`. A dataset must not
            shuffle, or the rows come in an unspecified order.
        batch_size: Positive integer, images at a time; for arrays only.
            Defaults to 256.

    Returns:
        NumPy array (N, F), float32.

    Raises:
        ValueError: If the model does not give (B, F), or gives values that
            are not finite; or if the images are not in the range that a
            `SimCLRModel`, or an encoder of this library, takes.

    Example:
        features = simclr_keras.evaluation.extract_features(model, images)
    """
    if not isinstance(model, SimCLRModel) and hasattr(model, "value_range"):
        # An encoder that says what it takes. In a model its images are
        # watched, whatever they come in.
        model = SimCLRModel(
            model, ProjectionHead(kind="none"), value_range=model.value_range
        )
    # Keras refuses a batch size beside a data set, which has its own.
    batch_size = batch_size if hasattr(images, "shape") else None
    features = model.predict(images, batch_size=batch_size, verbose=0)
    if not hasattr(features, "shape") or len(features.shape) != 2:
        shape = getattr(features, "shape", type(features).__name__)
        raise ValueError(
            "`model` must give representations of the shape (B, F). "
            f"Received: {shape} from {model.name!r}. The encoder must end in "
            "a pooling layer; add keras.layers.GlobalAveragePooling2D()."
        )
    features = np.asarray(features, dtype="float32")
    if not np.isfinite(features).all():
        raise ValueError(
            "`model` must give finite representations. Received: NaN or "
            f"infinite values from {model.name!r}. Its weights have diverged, "
            "or the images hold values that are not finite."
        )
    return features
