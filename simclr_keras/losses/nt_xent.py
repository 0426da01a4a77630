"""The loss of SimCLR: normalized temperature-scaled cross entropy."""

import math
import numbers

import keras
from keras import ops

from simclr_keras import distribution, keras_private
from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.tiled_nt_xent import (
    LOWEST,
    is_symbol,
    tiled_log_sums,
)

# What "auto" does: up to so many images one block, then blocks of so many rows
# and columns. One block takes two products of all pairs where the dense form,
# differentiated by the backend, takes three: 0.69 of its time at 256 images and
# 0.64 at 512 on two cores, for about its memory. XLA's loops leave processors
# idle: there one block was faster than many up to 4096, for half a GiB.
_MOST_IMAGES_IN_A_BLOCK = 512
_MOST_IMAGES_IN_A_BLOCK_IN_XLA = 4096
_BLOCK_SIZE = 512


@keras.saving.register_keras_serializable(package="simclr_keras")
class NTXentLoss(ContrastiveLoss):
    """Normalized temperature-scaled cross entropy (NT-Xent).

    Every view is asked to find the other view of its image among all other
    views of the batch, by the cosine of their projections. With s the cosine,
    t the temperature and k over the 2N views,

        loss(i, j) = -log(exp(s(i, j) / t) / sum_{k != i} exp(s(i, k) / t)),

    and the mean is over both directions of the N positive pairs. Equal
    projections give log(2N - 1). The decoupled loss leaves k = j out as well.

    In a replica of `tf.distribute` the candidates are the views of all
    replicas: each replica compares its own 2n views with the 2N of the global
    batch, and the gradient is that of one device with the global batch.

    Args:
        temperature: Positive number, t above, or a `LearnedTemperature`.
            `loss.temperature = 0.2` changes it, also between the steps of
            `fit`. Defaults to 0.1, the best for ImageNet (Table 5); 0.5 is the
            best for CIFAR-10 when trained to convergence (Appendix B.9), 0.2
            does well with small batches.
        reduction: See `keras.losses.Loss`. Defaults to the mean.
        name: Name of the loss.
        dtype: Of the computation. Defaults to `keras.config.floatx()`, float32
            under mixed precision too.
        block_size: None for the dense form, which can be differentiated
            twice; a positive integer for blocks of at most so many rows and
            columns; or "auto": one block for at most 512 images (4,096 where
            XLA compiles the loss, as on JAX; the dense form if there are
            several replicas), blocks of 512 for more or for an unknown number.
            Defaults to "auto".
        decoupled: Whether the positive pair is left out of the denominator,
            so that it does not damp its own gradient, which helps with small
            batches. Defaults to False.

    Call arguments:
        z_i: Float tensor (N, D): projections of the images' first views. They
            need not be normalized.
        z_j: Float tensor (N, D): those of the second views, in the same order.

    Returns:
        The mean as a scalar, in nats, or what `reduction` makes of the losses
        (2N,): those of the first views, then those of the second.

    Raises:
        TypeError: If `temperature` is neither a number nor learned,
            `block_size` none of the above or `decoupled` not a boolean.
        ValueError: If `temperature` or `block_size` is not positive, the
            shapes differ or are not (N, D), or the batch holds a single image,
            which has no negatives.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> z_i = keras.random.normal((8, 128), seed=1)
        >>> z_j = keras.random.normal((8, 128), seed=2)
        >>> loss = simclr_keras.NTXentLoss(temperature=0.5)(z_i, z_j)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Equation 1
          and Algorithm 1. Google's published code, TF Similarity and KerasCV
          return the sum of both directions: twice this.
        - [Yeh et al., 2021](https://arxiv.org/abs/2110.06848), Equation 6: the
          decoupled loss.
    """

    def __init__(
        self,
        temperature=0.1,
        reduction="sum_over_batch_size",
        name="nt_xent",
        dtype=None,
        block_size="auto",
        decoupled=False,
    ):
        super().__init__(temperature, reduction, name, dtype)
        self.block_size = _check_block_size(block_size)
        if not isinstance(decoupled, bool):
            raise TypeError(
                "`decoupled` must be True or False. Received: "
                f"decoupled={decoupled!r}."
            )
        self.decoupled = decoupled

    def view_losses(self, z_i, z_j, labels=None):
        return nt_xent(
            z_i, z_j, self.temperature, self.block_size, self.decoupled
        )

    def get_config(self):
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "decoupled": self.decoupled,
        }


def nt_xent(z_i, z_j, temperature, block_size=None, decoupled=False):
    """The losses (2n,) of this replica's views; see `NTXentLoss`."""
    check_projections(z_i, z_j)
    if z_i.shape[0] == 1 and distribution.num_replicas() == 1:
        raise ValueError(
            "NT-Xent needs at least two images in a batch: a single one has "
            "no negatives. Received projections of shape "
            f"{tuple(z_i.shape)}. Use a larger batch, and "
            "`drop_remainder=True` if the last one is short."
        )
    # Neither small projections nor sums of exponentials fit into 16 bits.
    dtype = keras.backend.result_type(z_i.dtype, "float32")
    z = normalize(ops.cast(ops.stack([z_i, z_j], axis=1), dtype))  # (n, 2, D)
    if not isinstance(temperature, (int, float)):  # A variable or a tensor.
        temperature = ops.cast(temperature, dtype)
    if block_size == "auto":
        block_size = _best_block_size(z.shape[0])
    if block_size is None or is_symbol(z.shape[0]):
        return _dense(z, temperature, decoupled)
    return _tiled(z, temperature, block_size, decoupled)


def _dense(z, temperature, decoupled):
    """The losses of normalized projections, by a matrix (2n, 2N)."""
    z_i, z_j = ops.unstack(z, axis=1)
    # The candidates: first views, then second views, of every replica.
    all_i, all_j = distribution.all_gather(z_i), distribution.all_gather(z_j)
    anchors = ops.concatenate([z_i, z_j], axis=0)  # (2n, D)
    candidates = ops.concatenate([all_i, all_j], axis=0)  # (2N, D)
    logits = ops.matmul(anchors, ops.transpose(candidates)) / temperature

    index = distribution.sample_index(ops.shape(z_i)[0])  # (n,)
    num_images = ops.shape(all_i)[0]  # N
    itself = ops.concatenate([index, index + num_images], axis=0)
    partner = ops.concatenate([index + num_images, index], axis=0)
    view = ops.arange(2 * num_images, dtype="int32")
    # A view is not its own negative.
    logits = ops.where(itself[:, None] == view[None, :], LOWEST, logits)
    if not decoupled:
        return keras.losses.sparse_categorical_crossentropy(
            partner, logits, from_logits=True
        )
    logits = ops.where(partner[:, None] == view[None, :], LOWEST, logits)
    positives = ops.sum(z_i * z_j, axis=-1) / temperature
    return ops.logsumexp(logits, axis=-1) - ops.tile(positives, [2])


def _tiled(z, temperature, block_size, decoupled):
    """The losses of normalized projections, by blocks of that matrix."""
    # A number as a tensor would be rounded to float32.
    is_number = isinstance(temperature, (int, float))
    u = z / (math.sqrt(temperature) if is_number else ops.sqrt(temperature))
    log_sums = tiled_log_sums(u, temperature, block_size, decoupled)
    # Both views of an image are on the same replica.
    u_i, u_j = ops.unstack(u, axis=1)
    return log_sums - ops.tile(ops.sum(u_i * u_j, axis=-1), [2])


def _best_block_size(num_images):
    """What "auto" stands for with so many images on this replica, or None."""
    if not isinstance(num_images, int):
        return _BLOCK_SIZE
    num_replicas = distribution.num_replicas()
    is_xla = keras.backend.backend() == "jax" or keras_private.in_xla()
    most = _MOST_IMAGES_IN_A_BLOCK_IN_XLA if is_xla else _MOST_IMAGES_IN_A_BLOCK
    if num_images * num_replicas > most:
        return _BLOCK_SIZE
    # Blocks are square: rows of one replica would be padded to those of all.
    return 2 * num_images if num_replicas == 1 else None


def _check_block_size(block_size):
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


def normalize(z):
    """Rows of length 1; a row of zeros stays zero, and has no gradient.

    A row of zeros has no direction. `ops.normalize` has the same values, but a
    gradient of 1e12 there, which takes a black image's loss to the weights.
    """
    squares = ops.sum(ops.square(z), axis=-1, keepdims=True)
    has_direction = squares > 1e-24
    # Before the root, as a gradient passes through what is not chosen too.
    squares = ops.where(has_direction, squares, ops.ones_like(squares))
    return ops.where(has_direction, z * ops.rsqrt(squares), ops.zeros_like(z))


def check_projections(z_i, z_j):
    """Raises a `ValueError` unless both have the same shape (N, D)."""
    a, b = tuple(z_i.shape), tuple(z_j.shape)
    differ = any(
        m is not None and n is not None and m != n for m, n in zip(a, b)
    )
    if len(a) != 2 or len(b) != 2 or differ:
        raise ValueError(
            "`z_i` and `z_j` must have the same shape (N, D), row k of each a "
            f"view of image k. Received: z_i.shape={a}, z_j.shape={b}."
        )
