"""Logistic loss of pairs of views, an alternative that the paper studies."""

import keras
from keras import ops

from simclr_keras.argument_checks import check_boolean
from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.negatives import mean_over_negatives
from simclr_keras.losses.pairs import all_pairs, positive_pairs, stack_views
from simclr_keras.losses.temperature import in_dtype


@keras.saving.register_keras_serializable(package="simclr_keras")
class NTLogisticLoss(ContrastiveLoss):
    """Normalized temperature-scaled logistic loss (NT-Logistic).

    Each pair of views is asked whether it is of one image. With s the cosine
    of two projections, t the temperature, j the partner of view i and k its
    negatives, the 2N - 2 views of other images of the global batch,

        loss(i) = -log sigmoid(s(i, j) / t) - mean_k log sigmoid(-s(i, k) / t).

    The paper states it for one negative; the mean is what one drawn at random
    costs. There it is behind NT-Xent, since an easy negative weighs as much as
    a hard one (Section 5.1, Table 4).

    Args:
        temperature: Positive number t, or a `LearnedTemperature`. Defaults to
            0.1, the best for NT-Xent; the paper tunes it for each loss.
        semi_hard: Whether only the semi-hard negative counts: of those farther
            from the view than its partner, the closest. Where none is farther,
            it is the farthest of all. Defaults to False.
        reduction: See `keras.losses.Loss`. Defaults to the mean.
        name: Name of the loss.
        dtype: Of the computation, as in `NTXentLoss`.

    Call arguments:
        z_i: Float tensor (N, D): projections of the images' first views. They
            need not be normalized.
        z_j: Float tensor (N, D): those of the second views, in the same order.

    Returns:
        The mean as a scalar, in nats, or what `reduction` makes of the losses
        (2N,). Memory is O(N^2).

    Raises:
        TypeError: If `temperature` is neither a number nor learned, or
            `semi_hard` not a boolean.
        ValueError: If `temperature` is not positive, the shapes differ or are
            not (N, D), or the batch holds a single image.

    Example:
        >>> import keras, simclr_keras
        >>> z_i = keras.random.normal((8, 128), seed=1)
        >>> z_j = keras.random.normal((8, 128), seed=2)
        >>> loss = simclr_keras.losses.NTLogisticLoss()(z_i, z_j)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Tables 2
          and 4.
    """

    def __init__(
        self,
        temperature=0.1,
        semi_hard=False,
        reduction="sum_over_batch_size",
        name="nt_logistic",
        dtype=None,
    ):
        super().__init__(temperature, reduction, name, dtype)
        self.semi_hard = check_boolean("semi_hard", semi_hard)

    def view_losses(self, z_i, z_j, labels=None):
        z = stack_views(z_i, z_j)
        products, itself, partner = all_pairs(z)
        temperature = in_dtype(self.temperature, z.dtype)
        positives = positive_pairs(z)
        # -log sigmoid(x) is softplus(-x), without an overflow.
        attraction = ops.softplus(-positives / temperature)
        repulsion = mean_over_negatives(
            ops.softplus(products / temperature),
            products,
            positives,
            (itself, partner),
            self.semi_hard,
        )
        return attraction + repulsion

    def get_config(self):
        return {**super().get_config(), "semi_hard": self.semi_hard}
