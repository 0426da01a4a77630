"""Projections, each view's with the views of all replicas."""

import keras
from keras import ops

from simclr_keras import distribution
from simclr_keras.argument_checks import to_numbers


def all_pairs(z):
    """The products of each of this replica's views with every view.

    Args:
        z: Float tensor (n, 2, D), the projections of n pairs of views.

    Returns:
        Three tensors: the products (2n, 2N); the column in which each row's
        own view stands, int32 (2n,); and the one of its partner. Views are the
        first ones, then the second ones.
    """
    z_i, z_j = ops.unstack(z, axis=1)
    # The candidates: first views, then second views, of every replica.
    all_i, all_j = distribution.all_gather(z_i), distribution.all_gather(z_j)
    anchors = ops.concatenate([z_i, z_j], axis=0)  # (2n, D)
    candidates = ops.concatenate([all_i, all_j], axis=0)  # (2N, D)
    products = ops.matmul(anchors, ops.transpose(candidates))
    index = distribution.sample_index(ops.shape(z_i)[0])  # (n,)
    num_images = ops.shape(all_i)[0]  # N
    itself = ops.concatenate([index, index + num_images], axis=0)
    partner = ops.concatenate([index + num_images, index], axis=0)
    return products, itself, partner


def is_column(products, column):
    """Where in a row of products one column stands, boolean (2n, 2N)."""
    view = ops.arange(ops.shape(products)[1], dtype="int32")
    return column[:, None] == view[None, :]


def positive_pairs(z):
    """The product of each view with its partner, (2n,), from (n, 2, D)."""
    z_i, z_j = ops.unstack(z, axis=1)  # Both are on the same replica.
    return ops.tile(ops.sum(z_i * z_j, axis=-1), [2])


def stack_views(z_i, z_j, is_normalized=True):
    """Both views' projections (n, 2, D), in 32 bits or more.

    Raises:
        ValueError: If shapes differ or there are no negatives.
    """
    check_projections(z_i, z_j)
    if z_i.shape[0] in (0, 1) and distribution.num_replicas() == 1:
        raise ValueError(
            "A contrastive loss needs at least two images in a batch: a single "
            "one has no negatives. Received: projections of shape "
            f"{tuple(z_i.shape)}. Use a larger batch, and "
            "`drop_remainder=True` if the last one is short."
        )
    # Neither small projections nor sums of exponentials fit into 16 bits.
    dtype = keras.backend.result_type(z_i.dtype, "float32")
    z = ops.cast(ops.stack([z_i, z_j], axis=1), dtype)
    return normalize(z) if is_normalized else z


def normalize(z):
    """Rows of length 1; a row of zeros stays zero, and has no gradient.

    A row of zeros has no direction. `ops.normalize` has the same values, but a
    gradient of 1e12 there, which takes a black image's loss to the weights. A
    row with NaN stays NaN, for the loss to tell.
    """
    squares = ops.sum(ops.square(z), axis=-1, keepdims=True)
    is_zero = squares <= 1e-24  # Not so of NaN.
    # Before the root, as a gradient passes through what is not chosen too.
    squares = ops.where(is_zero, ops.ones_like(squares), squares)
    return ops.where(is_zero, ops.zeros_like(z), z * ops.rsqrt(squares))


def as_projections(z_i, z_j):
    """Both as tensors or arrays, of which there is one row an image.

    Raises:
        TypeError: If they do not hold numbers.
        ValueError: If they are numbers, without rows.
    """
    z_i, z_j = to_numbers("z_i", z_i), to_numbers("z_j", z_j)
    if not len(z_i.shape) or not len(z_j.shape):
        check_projections(z_i, z_j)
    return z_i, z_j


def check_projections(z_i, z_j):
    """Raises a `ValueError` unless both have the same shape (N, D)."""
    a, b = tuple(z_i.shape), tuple(z_j.shape)
    differ = any(
        m is not None and n is not None and m != n for m, n in zip(a, b)
    )
    if len(a) != 2 or len(b) != 2 or differ or 0 in (a[1], b[1]):
        raise ValueError(
            "`z_i` and `z_j` must have the same shape (N, D), row k of each a "
            f"view of image k, D at least 1. Received: z_i.shape={a}, "
            f"z_j.shape={b}."
        )
