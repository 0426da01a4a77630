"""Parts of a labelled set that hold every class in its proportion."""

import numpy as np

from simclr_keras.argument_checks import to_labels
from simclr_keras.evaluation.checks import check_count, check_seed


def class_balanced_subset(labels, num_per_class, seed=0):
    """Indices of a random subset with `num_per_class` images of each class.

    Drawn without replacement from every class that occurs. One seed gives
    one subset on every machine; another seed gives another draw. Subsets of
    one seed are nested: the one with two images of a class holds the one
    with a single image.

    Args:
        labels: Integer array (N,) or (N, 1); names of classes will do.
        num_per_class: Positive integer, images of each class.
        seed: Integer, names the draw. Defaults to 0.

    Returns:
        NumPy array (num_classes * num_per_class,) of indices into `labels`,
        ordered by class.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `num_per_class` is not positive or a class has fewer
            images than that, or if there are no labels.

    Example:
        index = simclr_keras.evaluation.class_balanced_subset(labels, 10)
        few_images, few_labels = images[index], labels[index]

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), section 6
          (1 % and 10 % of the labels, in a class-balanced way).
    """
    labels = _checked_labels(labels)
    num_per_class = check_count(num_per_class, "num_per_class")
    check_seed(seed)
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < num_per_class:
            raise ValueError(
                f"`num_per_class` must not exceed the {len(members)} images "
                f"of class {label}. Received: "
                f"num_per_class={num_per_class!r}."
            )
        # Permuted whole, so that the draws of one seed are nested.
        chosen.append(generator.permutation(members)[:num_per_class])
    return np.concatenate(chosen)


def _checked_labels(labels):
    """Labels as an array (N,) of what can be sorted."""
    wanted = "`labels` must be integers, one for each image"
    labels = to_labels("labels", labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"{wanted}. Received: labels.shape={labels.shape}.")
    if labels.dtype.kind not in "biufUS":
        raise TypeError(f"{wanted}. Received: labels.dtype={labels.dtype}.")
    return labels


def validation_split(labels, fraction, seed=0):
    """Holds out a part of each class.

    Args:
        labels: Integer array (N,).
        fraction: Float in (0, 1), the part of each class, rounded down to
            whole images.
        seed: Integer, draws the images. Defaults to 0.

    Returns:
        Boolean array (N,), True for the images that are held out.
    """
    generator = np.random.default_rng(seed)
    is_validation = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        is_validation[members[: int(fraction * len(members))]] = True
    return is_validation
