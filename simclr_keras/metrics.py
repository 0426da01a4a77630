"""How well a view finds the other view of its image."""

import keras
from keras import ops

from simclr_keras import distribution
from simclr_keras.argument_checks import check_number, to_numbers
from simclr_keras.losses.pairs import (
    as_projections,
    check_projections,
    normalize,
)
from simclr_keras.losses.tiled_nt_xent import divide_up, in_blocks, is_symbol

# Similarities that are held at a time: 1 MiB of float32, which a processor's
# cache holds. With 16 MiB the metrics of 4,096 images took 1.8 times as long.
_MOST_SIMILARITIES = 2**18


def compare(z_i, z_j, measures):
    """Compares first views with the second views of all replicas.

    The similarities are computed for some first views at a time, so that there
    is never a matrix of all pairs of many images.

    Args:
        z_i: Float tensor (n, D): projections of this replica's first views.
        z_j: Float tensor (n, D): projections of its second views.
        measures: List of functions of the cosines (b, N) of some first views
            with all second views, in float32 where the projections have 16
            bits, and of the columns of their partners, int32 (b,). They return
            float tensors (b,).

    Returns:
        List of what they return for all first views (n,).

    Raises:
        ValueError: If the shapes differ or are not (n, D).
    """
    check_projections(z_i, z_j)
    if z_i.shape[0] == 0 and distribution.num_replicas() == 1:
        raise ValueError(
            "There must be at least one image to compare. Received: z_i.shape="
            f"{tuple(z_i.shape)}."
        )
    dtype = keras.backend.result_type(z_i.dtype, "float32")
    # Nothing of this is kept for a gradient.
    z_i, z_j = (
        normalize(ops.cast(ops.stop_gradient(z), dtype)) for z in (z_i, z_j)
    )
    partner = distribution.sample_index(ops.shape(z_i)[0])
    candidates = ops.transpose(distribution.all_gather(z_j))  # (D, N)

    def of_rows(rows, columns):
        similarities = ops.matmul(rows, candidates)
        return [measure(similarities, columns) for measure in measures]

    n, num_candidates = ops.shape(z_i)[0], ops.shape(candidates)[1]
    num_blocks = n // (_MOST_SIMILARITIES // num_candidates + 1) + 1
    if is_symbol(n) or (isinstance(num_blocks, int) and num_blocks == 1):
        return of_rows(z_i, partner)
    size = divide_up(n, num_blocks)
    rows, columns = in_blocks(z_i, size), in_blocks(partner, size)

    def block(unused, i):
        values = of_rows(rows[i], columns[i])
        return unused, [ops.cast(v, dtype) for v in values]

    _, values = ops.scan(
        block,
        [ops.zeros((size,), dtype=dtype) for _ in measures],
        ops.arange(ops.shape(rows)[0], dtype="int32"),
    )
    return [ops.reshape(v, (-1,))[:n] for v in values]


def _check_weights(sample_weight, z_i):
    """Raises a `ValueError` unless there is a weight for each image."""
    shape, num_images = tuple(sample_weight.shape), z_i.shape[0]
    if num_images is None or None in shape:
        return
    if shape not in ((), (num_images,), (num_images, 1)):
        raise ValueError(
            "`sample_weight` must have a weight for each image. Received: "
            f"sample_weight.shape={shape} for {num_images} images."
        )


class _ContrastiveMetric(keras.metrics.Mean):
    """A mean over the first views of what their similarities say."""

    def update_state(self, z_i, z_j, sample_weight=None):
        """Adds a batch.

        Args:
            z_i: Float tensor (N, D): projections of the first views.
            z_j: Float tensor (N, D): projections of the second views.
            sample_weight: Float tensor (N,) or None.
        """
        z_i, z_j = map(ops.convert_to_tensor, as_projections(z_i, z_j))
        if sample_weight is not None:
            sample_weight = to_numbers("sample_weight", sample_weight)
            _check_weights(sample_weight, z_i)
        (values,) = compare(z_i, z_j, [self.values])
        return self.update_values(values, sample_weight)

    def update_values(self, values, sample_weight=None):
        """Adds what `compare` has made of a batch by `values`."""
        return super().update_state(values, sample_weight)


@keras.saving.register_keras_serializable(package="simclr_keras")
class ContrastiveAccuracy(_ContrastiveMetric):
    """Share of first views whose nearest second view is of the same image.

    Only the N x N block between first and second views is looked at, as in
    Google's code: chance is 1 / N, over the images of all replicas.

    Args:
        name: Name of the metric.
        dtype: Of the computation.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> accuracy = simclr_keras.metrics.ContrastiveAccuracy()
        >>> accuracy.update_state(keras.ops.eye(4), keras.ops.eye(4))
        >>> float(accuracy.result())
        1.0
    """

    direction = "max"  # What callbacks that watch it look for.

    def __init__(self, name="contrastive_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def values(self, similarities, partner):
        """Whether the nearest second view is the partner, 0 or 1 (b,)."""
        nearest = ops.cast(ops.argmax(similarities, axis=-1), "int32")
        return ops.cast(nearest == partner, self.dtype)


@keras.saving.register_keras_serializable(package="simclr_keras")
class ContrastiveEntropy(_ContrastiveMetric):
    """Entropy of the softmax of a first view's similarities, in nats.

    Over the N x N block between first and second views, as in Google's code:
    log N when all second views look alike, near 0 when one stands out.

    Args:
        temperature: Positive number that divides the cosines; that of the
            loss. Defaults to 0.1.
        name: Name of the metric.
        dtype: Of the computation.

    Raises:
        TypeError: If `temperature` is a variable.
        ValueError: If `temperature` is not positive.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> entropy = simclr_keras.metrics.ContrastiveEntropy(temperature=0.5)
        >>> entropy.update_state(keras.ops.ones((4, 2)), keras.ops.ones((4, 2)))
        >>> round(float(entropy.result()), 4)  # log 4
        1.3863
    """

    direction = "min"

    def __init__(self, temperature=0.1, name="contrastive_entropy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if isinstance(temperature, keras.Variable):
            raise TypeError(
                "`temperature` must be a positive number. Received a "
                f"keras.Variable, {temperature.path!r}, which would be reset "
                "with the metric. The entropy that SimCLRModel logs follows "
                "the temperature of the loss."
            )
        check_number(
            "temperature",
            temperature,
            "be a positive number",
            lambda x: x >= 1e-30,  # Of which float32 holds the inverse.
        )
        self.temperature = temperature

    def values(self, similarities, partner, temperature=None):
        """The entropies (b,), at another temperature if one is given."""
        similarities = ops.cast(similarities, self.dtype)
        temperature = self.temperature if temperature is None else temperature
        if not isinstance(temperature, (int, float)):
            temperature = ops.cast(temperature, similarities.dtype)
        log_p = ops.log_softmax(similarities / temperature, axis=-1)
        return -ops.sum(ops.exp(log_p) * log_p, axis=-1)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
