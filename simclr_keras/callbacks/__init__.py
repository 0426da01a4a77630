"""Callbacks for `fit`."""

from simclr_keras.callbacks.stop_on_nan import StopOnNaN

__all__ = ["StopOnNaN"]
