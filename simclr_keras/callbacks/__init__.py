"""Callbacks for `fit`, of any `keras.Model`."""

from simclr_keras.callbacks.checkpoints import Checkpoints
from simclr_keras.callbacks.collapse_monitor import CollapseMonitor
from simclr_keras.callbacks.history_csv import HistoryCSV
from simclr_keras.callbacks.labelled_evaluation import (
    KNNEvaluation,
    LinearEvaluation,
)
from simclr_keras.callbacks.pictures import RepresentationMap, ViewPreview
from simclr_keras.callbacks.run_progress import RunProgress
from simclr_keras.callbacks.stop_on_interrupt import StopOnInterrupt
from simclr_keras.callbacks.stop_on_nan import StopOnNaN

__all__ = [
    "Checkpoints",
    "CollapseMonitor",
    "HistoryCSV",
    "KNNEvaluation",
    "LinearEvaluation",
    "RepresentationMap",
    "RunProgress",
    "StopOnInterrupt",
    "StopOnNaN",
    "ViewPreview",
]
