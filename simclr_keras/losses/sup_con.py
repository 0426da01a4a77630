"""Supervised contrastive loss: all images of a class are positives."""

import keras
from keras import ops

from simclr_keras import distribution
from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.log_sums import check_block_size, log_sums
from simclr_keras.losses.pairs import stack_views
from simclr_keras.losses.temperature import in_dtype


@keras.saving.register_keras_serializable(package="simclr_keras")
class SupConLoss(ContrastiveLoss):
    """Supervised contrastive loss, with the logarithm inside the sum (L_out).

    NT-Xent with the labels at hand: every other view of the same class in the
    global batch is a positive. With s the cosine, t the temperature, P(i) the
    positives of view i, p over P(i) and k over all other views,

        loss(i) = -mean_p log(exp(s(i, p) / t) / sum_k exp(s(i, k) / t)),

    and the mean is over all views. A batch of as many classes as images gives
    NT-Xent. Sums over a class are those of its projections, so that memory is
    O(N D), as that of the blocks is.

    Args:
        temperature: Positive number t, or a `LearnedTemperature`. Defaults to
            0.1, the best in the paper's Section 4.4.
        reduction: See `keras.losses.Loss`. Defaults to the mean.
        name: Name of the loss.
        dtype: Of the computation, as in `NTXentLoss`.
        block_size: As in `NTXentLoss`.

    Call arguments:
        z_i: Float tensor (N, D): projections of the images' first views. They
            need not be normalized.
        z_j: Float tensor (N, D): those of the second views, in the same order.
        labels: Integer tensor (N,), the images' classes; `SimCLRModel` passes
            those of the batch, as in `model.fit(images, labels)`.

    Returns:
        The mean as a scalar, in nats, or what `reduction` makes of the losses
        (2N,).

    Raises:
        TypeError, ValueError: As `NTXentLoss`; also without labels.

    Example:
        >>> import keras, simclr_keras
        >>> z_i = keras.random.normal((8, 128), seed=1)
        >>> z_j = keras.random.normal((8, 128), seed=2)
        >>> loss = simclr_keras.losses.SupConLoss()
        >>> value = loss(z_i, z_j, labels=[0, 0, 1, 1, 2, 2, 3, 3])

    Reference:
        - [Khosla et al., 2020](https://arxiv.org/abs/2004.11362), Equation 2.
    """

    uses_labels = True

    def __init__(
        self,
        temperature=0.1,
        reduction="sum_over_batch_size",
        name="sup_con",
        dtype=None,
        block_size="auto",
    ):
        super().__init__(temperature, reduction, name, dtype)
        self.block_size = check_block_size(block_size)

    def view_losses(self, z_i, z_j, labels=None):
        z = stack_views(z_i, z_j)  # (n, 2, D)
        temperature = in_dtype(self.temperature, z.dtype)
        less, partners = log_sums(z, temperature, self.block_size)
        # The products of a view with all of its class are that with their sum.
        sums, counts = _class_sums(z, labels)  # (n, D), (n,)
        with_class = ops.sum(z * sums[:, None], axis=-1)  # (n, 2)
        with_itself = ops.sum(ops.square(z), axis=-1)
        positives = (with_class - with_itself) / (2 * counts - 1)[:, None]
        positives = ops.reshape(ops.transpose(positives), (-1,))
        return less + (partners - positives / temperature)

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size}


def _class_sums(z, labels):
    """Of each image's class: the sum of the views, and how many images.

    Args:
        z: Float tensor (n, 2, D).
        labels: int32 tensor (n,).

    Returns:
        Float tensors (n, D) and (n,), over the images of all replicas.
    """
    num_images = ops.shape(z)[0]
    all_labels = distribution.all_gather(labels)  # (N,)
    all_sums = distribution.all_gather(ops.sum(z, axis=1))  # (N, D)
    # Classes in a row, numbered from 0: labels may be any integers.
    order = ops.argsort(all_labels)
    in_order = ops.take(all_labels, order)
    is_new = ops.cast(in_order[1:] != in_order[:-1], "int32")
    number = ops.concatenate([ops.zeros((1,), "int32"), ops.cumsum(is_new)])
    # Each image's number, at its own place again.
    number = ops.take(number, ops.argsort(order))
    num_classes = ops.shape(all_labels)[0]  # at most
    sums = ops.segment_sum(all_sums, number, num_segments=num_classes)
    ones = ops.ones_like(all_sums[:, 0])
    counts = ops.segment_sum(ones, number, num_segments=num_classes)
    own = ops.take(number, distribution.sample_index(num_images))
    return ops.take(sums, own, axis=0), ops.take(counts, own)
