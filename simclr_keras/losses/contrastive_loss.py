"""The base class of losses that compare each image with all others."""

import keras
import numpy as np
from keras import ops

from simclr_keras import distribution
from simclr_keras.argument_checks import to_numbers
from simclr_keras.losses.pairs import as_projections
from simclr_keras.losses.temperature import FixedTemperature, LearnedTemperature


class ContrastiveLoss(keras.losses.Loss):
    """A loss of the projections of two views, over all replicas.

    A subclass implements `view_losses`: what each view of this replica costs,
    compared with the views of all replicas. This class makes of it the mean
    over the global batch, so that under `tf.distribute` loss and gradient are
    those of one device with the global batch, ragged batches included.

    It also keeps the temperature: a number that may be changed at any time,
    between steps or by a callback, `loss.temperature = 0.2`, or a
    `LearnedTemperature`. `SimCLRModel.compile` calls `build`, which makes a
    variable of it, and trains and saves that; in a compiled step of your own,
    call `build` first and train `loss.variables` yourself.

    Args:
        temperature: Positive number or `LearnedTemperature`. Defaults to 0.1.
        reduction: See `keras.losses.Loss`. Defaults to the mean.
        name: Name of the loss.
        dtype: Of the computation. Defaults to `keras.config.floatx()`, float32
            under mixed precision too.

    Call arguments:
        z_i: Float tensor (N, D): projections of the images' first views.
        z_j: Float tensor (N, D): those of the second views.
        sample_weight: Float tensor (2N,), a weight for each view's loss, where
            `reduction` is not the plain mean; None otherwise.
        labels: Integer tensor (N,), for a loss whose `uses_labels` is True.

    Returns:
        The mean as a scalar, or what `reduction` makes of the losses (2N,):
        those of the first views, then those of the second.

    Attributes:
        uses_labels: Whether `SimCLRModel` passes the batch's labels; False
            here, a class attribute of subclasses.

    Example:
        >>> import keras, simclr_keras
        >>> from keras import ops
        >>> class Alignment(simclr_keras.losses.ContrastiveLoss):
        ...     def view_losses(self, z_i, z_j, labels=None):
        ...         distances = ops.sum(ops.square(z_i - z_j), axis=-1)
        ...         return ops.concatenate([distances, distances])
        >>> float(Alignment()(ops.ones((4, 2)), ops.zeros((4, 2))))
        2.0
    """

    uses_labels = False

    def __init__(
        self,
        temperature=0.1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._temperature = (
            temperature
            if isinstance(temperature, LearnedTemperature)
            else FixedTemperature(temperature)
        )

    @property
    def temperature(self):
        """The temperature as it is now, to compute with.

        A number before `build`, then a variable or, if it is learned, a
        tensor; `float(loss.temperature)` gives the number.
        """
        return self._temperature.value

    @temperature.setter
    def temperature(self, value):
        self._temperature.assign(value)

    def build(self):
        """Makes the variable of the temperature, once."""
        self._temperature.build()

    @property
    def learned_temperature(self):
        """The `LearnedTemperature`, or None."""
        is_learned = isinstance(self._temperature, LearnedTemperature)
        return self._temperature if is_learned else None

    @property
    def variables(self):
        """List of what the loss keeps: the temperature, once it is built."""
        kept = self._temperature
        variable = (
            kept.log_temperature
            if isinstance(kept, LearnedTemperature)
            else kept.variable
        )
        return [] if variable is None else [variable]

    def view_losses(self, z_i, z_j, labels=None):
        """The losses of this replica's views.

        `distribution.all_gather` brings the projections, or the labels, of all
        replicas; `distribution.sample_index` says which are this one's.

        Args:
            z_i: Float tensor (n, D): projections of this replica's first
                views, not normalized.
            z_j: Float tensor (n, D): those of its second views.
            labels: int32 tensor (n,), or None unless `uses_labels`.

        Returns:
            Float tensor (2n,): the losses of the first views, then those of
            the second.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `view_losses(z_i, z_j, "
            "labels)`."
        )

    def __call__(self, z_i, z_j, sample_weight=None, labels=None):
        z_i, z_j = as_projections(z_i, z_j)
        if sample_weight is not None:
            sample_weight = to_numbers("sample_weight", sample_weight)
            self._check_weights(sample_weight, z_i)
        if not self.uses_labels:
            return super().__call__(z_i, z_j, sample_weight)
        if labels is None:
            raise ValueError(
                f"{type(self).__name__} needs labels. Received none; train on "
                "(images, labels), or call it with `labels=`."
            )
        return _OfBatch(self, _check_labels(labels, z_i))(
            z_i, z_j, sample_weight
        )

    def _check_weights(self, sample_weight, z_i):
        if self.reduction == "sum_over_batch_size":
            raise ValueError(
                "A mean over views takes no `sample_weight`, since every view "
                "is compared with all others. For a weighted mean of their "
                'losses use `reduction="mean_with_sample_weight"`.'
            )
        shape, num_images = tuple(sample_weight.shape), z_i.shape[0]
        if num_images is None or None in shape:
            return
        # One for all is a matter of scale.
        num_views = 2 * num_images
        if shape not in ((), (1,), (num_views,), (num_views, 1)):
            raise ValueError(
                "`sample_weight` must have a weight for each view, first views "
                f"first. Received: sample_weight.shape={shape} for "
                f"{num_images} images, of which there are {num_views} views."
            )

    def call(self, z_i, z_j, labels=None):
        losses = self.view_losses(z_i, z_j, labels)
        if self.reduction in ("sum", "none", None):
            return losses
        num_replicas = distribution.num_replicas()
        if num_replicas == 1:
            return losses
        # Keras takes the mean over this replica's 2n views and divides it by
        # the number of replicas, which is right if each has as many. A ragged
        # batch leaves some fewer.
        n = ops.shape(z_i)[0]
        share = ops.cast(n * num_replicas, losses.dtype) / ops.cast(
            distribution.global_batch_size(n), losses.dtype
        )
        return losses * share

    def save_own_variables(self, store):
        for variable in self.variables:
            store[self._stored_name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        names = {"temperature", "log_temperature"} & set(store.keys())
        if names - {self._stored_name}:
            raise ValueError(
                "The temperature of a loss is learned in the file and fixed in "
                "the model, or the other way round. Received: "
                f"{sorted(names)[0]!r} for {self._stored_name!r}; compile the "
                "model with the kind of temperature that was saved."
            )
        for name in names:
            self.build()
            self.variables[0].assign(store[name])

    @property
    def _stored_name(self):
        is_learned = isinstance(self._temperature, LearnedTemperature)
        return "log_temperature" if is_learned else "temperature"

    def get_config(self):
        kept = self._temperature
        return {
            **super().get_config(),
            "temperature": keras.saving.serialize_keras_object(kept)
            if isinstance(kept, LearnedTemperature)
            else kept.current_number(),
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config):
        if isinstance(config.get("temperature"), dict):
            temperature = keras.saving.deserialize_keras_object(
                config["temperature"]
            )
            config = {**config, "temperature": temperature}
        return cls(**config)


def _check_labels(labels, z_i):
    """Labels as an int32 tensor (N,); raises for what would be another one."""
    if not ops.is_tensor(labels):
        try:
            labels = np.asarray(labels)
        except (TypeError, ValueError) as error:  # Lists of several lengths.
            raise TypeError(
                "`labels` must be integers, the images' classes. Received: "
                f"labels of type {type(labels).__name__}, of which NumPy makes "
                f"no array: {error}"
            ) from error
    dtype = getattr(labels.dtype, "name", str(labels.dtype))
    if not ("int" in dtype or "bool" in dtype):
        raise TypeError(
            "`labels` must be integers, the images' classes. Received: labels "
            f"of dtype {dtype}."
        )
    shape, num_images = tuple(labels.shape), z_i.shape[0]
    if len(shape) == 2 and shape[1] == 1:
        labels, shape = labels[:, 0], shape[:1]
    differ = None not in (*shape, num_images) and shape != (num_images,)
    if len(shape) != 1 or differ:
        raise ValueError(
            "`labels` must have shape (N,), one for each image. Received: "
            f"labels.shape={shape}, for projections of shape "
            f"{tuple(z_i.shape)}."
        )
    if isinstance(labels, np.ndarray) and np.any(
        labels != labels.astype("int32")
    ):
        raise ValueError(
            "`labels` must fit into 32 bits. Received: values from "
            f"{labels.min()} to {labels.max()}."
        )
    return ops.cast(labels, "int32")


class _OfBatch(keras.losses.Loss):
    """The loss of a batch with labels.

    Keras casts what a loss is called with to its dtype, in which labels would
    be rounded, and reduces what comes of it; so labels are not an argument.
    """

    def __init__(self, loss, labels):
        super().__init__(loss.name, loss.reduction, loss.dtype)
        self.loss = loss
        self.labels = labels

    def call(self, z_i, z_j):
        return self.loss.call(z_i, z_j, self.labels)
