"""Ends a training run as soon as its loss is no number any more."""

import math

import keras
import numpy as np
from keras import ops


class StopOnNaN(keras.callbacks.Callback):
    """Raises `FloatingPointError` at the first step whose loss is not finite.

    `keras.callbacks.TerminateOnNaN` ends `fit` as if all had gone well, after
    which other callbacks save weights that are lost. An error passes them by.
    At the end of an epoch the weights are looked at too, since the last step
    can spoil them after its loss was taken.

    Put it **before** the callbacks that save: callbacks run in their order,
    and those behind it then only ever see a finite loss and finite weights.
    What they saved last is the last good checkpoint.

    Raises:
        FloatingPointError: From `fit`, with the epoch and the step, both
            counted from 1.

    Example:
        model.fit(
            images,
            callbacks=[
                simclr_keras.callbacks.StopOnNaN(),
                keras.callbacks.BackupAndRestore("backup"),
            ],
        )
    """

    def __init__(self):
        super().__init__()
        self.epoch = 0
        self.step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.step = epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        self.step = batch + 1
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            self._stop(f"The loss became {float(loss)}")

    def on_epoch_end(self, epoch, logs=None):
        for variable in self.model.trainable_variables:
            if not np.isfinite(ops.convert_to_numpy(variable)).all():
                self._stop(f"The weight {variable.path!r} became NaN or inf")

    def _stop(self, what):
        # A variable of several replicas is no number by itself.
        step = ops.convert_to_numpy(self.model.optimizer.iterations)
        raise FloatingPointError(
            f"{what} at step {self.step} of epoch {self.epoch + 1} (step "
            f"{int(step)} of the run). Lower the "
            "learning rate, lengthen the warm-up, or raise the temperature; "
            "under mixed_float16 try mixed_bfloat16."
        )
