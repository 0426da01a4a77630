"""Layer-wise adaptive rate scaling."""

import numbers
import re
import warnings

import keras
from keras import ops

from simclr_keras import keras_private
from simclr_keras.argument_checks import check_boolean, check_number

# Excluded by default whatever the rank, by `variable.path`.
_EXCLUDED = re.compile(
    r"""
    # Biases, and scales and offsets of norms, by their own names.
    (^|[/_])(bias(es)?|beta|gamma|scale|offset)$
    # Whatever a norm layer itself owns, unless it is called a kernel.
    | norm(alization)?(_\d+)?/(?!\w*kernel$)[^/]+$
    # Tokens and positions of a ViT.
    | (^|[/_])(class|cls|dist(illation)?|mask|reg(ister)?)_(token|embedding)s?$
    | (^|[/_])pos(ition(al)?)?_emb(ed(ding)?s?)?(_\d+)?(/embeddings)?$
    # The probe of `SimCLRModel`.
    | linear_probe
    """,
    re.VERBOSE,
)


@keras.saving.register_keras_serializable(package="simclr_keras")
class LARS(keras_private.OwnWeightDecay, keras.optimizers.Optimizer):
    """Momentum whose step is scaled to the norm of each weight.

    With w a variable, g its gradient and v its velocity, one step is

        g <- g + weight_decay * w
        trust <- trust_coefficient * |w| / |g|, or 1 where either norm is 0
        v <- momentum * v + learning_rate * trust * g
        w <- w - v

    and with Nesterov w <- w - (momentum * v + learning_rate * trust * g).

    A variable can be excluded from the decay, from the trust ratio, or from
    both; with neither, its step is that of SGD with momentum.

    Args:
        learning_rate: Float >= 0, `LearningRateSchedule` or callable. Defaults
            to 0.3, the paper's for a batch of 256; see `scaled_learning_rate`.
        momentum: Number in [0, 1]. Defaults to 0.9.
        weight_decay: Number >= 0, added to the gradient, not decoupled from it
            as in Keras's other optimizers. The paper uses 1e-6, SimCLRv2 1e-4.
            Defaults to 0.
        trust_coefficient: Positive number. Defaults to 0.001.
        nesterov: Boolean, whether to use Nesterov momentum. Defaults to
            `False`.
        exclude: List of regular expressions, searched for in `variable.path`,
            or `None`: the variables without decay and without trust ratio.
            `None` excludes

            - biases, whatever their rank: those of attention and
              `EinsumDense` have one for each head and dimension,
            - scales and offsets of normalization layers, whatever their rank,
            - all other variables of rank 0 and 1, such as a learned
              temperature,
            - class tokens and position embeddings, which ViTs exclude too,
            - the linear probe of `SimCLRModel`, as the published code does.

            They are recognized by the names that Keras, KerasHub and KerasCV
            give them (`bias`, `beta`, `gamma`, `scale`, `offset`, a layer
            whose name ends in `norm` or `normalization`, `class_token`,
            `position_embedding`). A list replaces all of that: `[]` excludes
            nothing. Defaults to `None`.
        exclude_from_decay: List of regular expressions, in place of `exclude`
            for the decay; or `None`, the same as `exclude`. Defaults to
            `None`.
        exclude_from_trust_ratio: List of regular expressions, in place of
            `exclude` for the trust ratio; or `None`, the same as `exclude`.
            Defaults to `None`.
        name: Name of the optimizer.
        **kwargs: Of `keras.optimizers.Optimizer`: `clipnorm`, `clipvalue`,
            `global_clipnorm`, `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, `loss_scale_factor`,
            `gradient_accumulation_steps`.

    Attributes:
        has_decay, has_trust_ratio: Once built, a list of booleans each, in
            the order of the variables that the optimizer was built on.

    Raises:
        ValueError: If a number is out of its range, or a string is not a
            valid regular expression.
        TypeError: If an argument has the wrong type.

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
        exclude_from_decay=None,
        exclude_from_trust_ratio=None,
        name="lars",
        **kwargs,
    ):
        if isinstance(learning_rate, numbers.Real):
            # Keras takes no integer.
            learning_rate = float(_not_negative("learning_rate", learning_rate))
        elif not callable(learning_rate) and not isinstance(
            learning_rate, keras.optimizers.schedules.LearningRateSchedule
        ):
            raise TypeError(
                "`learning_rate` must be a number, a LearningRateSchedule or a "
                f"callable. Received: learning_rate={learning_rate!r} of type "
                f"{type(learning_rate).__name__}."
            )
        momentum = check_number(
            "momentum", momentum, "lie in [0, 1]", lambda x: 0 <= x <= 1
        )
        weight_decay = _not_negative("weight_decay", weight_decay)
        trust_coefficient = check_number(
            "trust_coefficient",
            trust_coefficient,
            "be a positive number",
            lambda x: x > 0,
        )
        check_boolean("nesterov", nesterov)
        _check_patterns("exclude", exclude)
        _check_patterns("exclude_from_decay", exclude_from_decay)
        _check_patterns("exclude_from_trust_ratio", exclude_from_trust_ratio)
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.trust_coefficient = trust_coefficient
        self.nesterov = nesterov
        self.exclude = exclude
        self.exclude_from_decay = exclude_from_decay
        self.exclude_from_trust_ratio = exclude_from_trust_ratio
        # Of `exclude_from_weight_decay`.
        self._no_decay_patterns = []
        self._no_decay_paths = []

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Excludes more variables from the decay.

        They come on top of those that the arguments of the constructor
        exclude, and are part of the configuration. As in all of Keras's
        optimizers, a second call replaces the first.

        Args:
            var_list: List of variables. A file knows them by their paths.
            var_names: List of regular expressions, searched for in
                `variable.path`.

        Raises:
            ValueError: If the optimizer is built, or a string is not a valid
                regular expression.
            TypeError: If `var_names` is not a list of strings.
        """
        if self.built:
            raise ValueError(
                "`exclude_from_weight_decay` must be called before the "
                f"optimizer is built. Received: {self.name!r}, which is built "
                f"on {len(self.has_decay)} variables. Make a new optimizer."
            )
        _check_patterns("var_names", var_names)
        is_list = var_list is None or isinstance(var_list, (list, tuple))
        if not is_list or not all(
            hasattr(variable, "path") or hasattr(variable, "name")
            for variable in var_list or ()
        ):
            raise TypeError(
                "`var_list` must be None or a list of variables. Received: "
                f"var_list={var_list!r}."
            )
        # Paths, since Keras would take a variable that is kept here for one
        # of the optimizer's own.
        paths = [_path(variable) for variable in var_list or ()]
        self._no_decay_paths = paths
        self._no_decay_patterns = [
            *(var_names or ()),
            *(f"^{re.escape(path)}$" for path in paths),
        ]

    def build(self, variables):
        if self.built:
            return
        self._check_exclusions([_path(variable) for variable in variables])
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        # Decided here, since `update_step` sees variables without a path.
        self.has_decay = [
            not self._excludes(v, self.exclude_from_decay)
            and not _found(self._no_decay_patterns, _path(v))
            for v in variables
        ]
        self.has_trust_ratio = [
            not self._excludes(v, self.exclude_from_trust_ratio)
            for v in variables
        ]

    def _excludes(self, variable, patterns):
        patterns = self.exclude if patterns is None else patterns
        if patterns is not None:
            return _found(patterns, _path(variable))
        return len(variable.shape) <= 1 or _found([_EXCLUDED], _path(variable))

    def _check_exclusions(self, paths):
        for path in set(self._no_decay_paths):
            if paths.count(path) > self._no_decay_paths.count(path):
                raise ValueError(
                    "`exclude_from_weight_decay` knows variables by their "
                    f"paths. Received: a variable of the path {path!r}, which "
                    "another variable has too. Give their layers different "
                    "names."
                )
        for name, patterns in {
            "exclude": self.exclude,
            "exclude_from_decay": self.exclude_from_decay,
            "exclude_from_trust_ratio": self.exclude_from_trust_ratio,
            "exclude_from_weight_decay": self._no_decay_patterns,
        }.items():
            for pattern in patterns or ():
                if not any(_found([pattern], path) for path in paths):
                    warnings.warn(
                        f"`{name}` of {type(self).__name__} holds {pattern!r}, "
                        "which excludes nothing: it is not found in the path "
                        f"of any variable. The first paths are {paths[:4]}.",
                        stacklevel=3,
                    )

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        i = keras_private.variable_index(self, variable)
        if self.has_decay[i]:
            gradient = gradient + self.weight_decay * variable
        if self.has_trust_ratio[i]:
            learning_rate = learning_rate * self._trust(variable, gradient)
        step = learning_rate * gradient
        velocity = self.momentum * self.velocities[i] + step
        self.assign(self.velocities[i], velocity)
        if self.nesterov:
            velocity = self.momentum * velocity + step
        self.assign_sub(variable, velocity)

    def _trust(self, variable, gradient):
        weight_norm = ops.norm(ops.reshape(variable, (-1,)))
        gradient_norm = ops.norm(ops.reshape(gradient, (-1,)))
        # A weight at zero must be able to leave it, and a zero gradient
        # must not be divided by.
        both = (weight_norm > 0) & (gradient_norm > 0)
        numerator = self.trust_coefficient * weight_norm
        ratio = numerator / ops.where(both, gradient_norm, 1.0)
        return ops.where(both, ratio, 1.0)

    def get_config(self):
        config = {
            **super().get_config(),
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "trust_coefficient": self.trust_coefficient,
            "nesterov": self.nesterov,
            "exclude": self.exclude,
            "exclude_from_decay": self.exclude_from_decay,
            "exclude_from_trust_ratio": self.exclude_from_trust_ratio,
        }
        if self._no_decay_patterns:
            config["exclude_from_weight_decay"] = list(self._no_decay_patterns)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        patterns = config.pop("exclude_from_weight_decay", None)
        optimizer = super().from_config(config, custom_objects)
        optimizer.exclude_from_weight_decay(var_names=patterns)
        return optimizer


def _path(variable):
    # A `tf.Variable` has a name such as "dense/kernel:0".
    return getattr(variable, "path", None) or variable.name.split(":")[0]


def _found(patterns, path):
    return any(re.search(pattern, path) for pattern in patterns)


def _not_negative(name, value):
    return check_number(name, value, "be a number >= 0", lambda x: x >= 0)


def _check_patterns(name, patterns):
    if patterns is None:
        return
    if isinstance(patterns, str):
        raise ValueError(
            f"`{name}` must be None or a list of regular expressions. "
            f"Received: {name}={patterns!r}, a single string."
        )
    if not isinstance(patterns, (list, tuple)) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise TypeError(
            f"`{name}` must be None or a list of regular expressions, each a "
            f"string. Received: {name}={patterns!r}."
        )
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"`{name}` must hold valid regular expressions. Received: "
                f"{name}={patterns!r}, where {pattern!r} is invalid: {error}."
            ) from error
