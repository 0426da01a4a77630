"""Features with a known structure."""

import numpy as np


def make_blobs(num_train=300, num_test=150, num_classes=5, dim=8, seed=0):
    """Noisy clusters: (train, train_labels, test, test_labels)."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(num_classes, dim))
    labels = np.arange(num_train + num_test) % num_classes
    noise = rng.normal(size=(len(labels), dim))
    features = (centers[labels] + 0.7 * noise).astype("float32")
    return (
        features[:num_train],
        labels[:num_train],
        features[num_train:],
        labels[num_train:],
    )
