"""Measures of a representation that need no labels."""

import typing

import numpy as np

from simclr_keras.argument_checks import check_number
from simclr_keras.evaluation.checks import (
    check_count,
    check_features,
    check_positive,
)

# Added to the shares of the singular values, as the paper does for float32.
_RANK_ME_EPSILON = 1e-7

# Two cosines that differ by less are equal: a sum of thousands of products in
# float64 is rounded by some 1e-14, in an order that depends on the block.
_COSINE_ROUNDING = 1e-12


# Powers of a distance of 2 stay finite.
_LARGEST_ALPHA = 100


class PairSimilarity(typing.NamedTuple):
    """Mean cosines between first and second views.

    Attributes:
        positives: Float in [-1, 1], of the two views of an image.
        negatives: Float in [-1, 1], of a first and a second view of two
            images.
    """

    positives: float
    negatives: float


def alignment(z_i, z_j, alpha=2, batch_size=1024):
    """How far apart the two views of an image are, on average.

    The mean of ||u - v||^alpha over positive pairs, where u and v are the
    rows of `z_i` and `z_j` divided by their lengths. The smaller the better,
    if `uniformity` is good too: 0 is that of equal pairs, which a collapsed
    representation has as well, and about 2 (for `alpha=2`) that of pairs that
    have nothing to do with each other.

    Args:
        z_i: Float array (N, D), not normalized: projections or
            representations of the images' first views.
        z_j: Float array (N, D): those of their second views, in the same
            order.
        alpha: Positive float, at most 100, the power of the distance. Defaults
            to 2, the paper's.
        batch_size: Positive integer, rows at a time. Defaults to 1,024.

    Returns:
        Float in [0, 2^alpha], summed in float64. A row of zeros has no
        direction and the distance 1 to every other.

    Raises:
        ValueError: If the shapes differ or are not (N, D), values are not
            finite, or `alpha` or `batch_size` is not positive.

    Example:
        >>> import numpy as np
        >>> import simclr_keras
        >>> z = np.array([[2.0, 0.0], [0.0, 3.0]])
        >>> simclr_keras.evaluation.alignment(z, 5 * z)
        0.0
        >>> round(simclr_keras.evaluation.alignment(z, z[::-1]), 6)
        2.0

    Reference:
        - [Wang and Isola, 2020](https://arxiv.org/abs/2005.10242), Section
          4.1 (alignment loss, alpha = 2).
    """
    z_i, z_j = _check_views(z_i, z_j, least=1)
    check_number(
        "alpha",
        alpha,
        f"be a positive number, at most {_LARGEST_ALPHA}",
        lambda x: 0 < x <= _LARGEST_ALPHA,
    )
    total = 0.0
    for rows in _batches(len(z_i), batch_size):
        difference = unit_rows(z_i[rows]) - unit_rows(z_j[rows])
        distance = np.sqrt(np.sum(difference**2, axis=1))  # (B,)
        total += np.sum(distance**alpha)
    return float(total / len(z_i))


def uniformity(z, t=2, batch_size=1024):
    """How evenly representations are spread over the sphere.

    The logarithm of the mean of exp(-t ||u - v||^2) over all pairs of
    different rows, where u and v are rows of `z` divided by their lengths. The
    smaller the better: 0 is that of rows that are all equal, and rows in
    directions drawn at random in many dimensions have about -2t, which is -4
    for `t=2`.

    No row is paired with itself, as in the code that the paper prints. All
    N (N - 1) / 2 pairs are looked at: 20,000 rows of 128 took 9 seconds on two
    cores, and a random part of many rows gives nearly the same.

    Args:
        z: Float array (N, D), not normalized, a row an image.
        t: Positive float, t above. Defaults to 2, the paper's.
        batch_size: Positive integer; distances of so many rows to so many
            others are held at a time. Defaults to 1,024.

    Returns:
        Float in [-4t, 0], summed in float64.

    Raises:
        ValueError: If `z` is not (N, D), holds a single row or values that
            are not finite, or if `t` or `batch_size` is not positive.

    Example:
        >>> import numpy as np
        >>> import simclr_keras
        >>> z = np.eye(8)  # All pairs have the squared distance 2.
        >>> round(simclr_keras.evaluation.uniformity(z), 6)
        -4.0

    Reference:
        - [Wang and Isola, 2020](https://arxiv.org/abs/2005.10242), Section
          4.1 (uniformity loss, t = 2).
    """
    z = _check_rows(z, "z")
    check_positive(t, "t")
    log_sums = []
    for rows in _batches(len(z), batch_size):
        a = unit_rows(z[rows])
        for columns in _batches(len(z), batch_size, start=rows.start):
            b = a if columns == rows else unit_rows(z[columns])
            # A row of zeros, whose length is not 1, has no distance of 2 - 2uv.
            squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)
            exponent = -t * np.maximum(squares - 2 * a @ b.T, 0)
            if columns == rows:  # Each pair once, none of a row with itself.
                exponent = exponent[np.triu_indices(len(a), k=1)]
            if exponent.size:
                log_sums.append(_log_sum(exponent))
    return float(_log_sum(np.array(log_sums)) - np.log(_num_pairs(len(z))))


def rank_me(features, batch_size=1024):
    """RankMe: how many dimensions a representation makes use of.

    The exponential of the entropy of the singular values s_k of the matrix of
    features,

        exp(-sum_k p_k log p_k),  p_k = s_k / sum_j s_j + 1e-7.

    The larger the better, between two runs of one method and one size: F is
    that of F dimensions that are used alike, 1 that of a collapse to a single
    direction.

    The features are neither centred nor normalized, as in the paper. It takes
    25,600 images; N must be well above F, as no more than N dimensions show.

    The singular values are the roots of the eigenvalues of the F x F matrix of
    products (N x N where N < F), in float64. The rounding of the eigenvalues
    leaves singular values below some 1e-8 of the largest unspecified, which is
    less than rounding to float32 does to the features themselves and than
    1e-7 of the sum, which the paper adds.

    Args:
        features: Float array (N, F), not normalized, a row an image.
        batch_size: Positive integer, rows at a time. Defaults to 1,024.

    Returns:
        Float from 1 to min(N, F), but for the 1e-7 above: each dimension that
        is not used adds 1.6e-6 of the result. Features that are all zero give
        that of one direction.

    Raises:
        ValueError: If `features` is not (N, F), holds a single row or values
            that are not finite, or if `batch_size` is not positive.

    Example:
        >>> import numpy as np
        >>> import simclr_keras
        >>> round(simclr_keras.evaluation.rank_me(np.eye(8)), 3)
        8.0
        >>> round(simclr_keras.evaluation.rank_me(np.ones((100, 8))), 3)
        1.0

    Reference:
        - [Garrido et al., 2023](https://arxiv.org/abs/2210.02885), Section
          3.1, Equation 1.
    """
    features = _check_rows(features, "features")
    singular_values = np.sqrt(
        np.maximum(np.linalg.eigvalsh(_products(features, batch_size)), 0)
    )
    total = np.sum(singular_values)
    share = singular_values / (total if total > 0 else 1.0)
    share += _RANK_ME_EPSILON
    return float(np.exp(-np.sum(share * np.log(share))))


def feature_std(features, batch_size=1024):
    """How much features vary from image to image.

    The standard deviation of each dimension over the images, of rows divided
    by their lengths, and the mean of these over the dimensions. 1 / sqrt(F) is
    the best, that of rows spread evenly over the sphere; 0 is that of rows
    that are all equal, a collapse.

    Features that are not negative, as after a ReLU, have a mean and so stay
    below 1 / sqrt(F). A collapse to one line of two opposite directions is not
    seen here but by `rank_me`.

    Args:
        features: Float array (N, F), not normalized, a row an image.
        batch_size: Positive integer, rows at a time. Defaults to 1,024.

    Returns:
        Float in [0, 1 / sqrt(F)], summed in float64. The standard deviations
        are those of the N rows themselves, with N and not N - 1 below.

    Raises:
        ValueError: If `features` is not (N, F), holds a single row or values
            that are not finite, or if `batch_size` is not positive.

    Example:
        >>> import numpy as np
        >>> import simclr_keras
        >>> features = np.array([[1.0, 0.0], [-1, 0], [0, 1], [0, -1]])
        >>> round(simclr_keras.evaluation.feature_std(features), 4)
        0.7071
        >>> simclr_keras.evaluation.feature_std(np.ones((4, 2)))
        0.0

    Reference:
        - [Chen and He, 2021](https://arxiv.org/abs/2011.10566), Section 4.1,
          Figure 2 (middle).
    """
    features = _check_rows(features, "features")
    first = unit_rows(features[:1])

    def mean_of(function):
        total = np.zeros(features.shape[1])
        for rows in _batches(len(features), batch_size):
            total += np.sum(function(unit_rows(features[rows])), axis=0)
        return total / len(features)

    # From the first row, so that the mean of equal rows is not rounded.
    mean = first + mean_of(lambda rows: rows - first)
    variance = mean_of(lambda rows: (rows - mean) ** 2)  # (F,)
    return float(np.mean(np.sqrt(variance)))


def pair_similarity(z_i, z_j, batch_size=1024):
    """How similar positive pairs are, and how similar all other pairs.

    Mean cosines of first views with second views: of the N pairs of one image,
    and of the N (N - 1) pairs of two. Good is a wide gap between the two, with
    negatives near 0 and positives near 1; positives near 1 alone are what a
    collapsed representation has too.

    Args:
        z_i: Float array (N, D), not normalized: projections or
            representations of the images' first views.
        z_j: Float array (N, D): those of their second views, in the same
            order.
        batch_size: Positive integer, rows at a time. Defaults to 1,024.

    Returns:
        `PairSimilarity`, a pair (positives, negatives) of floats in [-1, 1],
        summed in float64. A row of zeros has the cosine 0 to every other.

    Raises:
        ValueError: If the shapes differ or are not (N, D), there is a single
            row, values are not finite, or `batch_size` is not positive.

    Example:
        >>> import numpy as np
        >>> import simclr_keras
        >>> z = np.array([[2.0, 0.0], [0.0, 3.0]])
        >>> simclr_keras.evaluation.pair_similarity(z, z)
        PairSimilarity(positives=1.0, negatives=0.0)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Equation 1:
          the cosines that NT-Xent compares.
    """
    z_i, z_j = _check_views(z_i, z_j)
    positives = 0.0
    sum_i, sum_j = np.zeros((2, z_i.shape[1]))
    for rows in _batches(len(z_i), batch_size):
        a, b = unit_rows(z_i[rows]), unit_rows(z_j[rows])
        positives += np.sum(a * b)
        sum_i += np.sum(a, axis=0)
        sum_j += np.sum(b, axis=0)
    # The sum of the cosines of all pairs is the product of the sums.
    negatives = np.sum(sum_i * sum_j) - positives
    num_rows = len(z_i)
    return PairSimilarity(
        float(positives / num_rows),
        float(negatives / (num_rows * (num_rows - 1))),
    )


def contrastive_accuracy(z_i, z_j, batch_size=1024):
    """Share of first views whose nearest second view is of the same image.

    Over the whole set, where `metrics.ContrastiveAccuracy` compares the images
    of a batch: the candidates are all N second views. The larger the better: 1
    is perfect, and 1 / N is chance, so that only sets of one size compare.

    A tie counts as a miss, so that a collapsed representation has 0.

    Args:
        z_i: Float array (N, D), not normalized: projections or
            representations of the images' first views.
        z_j: Float array (N, D): those of their second views, in the same
            order.
        batch_size: Positive integer; cosines of so many first views with so
            many second views are held at a time. Defaults to 1,024.

    Returns:
        Float in [0, 1]. Cosines are computed in float64; those that differ by
        less than 1e-12 are equal.

    Raises:
        ValueError: If the shapes differ or are not (N, D), there is a single
            row, values are not finite, or `batch_size` is not positive.

    Example:
        >>> import numpy as np
        >>> import simclr_keras
        >>> z = np.eye(4)
        >>> simclr_keras.evaluation.contrastive_accuracy(z, z)
        1.0
        >>> simclr_keras.evaluation.contrastive_accuracy(z, z[[0, 1, 3, 2]])
        0.5

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709): the contrastive
          accuracy that its code logs while training.
    """
    z_i, z_j = _check_views(z_i, z_j)
    num_right = 0
    for rows in _batches(len(z_i), batch_size):
        a = unit_rows(z_i[rows])
        own = np.sum(a * unit_rows(z_j[rows]), axis=1)  # (B,)
        is_right = np.ones(len(a), dtype=bool)
        for columns in _batches(len(z_j), batch_size):
            cosine = a @ unit_rows(z_j[columns]).T  # (B, B)
            if columns == rows:
                np.fill_diagonal(cosine, -np.inf)
            is_right &= np.max(cosine, axis=1) < own - _COSINE_ROUNDING
        num_right += int(np.sum(is_right))
    return num_right / len(z_i)


def _products(features, batch_size):
    """Products of all columns (F, F), or of all rows (N, N) if fewer."""
    num_rows, num_features = features.shape
    matrix = features if num_rows >= num_features else features.T
    # The square of no float32 is too large or too small for float64.
    products = np.zeros((matrix.shape[1],) * 2)
    for rows in _batches(len(matrix), batch_size):
        batch = matrix[rows].astype("float64")
        products += batch.T @ batch
    return products


def unit_rows(features):
    """Rows of length 1 in float64; a row of zeros stays zero."""
    features = np.asarray(features, dtype="float64")
    length = np.sqrt(np.sum(features**2, axis=1, keepdims=True))
    return features / np.where(length > 0, length, 1.0)


def _log_sum(exponents):
    """log(sum(exp(x))) of a whole array, where exp(x) may be too small."""
    largest = np.max(exponents)
    return largest + np.log(np.sum(np.exp(exponents - largest)))


def _num_pairs(num_rows):
    return num_rows * (num_rows - 1) / 2


def _batches(num_rows, batch_size, start=0):
    """Slices of at most `batch_size` rows."""
    batch_size = check_count(batch_size, "batch_size")
    return [
        slice(i, min(i + batch_size, num_rows))
        for i in range(start, num_rows, batch_size)
    ]


def _check_rows(features, name, least=2):
    """Returns finite features (N, F), of at least so many rows."""
    features = check_features(features, name)
    if len(features) < least:
        raise ValueError(
            f"`{name}` must hold {least} rows or more, as this compares one "
            f"image with another. Received: {name}.shape={features.shape}. "
            "Pass the features of a whole set of images."
        )
    return features


def _check_views(z_i, z_j, least=2):
    """Returns two views' features (N, D), of one shape."""
    z_i = _check_rows(z_i, "z_i", least)
    z_j = _check_rows(z_j, "z_j", least)
    if z_i.shape != z_j.shape:
        raise ValueError(
            "`z_i` and `z_j` must have the same shape (N, D), row k of each a "
            f"view of image k. Received: z_i.shape={z_i.shape}, "
            f"z_j.shape={z_j.shape}."
        )
    return z_i, z_j
