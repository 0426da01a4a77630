"""Callbacks for `fit`, of any `keras.Model`."""

from simclr_keras.callbacks.checkpoints import Checkpoints
from simclr_keras.callbacks.history_csv import HistoryCSV
from simclr_keras.callbacks.run_progress import RunProgress
from simclr_keras.callbacks.stop_on_interrupt import StopOnInterrupt
from simclr_keras.callbacks.stop_on_nan import StopOnNaN

__all__ = [
    "Checkpoints",
    "HistoryCSV",
    "RunProgress",
    "StopOnInterrupt",
    "StopOnNaN",
]
