"""Which views a view is told apart from, where each costs something."""

from keras import ops

from simclr_keras.losses.pairs import is_column
from simclr_keras.losses.tiled_nt_xent import LOWEST


def mean_over_negatives(costs, products, positives, own_columns, semi_hard):
    """What the negatives of each view cost on average, or the semi-hard one.

    Args:
        costs: Float tensor (2n, 2N), what each view would cost as a negative.
        products: Float tensor (2n, 2N), cosines: the larger, the closer.
        positives: Float tensor (2n,), the cosine of each view's partner.
        own_columns: Tuple of two int32 tensors (2n,), the columns of each view
            itself and of its partner, which are no negatives.
        semi_hard: Whether it is the closest negative that is farther than the
            partner, or the farthest one if none is.

    Returns:
        Float tensor (2n,).
    """
    itself, partner = own_columns
    is_own = is_column(products, itself) | is_column(products, partner)
    if not semi_hard:
        count = ops.cast(ops.shape(products)[1] - 2, costs.dtype)
        return ops.sum(ops.where(is_own, 0.0, costs), axis=1) / count
    is_farther = ~is_own & (products < positives[:, None])
    closest = ops.argmax(ops.where(is_farther, products, LOWEST), axis=1)
    farthest = ops.argmin(ops.where(is_own, -LOWEST, products), axis=1)
    chosen = ops.where(ops.any(is_farther, axis=1), closest, farthest)
    return ops.take_along_axis(costs, chosen[:, None], axis=1)[:, 0]
