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


def check_number(name, value, least=0.0, is_open=False):
    """Returns a finite number from `least` on; raises for anything else.

    Args:
        name: String, of the argument.
        value: What it is.
        least: Number, the smallest one allowed. Defaults to 0.
        is_open: Whether it must be larger than that. Defaults to False.
    """
    bound = (
        f"a number larger than {least:g}"
        if is_open
        else (f"a number of at least {least:g}")
    )
    message = f"`{name}` must be {bound}. Received: {name}={value!r}."
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    is_within = value > least if is_open else value >= least
    if not (is_within and value < math.inf):
        raise ValueError(message)
    return value
