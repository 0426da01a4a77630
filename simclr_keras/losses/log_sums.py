"""The logarithm of what a view's similarities add up to, dense or in blocks."""

import math
import numbers

import keras
from keras import ops

from simclr_keras import distribution, keras_private
from simclr_keras.losses.pairs import all_pairs, is_column, positive_pairs
from simclr_keras.losses.temperature import in_dtype
from simclr_keras.losses.tiled_nt_xent import (
    LOWEST,
    is_symbol,
    tiled_log_sums,
)

# What "auto" does: up to so many images one block, then blocks of so many rows
# and columns. One block takes two products of all pairs where the dense form,
# differentiated by the backend, takes three: 0.69 of its time at 256 images and
# 0.64 at 512 on two cores, for about its memory. XLA's loops leave processors
# idle: there one block was faster than many up to 4096, for half a GiB. A GPU
# waits between small blocks: with 4,096 images an H200 took 16.6 ms by blocks
# of 512, 1.1 ms by blocks of 4,096 and 0.56 ms by one.
_MOST_IMAGES_IN_A_BLOCK, _BLOCK_SIZE = 512, 512
_MOST_IMAGES_IN_A_BLOCK_IN_XLA, _BLOCK_SIZE_IN_XLA = 4096, 2048


def log_sums(
    z, temperature, block_size="auto", decoupled=False, is_normalized=True
):
    """The logarithms of sum_k exp(z_i . z_k / t) over the other views k.

    They are those of all replicas.

    Args:
        z: Float tensor (n, 2, D), the projections of this replica's pairs of
            views, of length 1 if `is_normalized`.
        temperature: Positive number, or a scalar variable or tensor, t.
        block_size: As in `NTXentLoss`.
        decoupled: Whether the partner of i is left out, as i itself is.
        is_normalized: Whether no product exceeds 1.

    Returns:
        Two float tensors (2n,), of the first views, then of the second: the
        logarithms less z_i . z_j / t, j the partner of i, and these. Apart, as
        a logarithm of some hundreds would round away what they differ by.
    """
    temperature = in_dtype(temperature, z.dtype)
    if block_size == "auto":
        block_size = _best_block_size(z.shape[0])
    if block_size is None or is_symbol(z.shape[0]):
        return _dense(z, temperature, decoupled)
    return _tiled(z, temperature, block_size, decoupled, is_normalized)


def _dense(z, temperature, decoupled):
    """By a matrix (2n, 2N)."""
    products, itself, partner = all_pairs(z)
    # A view is not its own negative.
    is_out = is_column(products, itself)
    if decoupled:
        is_out = is_out | is_column(products, partner)
    logits = products / temperature
    kept = ops.where(is_out, LOWEST, logits)
    partners = positive_pairs(z) / temperature
    if decoupled:
        return ops.logsumexp(kept, axis=-1) - partners, partners
    less = keras.losses.sparse_categorical_crossentropy(
        partner, kept, from_logits=True
    )
    return less, partners


def _tiled(z, temperature, block_size, decoupled, is_normalized):
    """By blocks of that matrix."""
    # A number as a tensor would be rounded to float32.
    is_number = isinstance(temperature, (int, float))
    u = z / (math.sqrt(temperature) if is_number else ops.sqrt(temperature))
    largest = 1 / temperature if is_normalized else math.inf
    partners = positive_pairs(u)
    return tiled_log_sums(
        u, largest, block_size, decoupled
    ) - partners, partners


def _best_block_size(num_images):
    """What "auto" stands for with so many images on this replica, or None."""
    most, block_size = _MOST_IMAGES_IN_A_BLOCK, _BLOCK_SIZE
    if keras.backend.backend() == "jax" or keras_private.in_xla():
        most, block_size = _MOST_IMAGES_IN_A_BLOCK_IN_XLA, _BLOCK_SIZE_IN_XLA
    if not isinstance(num_images, int):
        return block_size
    num_replicas = distribution.num_replicas()
    if num_images * num_replicas > most:
        return block_size
    # Blocks are square: rows of one replica would be padded to those of all.
    return 2 * num_images if num_replicas == 1 else None


def check_block_size(block_size):
    """Returns None, "auto" or a positive integer; raises for others."""
    expected = '`block_size` must be None, "auto" or a positive integer'
    if block_size is None or (
        isinstance(block_size, str) and block_size == "auto"
    ):
        return block_size
    if isinstance(block_size, bool) or not isinstance(
        block_size, numbers.Integral
    ):
        raise TypeError(
            f"{expected}. Received: block_size={block_size!r}. Leave it out "
            "for the best on most machines."
        )
    if block_size < 1:
        raise ValueError(
            f"{expected}. Received: block_size={block_size!r}. Use None for "
            "no blocks."
        )
    return int(block_size)
