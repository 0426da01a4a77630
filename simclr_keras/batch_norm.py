"""Batch norm with the settings shared by encoders and projection head."""

import keras
from keras import ops

from simclr_keras import distribution, keras_private

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


def batch_norm(synchronized=None, **kwargs):
    """Returns a `BatchNormalization` over channels, momentum 0.9, eps 1e-5.

    Args:
        synchronized: Boolean or `None`; see `distribution.synchronizes`.
        **kwargs: Other arguments of `keras.layers.BatchNormalization`.
    """
    return BatchNormalization(
        axis=-1,
        momentum=0.9,
        epsilon=1e-5,
        synchronized=distribution.synchronizes(synchronized),
        **kwargs,
    )


@keras.saving.register_keras_serializable(package="simclr_keras")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm, trained by TensorFlow's fused kernel where it can be.

    On TensorFlow, Keras computes mean, variance and the normalized images with
    operations of their own. TensorFlow has one kernel for all of them and
    another one for their gradient, which read and write the images less often
    (seen in TensorFlow 2.21 and Keras 3.15.1). Weights, arguments and what is
    computed are Keras's, to rounding; weights of one load into the other.

    The kernel takes images (B, H, W, C), channels last, in float32, bfloat16 or
    float16, without a mask. It is used in training, if the statistics are those
    of one replica: with one replica, or if `synchronized=False`. In all other
    cases the layer is Keras's:

    - with `synchronized=True` and several replicas;
    - for inputs of another rank or in float64, and for batch renormalization;
    - in inference, where Keras's form is one multiplication and one addition;
    - compiled by XLA, which fuses operations itself, and which has no such
      kernel but a formula, E[x^2] - E[x]^2, that loses digits if the mean is
      large;
    - on the JAX and PyTorch backends.

    It can go when Keras uses the kernel; `tests/test_batch_norm.py` fails then.

    Args:
        *args, **kwargs: Those of `keras.layers.BatchNormalization`.

    Call arguments:
        inputs, training, mask: As in `keras.layers.BatchNormalization`.

    Returns:
        Tensor of the inputs' shape, in the layer's compute dtype.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> norm = simclr_keras.encoders.BatchNormalization(momentum=0.9)
        >>> y = norm(keras.random.normal((4, 8, 8, 3)), training=True)
        >>> tuple(y.shape)
        (4, 8, 8, 3)

    Reference:
        - [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167).
    """

    def call(self, inputs, training=None, mask=None):
        training = training and self.trainable
        if mask is not None or not training or not self._is_fused(inputs):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        # The op itself; its wrappers raise epsilon to 1.001e-5.
        normalized = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=_float32(self.gamma) if self.scale else tf.ones(channels),
            offset=_float32(self.beta) if self.center else tf.zeros(channels),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.reduce_prod(tf.shape(inputs, tf.int64)[:-1])  # B H W
        # The kernel's variance is the unbiased one, Keras's the biased one. Of
        # a single value it is 0 in both, and of none NaN.
        factor = 1.0 - 1.0 / tf.cast(count, "float32")
        self._move(self.moving_mean, normalized.batch_mean)
        self._move(self.moving_variance, normalized.batch_variance * factor)
        return ops.cast(normalized.y, self.compute_dtype)

    def _is_fused(self, inputs):
        """Whether a training step on these inputs can use the kernel."""
        if tf is None or len(inputs.shape) != 4 or self.axis not in (-1, 3):
            return False
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if dtype not in ("float16", "bfloat16", "float32"):
            return False
        if getattr(self, "renorm", False):  # Not in all versions of Keras.
            return False
        if self.synchronized and distribution.num_replicas() > 1:
            return False
        return not keras_private.in_xla()

    def _move(self, average, value):
        average.assign(
            _float32(average) * self.momentum + value * (1.0 - self.momentum)
        )


def fuse_batch_norm(layer):
    """Makes every batch norm in a layer the fused one, `BatchNormalization`.

    For encoders whose batch norm is Keras's own, such as those of
    `keras.applications` and KerasHub: training takes less time on TensorFlow,
    and gives the same values. The layers keep their weights, names and
    settings; subclasses of Keras's batch norm are left as they are. A `.keras`
    file of the result is loaded after `import simclr_keras`.

    Args:
        layer: `keras.layers.Layer`, often a `keras.Model`. It is changed in
            place; call this before the first step.

    Returns:
        The layer.

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> backbone = simclr_keras.encoders.fuse_batch_norm(
        ...     keras.applications.MobileNetV3Small(
        ...         weights=None, include_top=False, pooling="avg"
        ...     )
        ... )
    """
    for each in keras_private.flatten_layers(layer):
        if type(each) is keras.layers.BatchNormalization:
            # The subclass adds no state. A clone would need a model that is
            # functional all the way down.
            each.__class__ = BatchNormalization
    return layer


def _float32(variable):
    return ops.cast(variable, "float32")
