"""Checks of what losses are made with."""

import math
import numbers


def check_boolean(name, value):
    """Returns True or False; raises a `TypeError` for anything else."""
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True or False. Received: {name}={value!r}."
        )
    return value


def check_number(name, value, is_open=False):
    """Returns a finite number of at least 0; raises for anything else.

    Args:
        name: String, of the argument.
        value: What it is.
        is_open: Whether 0 is refused. Defaults to False.
    """
    bound = "a positive number" if is_open else "a number of at least 0"
    message = f"`{name}` must be {bound}. Received: {name}={value!r}."
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    # Written so that NaN fails too.
    if not (0 <= value < math.inf) or (is_open and value == 0):
        raise ValueError(message)
    return value
