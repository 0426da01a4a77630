"""Ends training as soon as the loss is NaN or infinite."""

import math

import keras
import numpy as np
from keras import ops


class StopOnNaN(keras.callbacks.Callback):
    """Raises `FloatingPointError` at the first step whose loss is not finite.

    `keras.callbacks.TerminateOnNaN` ends `fit` as if all had gone well, and
    other callbacks then save weights that are useless. After an error they save
    nothing. At the end of an epoch the weights are checked too, and the moving
    statistics of batch norm: the last step can make them NaN after its loss was
    computed.

    Put it **before** callbacks that save: callbacks run in their order, so
    those after it only ever see a finite loss and finite weights. What they
    saved last is the last good checkpoint, but see
    `Checkpoints.discard_unproven`.

    Raises:
        FloatingPointError: From `fit`, with the epoch and the step, both
            counted from 1.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> model.fit(
        ...     np.full((8, 2), np.nan),
        ...     np.zeros((8, 1)),
        ...     callbacks=[
        ...         simclr_keras.callbacks.StopOnNaN(),
        ...         simclr_keras.callbacks.Checkpoints("checkpoints"),
        ...     ],
        ...     verbose=0,
        ... )
        Traceback (most recent call last):
        FloatingPointError: The loss became nan at step 1 of epoch 1 (step 1 of
        the run). ...
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
        # The moving statistics of batch norm too: they count in inference.
        for variable in self.model.weights:
            is_float = "float" in keras.backend.standardize_dtype(
                variable.dtype
            )
            if (
                is_float
                and not np.isfinite(ops.convert_to_numpy(variable)).all()
            ):
                self._stop(f"The weight {variable.path!r} became NaN or inf")

    def _stop(self, what):
        # A variable of several replicas cannot be cast to a number directly.
        step = ops.convert_to_numpy(self.model.optimizer.iterations)
        raise FloatingPointError(
            f"{what} at step {self.step} of epoch {self.epoch + 1} (step "
            f"{int(step)} of the run). Lower the "
            "learning rate, lengthen the warm-up, or raise the temperature; "
            "under mixed_float16 try mixed_bfloat16."
        )
