"""Layer-wise adaptive rate scaling."""

import re

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="simclr_keras")
class LARS(keras.optimizers.Optimizer):
    """Momentum whose step is measured against the size of each weight.

    With w a variable, g its gradient and v its velocity, one step is

        g <- g + weight_decay * w
        trust <- trust_coefficient * |w| / |g|, or 1 where either norm is 0
        v <- momentum * v + learning_rate * trust * g
        w <- w - v

    and with Nesterov w <- w - (momentum * v + learning_rate * trust * g).

    Excluded variables take neither the decay nor the trust ratio: for them
    this is momentum.

    Args:
        learning_rate: Number, `LearningRateSchedule` or callable. Defaults to
            0.3, the paper's for a batch of 256; see `scaled_learning_rate`.
        momentum: Number in [0, 1]. Defaults to 0.9.
        weight_decay: Number >= 0, part of the gradient, not decoupled as in
            Keras's other optimizers. The paper takes 1e-6, SimCLRv2 1e-4.
            Defaults to 0.
        trust_coefficient: Positive number. Defaults to 0.001.
        nesterov: Whether to step with Nesterov's momentum. Defaults to False.
        exclude: None, or a list of regular expressions, to be found in
            `variable.path`. None excludes what the paper excludes: variables
            of rank 0 and 1, which are biases and batch norm's, and the linear
            probe of `SimCLRModel`, as in the published code. A list replaces
            that: `[]` excludes nothing. Defaults to None.
        name: Name of the optimizer.
        **kwargs: Of `keras.optimizers.Optimizer`: `clipnorm`, `clipvalue`,
            `global_clipnorm`, `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, `loss_scale_factor`,
            `gradient_accumulation_steps`.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> import simclr_keras
        >>> optimizer = simclr_keras.LARS(
        ...     learning_rate=simclr_keras.WarmupCosineDecay(
        ...         simclr_keras.scaled_learning_rate(0.3, batch_size=4096),
        ...         total_steps=31_250,
        ...         warmup_steps=3_125,
        ...     ),
        ...     weight_decay=1e-6,
        ... )

    Reference:
        - [You et al., 2017](https://arxiv.org/abs/1708.03888), Algorithm 1.
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 2.2.
    """

    def __init__(
        self,
        learning_rate=0.3,
        momentum=0.9,
        weight_decay=0.0,
        trust_coefficient=0.001,
        nesterov=False,
        exclude=None,
        name="lars",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(
                "`momentum` must lie in [0, 1]. Received: "
                f"momentum={momentum!r}."
            )
        if not weight_decay >= 0:
            raise ValueError(
                "`weight_decay` must be a number >= 0. Received: "
                f"weight_decay={weight_decay!r}."
            )
        if not trust_coefficient > 0:
            raise ValueError(
                "`trust_coefficient` must be a positive number. Received: "
                f"trust_coefficient={trust_coefficient!r}."
            )
        if isinstance(exclude, str):
            raise ValueError(
                "`exclude` must be None or a list of regular expressions. "
                f"Received: exclude={exclude!r}, a single string."
            )
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.trust_coefficient = trust_coefficient
        self.nesterov = nesterov
        self.exclude = exclude

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        # Decided here, since `update_step` sees variables without a path.
        self.is_excluded = [self._excludes(v) for v in variables]

    def _excludes(self, variable):
        if self.exclude is None:
            return len(variable.shape) <= 1 or "linear_probe" in variable.path
        return any(re.search(e, variable.path) for e in self.exclude)

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        i = self._get_variable_index(variable)
        if self.is_excluded[i]:
            step = learning_rate * gradient
        else:
            gradient = gradient + self.weight_decay * variable
            weight_norm = ops.norm(ops.reshape(variable, (-1,)))
            gradient_norm = ops.norm(ops.reshape(gradient, (-1,)))
            # A weight at zero must be able to leave it, and a zero gradient
            # must not be divided by.
            both = (weight_norm > 0) & (gradient_norm > 0)
            trust = ops.where(
                both,
                self.trust_coefficient
                * weight_norm
                / ops.where(both, gradient_norm, 1.0),
                1.0,
            )
            step = learning_rate * trust * gradient
        velocity = self.momentum * self.velocities[i] + step
        self.assign(self.velocities[i], velocity)
        if self.nesterov:
            velocity = self.momentum * velocity + step
        self.assign_sub(variable, velocity)

    def _apply_weight_decay(self, variables):
        # Keras's decay is decoupled from the gradient; this one's is in it.
        pass

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "trust_coefficient": self.trust_coefficient,
            "nesterov": self.nesterov,
            "exclude": self.exclude,
        }
