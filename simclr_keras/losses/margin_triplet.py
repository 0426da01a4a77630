"""Triplet loss with a margin, an alternative that the paper studies."""

import keras
from keras import ops

from simclr_keras.argument_checks import check_boolean, check_number
from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.negatives import mean_over_negatives
from simclr_keras.losses.pairs import all_pairs, positive_pairs, stack_views


@keras.saving.register_keras_serializable(package="simclr_keras")
class MarginTripletLoss(ContrastiveLoss):
    """Triplets of a view, its partner and a negative, with a margin.

    A view has to be closer to its partner than to any negative, by a margin.
    With s the cosine of two projections, j the partner of view i, m the margin
    and k the negatives, the 2N - 2 views of other images of the global batch,

        loss(i) = mean_k max(s(i, k) - s(i, j) + m, 0).

    Triplets that keep the margin have no gradient, the others all have the
    same, however hard they are (Section 5.1, Table 2). There is no
    temperature. At equal projections the loss is m.

    Args:
        margin: Number of at least 0, in units of the cosine, whose range is 2.
            Defaults to 0.4; the paper tunes it.
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
        The mean as a scalar, or what `reduction` makes of the losses (2N,).
        Memory is O(N^2).

    Raises:
        TypeError: If `margin` is not a number, or `semi_hard` not a boolean.
        ValueError: If `margin` is negative, the shapes differ or are not
            (N, D), or the batch holds a single image.

    Example:
        >>> import keras, simclr_keras
        >>> z_i = keras.random.normal((8, 128), seed=1)
        >>> z_j = keras.random.normal((8, 128), seed=2)
        >>> loss = simclr_keras.losses.MarginTripletLoss(0.4)(z_i, z_j)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Tables 2
          and 4.
        - [Schroff et al., 2015](https://arxiv.org/abs/1503.03832), Section
          3.2: semi-hard negatives.
    """

    def __init__(
        self,
        margin=0.4,
        semi_hard=False,
        reduction="sum_over_batch_size",
        name="margin_triplet",
        dtype=None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.margin = check_number(
            "margin",
            margin,
            "be a number from 0 to 1e30",
            lambda x: 0 <= x <= 1e30,  # Losses are added up in float32.
        )
        self.semi_hard = check_boolean("semi_hard", semi_hard)

    @property
    def temperature(self):
        """None: this loss has no temperature."""
        return None

    def view_losses(self, z_i, z_j, labels=None):
        z = stack_views(z_i, z_j)
        products, itself, partner = all_pairs(z)
        positives = positive_pairs(z)
        return mean_over_negatives(
            ops.relu(products - positives[:, None] + self.margin),
            products,
            positives,
            (itself, partner),
            self.semi_hard,
        )

    def get_config(self):
        config = super().get_config()
        del config["temperature"]
        return {
            **config,
            "margin": self.margin,
            "semi_hard": self.semi_hard,
        }
