"""The projection head: representation h to projection z."""

import keras

from simclr_keras import distribution
from simclr_keras.argument_checks import (
    check_positive_integer,
    plain,
    to_numbers,
)
from simclr_keras.batch_norm import batch_norm


@keras.saving.register_keras_serializable(package="simclr_keras")
class ProjectionHead(keras.layers.Layer):
    """Maps representations to the space where the loss compares them.

    Every layer but the last is dense, batch norm, ReLU; the last is dense and
    batch norm without centre. No dense layer has a bias.

    Args:
        output_dim: Positive integer D. Defaults to 128.
        num_layers: Positive integer: dense layers. Defaults to 2 (the first
            paper's); SimCLRv2 has 3.
        hidden_dim: Positive integer: width of the layers before the last, or
            None for the representation's. Defaults to None.
        kind: `"nonlinear"`; `"linear"`, one dense layer, without batch norm;
            or `"none"`, the representation itself. The last two are the
            paper's comparisons (Figure 8) and ignore `num_layers`.
            Defaults to `"nonlinear"`.
        synchronized: Whether batch norm takes its statistics over all replicas
            of `tf.distribute`. None is yes on TensorFlow, and no on other
            backends, where the batch is global already. Defaults to None.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        representations: Float tensor (B, F).
        training: Whether batch norm uses the batch's statistics.

    Returns:
        Float tensor (B, D).

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If an argument is out of its range, or the input is not
            (B, F).

    Example:
        >>> import keras
        >>> import simclr_keras
        >>> head = simclr_keras.ProjectionHead(128)
        >>> tuple(head(keras.ops.ones((8, 512))).shape)
        (8, 128)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Sections 2.1
          and 4.2.
        - [Chen et al., 2020b](https://arxiv.org/abs/2006.10029), Section 2.
    """

    def __init__(
        self,
        output_dim=128,
        num_layers=2,
        hidden_dim=None,
        kind="nonlinear",
        synchronized=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (
            ("output_dim", output_dim),
            ("num_layers", num_layers),
            ("hidden_dim", 1 if hidden_dim is None else hidden_dim),
        ):
            check_positive_integer(name, value)
        kinds = ("nonlinear", "linear", "none")
        if not isinstance(kind, str) or kind not in kinds:
            raise ValueError(
                '`kind` must be one of "nonlinear", "linear" or "none". '
                f"Received: kind={kind!r}."
            )
        distribution.synchronizes(synchronized)
        self.output_dim = plain(output_dim)
        self.num_layers = plain(num_layers)
        self.hidden_dim = plain(hidden_dim)
        self.kind = kind
        self.synchronized = synchronized
        self.layers = []

    def build(self, input_shape):
        shape = None if input_shape is None else tuple(input_shape)
        if shape is None or len(shape) != 2 or shape[-1] is None:
            raise ValueError(
                "ProjectionHead takes representations (B, F) with a known F. "
                f"Received: input_shape={shape}."
            )
        # Keras compares it with what comes, which "none" would let through.
        self.input_spec = keras.layers.InputSpec(
            ndim=2, axes={-1: input_shape[-1]}
        )
        width = self.hidden_dim or input_shape[-1]
        if self.kind == "linear":
            self.layers = [self._dense(self.output_dim, "dense_1")]
        elif self.kind == "nonlinear":
            for i in range(1, self.num_layers):
                self.layers += [
                    self._dense(width, f"dense_{i}"),
                    self._batch_norm(f"batch_norm_{i}"),
                    keras.layers.ReLU(
                        dtype=self.dtype_policy, name=f"relu_{i}"
                    ),
                ]
            i = self.num_layers
            self.layers += [
                self._dense(self.output_dim, f"dense_{i}"),
                self._batch_norm(f"batch_norm_{i}", center=False),
            ]
        shape = input_shape
        for layer in self.layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def _dense(self, units, name):
        return keras.layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=self.dtype_policy,
            name=name,
        )

    def _batch_norm(self, name, center=True):
        return batch_norm(
            self.synchronized,
            center=center,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, representations, training=None):
        x = to_numbers("representations", representations)
        for layer in self.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                x = layer(x, training=training)
            else:
                x = layer(x)
        return x

    def compute_output_shape(self, input_shape):
        if self.kind == "none":
            return tuple(input_shape)
        return (*input_shape[:-1], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "kind": self.kind,
            "synchronized": self.synchronized,
        }
