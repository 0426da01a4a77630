"""Mean average precision, for images that have several labels."""

import numpy as np

from simclr_keras.argument_checks import to_array

_NUM_POINTS = 11


def mean_average_precision(labels, scores):
    """11-point mean average precision (mAP), as in VOC2007.

    For each class images are put in order by their scores. Of all cuts with a
    recall of r or more the best precision counts, for r = 0, 0.1, ..., 1; the
    mean over these is the class's average precision, and the mean over
    classes the result. Images of equal scores lie on the same side of a cut,
    so that their order does not matter.

    Args:
        labels: Boolean array (N, C), or one of 0 and 1: whether an image shows
            a class.
        scores: Float array (N, C), the larger the more probable; only their
            order within a class counts.

    Returns:
        Float in [0, 1].

    Raises:
        TypeError: If arguments do not hold such numbers.
        ValueError: If shapes differ or are not (N, C), scores are not finite,
            or no image shows one of the classes.

    Example:
        >>> import simclr_keras
        >>> labels = [[1, 0], [0, 1], [1, 1]]
        >>> scores = [[0.9, 0.1], [0.2, 0.8], [0.1, 0.3]]
        >>> mAP = simclr_keras.evaluation.mean_average_precision(labels, scores)
        >>> round(mAP, 3)
        0.924

    Reference:
        - [Everingham et al., 2010](https://doi.org/10.1007/s11263-009-0275-4),
          section 4.2, the measure of VOC2007.
    """
    labels = to_array("labels", labels)
    if not (labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all()):
        raise TypeError(
            "`labels` must hold booleans, or 0 and 1. Received: labels.dtype="
            f"{labels.dtype}, with the values {np.unique(labels)[:5]}. Leave "
            "out images that are marked as difficult."
        )
    scores = np.asarray(to_array("scores", scores), "float64")
    if labels.ndim != 2 or labels.shape != scores.shape or not labels.size:
        raise ValueError(
            "`labels` and `scores` must have the same shape (N, C), N and C at "
            f"least 1. Received: labels.shape={labels.shape}, "
            f"scores.shape={scores.shape}."
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            "`scores` must be finite. Received: "
            f"{int((~np.isfinite(scores)).sum())} values that are NaN or "
            "infinite."
        )
    labels = labels.astype(bool)
    absent = np.flatnonzero(~labels.any(axis=0))
    if len(absent):
        raise ValueError(
            "`labels` must have an image of each class. Received: none of "
            f"{len(absent)} classes, such as {absent[:5].tolist()}. Leave "
            "these columns out."
        )
    return float(np.mean([*map(_average_precision, labels.T, scores.T)]))


def _average_precision(is_positive, scores):
    """Of one class: arrays (N,)."""
    order = np.argsort(-scores)
    scores = scores[order]
    num_found = np.cumsum(is_positive[order])
    # Cuts lie where the score changes.
    cuts = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    num_found = num_found[cuts]
    precision = num_found / (cuts + 1)
    # The best at this cut or a later one, which has no less recall.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall >= k / 10 in whole numbers, which do not round.
    wanted = np.arange(_NUM_POINTS) * is_positive.sum()
    first = np.searchsorted(num_found * (_NUM_POINTS - 1), wanted)
    return best[first].mean()
