"""The loss of SimCLR: normalized temperature-scaled cross entropy."""

import keras
from keras import ops

from simclr_keras import distribution
from simclr_keras.argument_checks import check_boolean, check_number
from simclr_keras.losses.contrastive_loss import ContrastiveLoss
from simclr_keras.losses.log_sums import check_block_size, log_sums
from simclr_keras.losses.pairs import positive_pairs, stack_views


@keras.saving.register_keras_serializable(package="simclr_keras")
class NTXentLoss(ContrastiveLoss):
    """Normalized temperature-scaled cross entropy (NT-Xent).

    Every view is asked to find the other view of its image among all other
    views of the batch, by the cosine of their projections. With s the cosine,
    t the temperature and k over the 2N views,

        loss(i, j) = -log(exp(s(i, j) / t) / sum_{k != i} exp(s(i, k) / t)),

    and the mean is over both directions of the N positive pairs. Equal
    projections give log(2N - 1). The decoupled loss leaves k = j out as well,
    and can give less weight to a pair that is close already.

    In a replica of `tf.distribute` the candidates are the views of all
    replicas: each replica compares its own 2n views with the 2N of the global
    batch, and the gradient is that of one device with the global batch.

    Args:
        temperature: Number of at least 1e-6, t above, or a
            `LearnedTemperature`.
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
            columns; or "auto": one block for at most 512 images, the dense
            form if there are several replicas, and blocks of 512 for more or
            for an unknown number. Where XLA compiles the loss, as on JAX, one
            block for at most 4,096 images and blocks of 2,048. Defaults to
            "auto".
        decoupled: Whether the positive pair is left out of the denominator,
            so that it does not damp its own gradient, which helps with small
            batches. Defaults to False.
        positive_weighting: With `decoupled`, positive number sigma: the term
            -s(i, j) / t of a pair then has the weight
            2 - exp(s(i, j) / sigma) / mean(exp(s / sigma)), the mean over the
            pairs of the global batch, and without a gradient of its own; 0.5
            in the paper. None gives all pairs the weight 1. Defaults to None.
        normalize: Whether projections are scaled to length 1. Without, s is
            the product (Table 5: worse). Defaults to True.

    Call arguments:
        z_i: Float tensor (N, D): projections of the images' first views. They
            need not be normalized.
        z_j: Float tensor (N, D): those of the second views, in the same order.

    Returns:
        The mean as a scalar, in nats, or what `reduction` makes of the losses
        (2N,): those of the first views, then those of the second.

    Raises:
        TypeError: If `temperature` is neither a number nor learned,
            `block_size` none of the above, `decoupled` or `normalize` not a
            boolean or `positive_weighting` not a number.
        ValueError: If `temperature`, `block_size` or `positive_weighting` is
            not positive, the latter is given without `decoupled` or without
            `normalize`, the shapes differ or are not (N, D), or the batch
            holds a single image, which has no negatives.

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
          decoupled loss; Equation 7: its weighting of positive pairs.
    """

    def __init__(
        self,
        temperature=0.1,
        reduction="sum_over_batch_size",
        name="nt_xent",
        dtype=None,
        block_size="auto",
        decoupled=False,
        positive_weighting=None,
        normalize=True,
    ):
        super().__init__(temperature, reduction, name, dtype)
        self.block_size = check_block_size(block_size)
        self.decoupled = check_boolean("decoupled", decoupled)
        self.normalize = check_boolean("normalize", normalize)
        self.positive_weighting = positive_weighting
        if positive_weighting is not None:
            check_number(
                "positive_weighting",
                positive_weighting,
                "be a positive number",
                lambda x: 1e-30 <= x <= 1e30,  # Its inverse is taken, too.
            )
            if not decoupled or not normalize:
                raise ValueError(
                    "`positive_weighting` belongs to the decoupled loss of "
                    "normalized projections. Received: positive_weighting="
                    f"{positive_weighting!r}, decoupled={decoupled}, "
                    f"normalize={normalize}."
                )

    def view_losses(self, z_i, z_j, labels=None):
        z = stack_views(z_i, z_j, self.normalize)  # (n, 2, D)
        losses, positives = log_sums(
            z,
            self.temperature,
            self.block_size,
            self.decoupled,
            self.normalize,
        )
        if self.positive_weighting is None:
            return losses
        # A weight has no gradient: with one, close pairs would be driven apart.
        cosines = ops.stop_gradient(positive_pairs(z))
        # Of which the largest is 1, as in a softmax.
        largest = ops.max(distribution.all_gather(cosines))
        pull = ops.exp((cosines - largest) / self.positive_weighting)
        weights = 2 - pull / ops.mean(distribution.all_gather(pull))
        return losses + (1 - weights) * positives

    def get_config(self):
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "decoupled": self.decoupled,
            "positive_weighting": self.positive_weighting,
            "normalize": self.normalize,
        }
