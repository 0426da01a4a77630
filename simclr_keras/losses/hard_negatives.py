"""NT-Xent with negatives that weigh by how hard, and how likely, they are."""

import math

import keras
from keras import ops

from simclr_keras import distribution
from simclr_keras.argument_checks import check_number
from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.log_sums import check_block_size, log_sums
from simclr_keras.losses.pairs import positive_pairs, stack_views
from simclr_keras.losses.temperature import in_dtype

# With more, logits would go below what stands for minus infinity.
_MOST_CONCENTRATION = 100


@keras.saving.register_keras_serializable(package="simclr_keras")
class HardNegativeLoss(ContrastiveLoss):
    """NT-Xent whose negatives are weighted, and corrected for false ones.

    Views of other images that look alike teach most, but some of them are of
    the same class. With s the cosine, t the temperature, j the partner of view
    i, k its M = 2N - 2 negatives in the global batch, beta the concentration
    and tau the prior,

        R(i) = sum_k w_k exp(s(i, k) / t),
        w_k = exp(beta s(i, k) / t) / mean_k' exp(beta s(i, k') / t),
        G(i) = max((R(i) - M tau exp(s(i, j) / t)) / (1 - tau), M exp(-1 / t)),
        loss(i) = -log(exp(s(i, j) / t) / (exp(s(i, j) / t) + G(i))).

    A concentration of 0 is the debiased loss of Chuang et al.; with a prior of
    0 as well it is NT-Xent.

    Args:
        temperature: Positive number t, or a `LearnedTemperature`. Defaults to
            0.5, the paper's.
        concentration: Number from 0 to 100, beta: how much harder negatives
            weigh more. Defaults to 1.
        prior: Number in [0, 1), tau: how likely a view of another image is of
            the same class, 1 / classes where they are of one size. Defaults to
            0.1.
        reduction: See `keras.losses.Loss`. Defaults to the mean.
        name: Name of the loss.
        dtype: Of the computation, as in `NTXentLoss`.
        block_size: As in `NTXentLoss`. With a `concentration` two passes over
            the pairs are made, one for each sum.

    Call arguments:
        z_i: Float tensor (N, D): projections of the images' first views. They
            need not be normalized.
        z_j: Float tensor (N, D): those of the second views, in the same order.

    Returns:
        The mean as a scalar, in nats, or what `reduction` makes of the losses
        (2N,).

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If one is out of its range, and as `NTXentLoss`.

    Example:
        >>> import keras, simclr_keras
        >>> z_i = keras.random.normal((8, 128), seed=1)
        >>> z_j = keras.random.normal((8, 128), seed=2)
        >>> loss = simclr_keras.losses.HardNegativeLoss()(z_i, z_j)

    Reference:
        - [Robinson et al., 2021](https://arxiv.org/abs/2010.04592), Section
          3; exp(beta s / t) and the bound M exp(-1 / t) as in their code.
        - [Chuang et al., 2020](https://arxiv.org/abs/2007.00224), Equation 7.
    """

    def __init__(
        self,
        temperature=0.5,
        concentration=1.0,
        prior=0.1,
        reduction="sum_over_batch_size",
        name="hard_negatives",
        dtype=None,
        block_size="auto",
    ):
        super().__init__(temperature, reduction, name, dtype)
        self.concentration = check_number(
            "concentration",
            concentration,
            f"lie in [0, {_MOST_CONCENTRATION}], at which the hardest negative "
            "is all that counts",
            lambda x: 0 <= x <= _MOST_CONCENTRATION,
        )
        self.prior = check_number(
            "prior",
            prior,
            "lie in [0, 1), how likely two images are of one class",
            lambda x: 0 <= x < 1,
        )
        self.block_size = check_block_size(block_size)

    def view_losses(self, z_i, z_j, labels=None):
        z = stack_views(z_i, z_j)  # (n, 2, D)
        temperature = in_dtype(self.temperature, z.dtype)
        num_images = distribution.global_batch_size(ops.shape(z)[0])
        log_count = ops.log(ops.cast(2 * num_images - 2, z.dtype))  # log M

        def log_sum(power):
            """The logarithm of sum_k exp(power s(i, k) / t)."""
            less, partners = log_sums(
                z, temperature / power, self.block_size, decoupled=True
            )
            return less + partners

        # All of it as logarithms: exp(1 / t) is beyond float32 at t = 0.01.
        log_sum_of_weighted = log_sum(1 + self.concentration)
        if self.concentration:
            log_mean = log_sum(self.concentration) - log_count
            log_sum_of_weighted = log_sum_of_weighted - log_mean
        logits = positive_pairs(z) / temperature
        log_negatives = log_sum_of_weighted
        if self.prior:
            false = math.log(self.prior) + log_count + logits
            log_negatives = _log_difference(log_negatives, false)
            log_negatives = log_negatives - math.log(1 - self.prior)
            log_negatives = ops.maximum(
                log_negatives, log_count - 1 / temperature
            )
        return ops.softplus(log_negatives - logits)

    def get_config(self):
        return {
            **super().get_config(),
            "concentration": self.concentration,
            "prior": self.prior,
            "block_size": self.block_size,
        }


def _log_difference(a, b):
    """log(exp(a) - exp(b)); far below where a is no larger."""
    is_larger = a > b
    # Before the logarithm, as a gradient passes through what is not chosen.
    difference = ops.where(is_larger, b - a, -1.0)
    log = a + ops.log(-ops.expm1(difference))
    return ops.where(is_larger, log, -1e9)
