"""Classification problems of many kinds, easy and hard, from a seed."""

import typing

import numpy as np


class Problem(typing.NamedTuple):
    """What a classification problem is made of.

    Attributes:
        num_train: Integer, training rows.
        num_classes: Integer.
        dim: Integer, the number of features.
        signal: Float, the deviation of a class's mean in each feature, where
            the noise has 1. Zero leaves nothing to learn.
        decades: Float: the features' scales run over so many powers of ten.
        decay: Float: the k-th direction of the noise has the deviation
            k^-decay, as the spectra of images and representations do.
        label_noise: Float in [0, 1], the part of the training labels that is
            drawn anew.
        imbalance: Float, how many times as frequent the first class is as the
            last; those between lie evenly in logarithms.
        clusters: Integer, the number of Gaussians in a class.
        shape: "normal"; "relu", which cuts off what is negative, as most
            encoders do; or "heavy", with outliers (Student's t).
        num_test: Integer, test rows.
    """

    num_train: int
    num_classes: int
    dim: int
    signal: float
    decades: float = 0.0
    decay: float = 0.0
    label_noise: float = 0.0
    imbalance: float = 1.0
    clusters: int = 1
    shape: str = "normal"
    num_test: int = 1000


def make_problem(problem, seed=0):
    """Returns (train, train_labels, test, test_labels)."""
    rng = np.random.default_rng(seed)
    n, num_classes = problem.num_train, problem.num_classes
    total, dim = n + problem.num_test, problem.dim
    frequency = np.geomspace(problem.imbalance, 1, num_classes)
    cumulative = np.cumsum(frequency / frequency.sum())
    # Evenly spread, so that equal frequencies give equal counts.
    place = (np.arange(total) * (np.sqrt(5) - 1) / 2) % 1
    labels = np.minimum(np.searchsorted(cumulative, place), num_classes - 1)
    means = rng.normal(size=(problem.clusters, num_classes, dim))
    cluster = rng.integers(0, problem.clusters, total)
    noise = rng.normal(size=(total, dim))
    if problem.shape == "heavy":
        noise = rng.standard_t(2.5, size=(total, dim))
    if problem.decay:
        turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
        noise = noise * np.arange(1.0, dim + 1) ** -problem.decay @ turn
    features = problem.signal * means[cluster, labels] + noise
    if problem.shape == "relu":
        features = np.maximum(features, 0)
    features = features * np.logspace(0, -problem.decades, dim)
    drawn_anew = rng.random(n) < problem.label_noise
    noisy = np.where(drawn_anew, rng.permutation(labels[:n]), labels[:n])
    features = features.astype("float32")
    return features[:n], noisy, features[n:], labels[n:]
