"""The temperature of a loss: fixed, changed from outside, or learned."""

import math
import numbers

import keras
import numpy as np
from keras import ops

from simclr_keras.argument_checks import LARGEST

# Logits, up to 1 / temperature, stay above what stands for minus infinity.
LEAST_TEMPERATURE = 1e-6


@keras.saving.register_keras_serializable(package="simclr_keras")
class LearnedTemperature:
    """A temperature that the optimizer learns, within bounds.

    What is learned is log(t), so that t stays positive and a step changes it
    by a factor. After every step it is brought back between the bounds, as
    CLIP does.

    The learning rate is the model's: log(t) takes a step of the learning rate
    times a gradient of the order of 1 to 10. Rates of about 0.001, as of Adam,
    suit it. `LARS` gives it neither weight decay nor a trust ratio, and rates
    such as LARS's 0.3 take it to a bound within a few steps.
    `float(model.loss.temperature)` tells what it is.

    Args:
        initial: Positive number to start from. Defaults to 0.1.
        minimum: Number of at least 1e-6, the lower bound. Defaults to 0.01,
            CLIP's.
        maximum: Positive number, the upper bound. Defaults to 1.

    Raises:
        ValueError: Unless 0 < minimum <= initial <= maximum.

    Example:
        >>> import simclr_keras
        >>> loss = simclr_keras.NTXentLoss(
        ...     temperature=simclr_keras.losses.LearnedTemperature(0.2)
        ... )

    Reference:
        - [Radford et al., 2021](https://arxiv.org/abs/2103.00020), Section
          2.5: logits scaled by a learned exp(s), s clipped so that they are
          never scaled by more than 100.
    """

    def __init__(self, initial=0.1, minimum=0.01, maximum=1.0):
        for number in (initial, minimum, maximum):
            check_temperature(number)
        if not minimum <= initial <= maximum:
            raise ValueError(
                "A learned temperature needs 0 < minimum <= initial <= "
                f"maximum. Received: initial={initial!r}, minimum={minimum!r}, "
                f"maximum={maximum!r}."
            )
        self.initial = initial
        self.minimum = minimum
        self.maximum = maximum
        self.log_temperature = None

    def build(self):
        """Makes the variable, a scalar of `floatx`, unless it is there."""
        if self.log_temperature is None:
            self.log_temperature = keras.Variable(
                math.log(self.initial),
                dtype=keras.config.floatx(),
                name="log_temperature",
            )
            self.log_temperature.constraint = _Between(
                math.log(self.minimum), math.log(self.maximum)
            )

    @property
    def value(self):
        """The temperature as it is now, a number or a scalar tensor."""
        if self.log_temperature is None:
            return self.initial
        return ops.exp(self.log_temperature)

    def assign(self, temperature):
        """Sets the temperature to a number between the bounds."""
        check_temperature(temperature)
        if not self.minimum <= temperature <= self.maximum:
            raise ValueError(
                "`temperature` must lie between the bounds of what is learned, "
                f"[{self.minimum}, {self.maximum}]. Received: temperature="
                f"{temperature!r}."
            )
        self.build()
        self.log_temperature.assign(math.log(temperature))

    def get_config(self):
        return {
            "initial": self.initial,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class _Between(keras.constraints.Constraint):
    """Brings a variable back between bounds."""

    def __init__(self, low, high):
        self.low = low
        self.high = high

    def __call__(self, w):
        return ops.clip(w, self.low, self.high)

    def get_config(self):
        return {"low": self.low, "high": self.high}


class FixedTemperature:
    """A temperature that is a variable, so that a compiled step sees changes.

    Before `build` it is the number alone.
    """

    def __init__(self, temperature):
        self.number = check_temperature(temperature)
        self.variable = None

    def build(self):
        """Makes the variable, a scalar of `floatx`, unless it is there."""
        if self.variable is None:
            self.variable = keras.Variable(
                self.number,
                trainable=False,
                dtype=keras.config.floatx(),
                name="temperature",
            )

    @property
    def value(self):
        """The temperature as it is now: a number, or the variable."""
        return self.number if self.variable is None else self.variable

    def assign(self, temperature):
        """Sets the temperature to a positive number."""
        number = check_temperature(temperature)
        if self.variable is not None:
            self.variable.assign(number)
        self.number = number

    def current_number(self):
        """The number: that which was given, or what a file brought since."""
        if self.variable is None:
            return self.number
        number = float(ops.convert_to_numpy(self.variable))
        # The variable holds the number rounded to its dtype.
        is_same = math.isclose(number, self.number, rel_tol=1e-6)
        return self.number if is_same else number


def in_dtype(temperature, dtype):
    """A temperature to compute with in a dtype; numbers stay what they are.

    A number as a tensor would be rounded to float32 on its way to float64.
    """
    if isinstance(temperature, (int, float)):
        return temperature
    return ops.cast(temperature, dtype)


def check_temperature(temperature):
    """Returns a number of at least 1e-6; raises for anything else."""
    if isinstance(temperature, keras.Variable):
        raise TypeError(
            "`temperature` must be a positive number or a LearnedTemperature. "
            f"Received a keras.Variable, {temperature.path!r}, which no model "
            "would train or save with the loss. For a temperature that is "
            "learned pass simclr_keras.losses.LearnedTemperature(0.1); one "
            "that changes is set by `loss.temperature = 0.2` at any time."
        )
    if isinstance(temperature, LearnedTemperature):
        raise TypeError(
            "A temperature that is fixed cannot become a learned one. Received "
            "a LearnedTemperature; pass it to the constructor of the loss, and "
            "the loss to `compile`."
        )
    is_number = isinstance(temperature, numbers.Real) or (
        isinstance(temperature, np.ndarray)
        and temperature.ndim == 0
        and temperature.dtype.kind in "iuf"
    )
    if not is_number or isinstance(temperature, bool):
        raise TypeError(
            "`temperature` must be a positive number or a LearnedTemperature. "
            f"Received: temperature={temperature!r}."
        )
    # Written so that NaN fails too.
    if not LEAST_TEMPERATURE <= temperature <= LARGEST:
        raise ValueError(
            "`temperature` must be a positive number, at least "
            f"{LEAST_TEMPERATURE} and finite in float32. Received: "
            f"temperature={temperature!r}."
        )
    return temperature
