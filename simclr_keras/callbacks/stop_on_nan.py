"""Ends training as soon as the loss is NaN, infinite or beyond a bound."""

import keras
import numpy as np
from keras import ops

from simclr_keras.argument_checks import check_number, check_positive_integer
from simclr_keras.callbacks.steps_done import passes_over_steps
from simclr_keras.model.left_out import leaves_out_steps


class StopOnNaN(keras.callbacks.Callback):
    """Raises `FloatingPointError` at the first step whose loss is not finite.

    `keras.callbacks.TerminateOnNaN` ends `fit` as if all had gone well, and
    other callbacks then save weights that are useless. After an error they save
    nothing. At the end of an epoch the weights are checked too, and the moving
    statistics of batch norm: the last step can make them NaN after its loss was
    computed.

    An optimizer in `keras.optimizers.LossScaleOptimizer`, as under
    mixed_float16, leaves out a step whose gradients are not finite, and goes
    on with the next batch. There the steps that are left out in a row are
    counted in place of looking at the loss. So there is a choice for every
    dtype, to stop or to skip:

    ```py
    optimizer = keras.optimizers.LossScaleOptimizer(
        simclr_keras.LARS(...), initial_scale=1.0
    )
    ```

    A step of `SimCLRModel` that is left out changes neither moving statistics
    nor metrics; those of another model may be NaN from then on. Schedules count
    the steps that were not left out. Images that are not finite are refused all
    the same.

    With a `bound` a run ends too that goes astray in finite numbers, as where a
    weight grows a hundredfold an epoch while the loss stays as it was. For
    gradients there is `global_clipnorm` of the optimizers.

    Put it **before** callbacks that save: callbacks run in their order, so
    those after it only ever see a finite loss and finite weights. What they
    saved last is the last good checkpoint, but see
    `Checkpoints.discard_unproven`.

    Args:
        patience: Positive integer, how many steps in a row may be left out.
            Defaults to 50, which halve the scale of the loss to less than
            anything that a gradient overflows by.
        bound: Positive float, or None. The largest absolute value that is let
            pass: of the loss after each step, for which Keras gives its mean
            over the epoch so far, and of weights and moving statistics at the
            end of an epoch. Defaults to None, any finite one.

    Raises:
        FloatingPointError: From `fit`, with the epoch and the step, both
            counted from 1.
        TypeError: If `patience` is not an integer, or `bound` not a number.
        ValueError: If one of them is not positive, or `bound` not finite.

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

    def __init__(self, patience=50, bound=None):
        super().__init__()
        check_positive_integer("patience", patience)
        if bound is not None:
            check_number("bound", bound, "be positive", lambda x: x > 0)
        self.patience = patience
        self.bound = bound
        self.epoch = 0
        self.step = 0
        self._iterations = None
        self._left_out = 0
        self._is_passed_over = False

    def on_train_begin(self, logs=None):
        self._iterations, self._left_out = self._read_iterations(), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.step = epoch, 0

    def on_train_batch_begin(self, batch, logs=None):
        self._is_passed_over = passes_over_steps(self.model)

    def on_train_batch_end(self, batch, logs=None):
        steps, self.step = batch + 1 - self.step, batch + 1
        loss = (logs or {}).get("loss")
        if leaves_out_steps(self.model.optimizer):
            if not self._is_passed_over:
                self._count(steps)
            if loss is not None and not np.isfinite(loss):
                return
        if loss is not None:
            self._check("The loss", loss)

    def on_epoch_end(self, epoch, logs=None):
        # The moving statistics of batch norm too: they count in inference.
        for variable in self.model.weights:
            if "float" in keras.backend.standardize_dtype(variable.dtype):
                value = ops.convert_to_numpy(variable)
                self._check(f"The weight {variable.path!r}", value)

    def _check(self, name, values):
        """Stops unless all are finite and none is beyond the bound."""
        # NaN, if there is one; a float64, which no bound overflows.
        largest = float(np.max(np.abs(values), initial=0))
        if not np.isfinite(largest):
            self._stop(f"{name} became {largest}")
        if self.bound is not None and largest > self.bound:
            self._stop(
                f"{name} became {largest:.4g}, in absolute value, beyond the "
                f"bound of {self.bound:g},"
            )

    def _count(self, steps):
        """Counts steps that the optimizer has left out, one after the other."""
        iterations = self._read_iterations()
        is_left_out = iterations == self._iterations
        self._left_out = self._left_out + steps if is_left_out else 0
        self._iterations = iterations
        if self._left_out >= self.patience:
            self._stop(
                f"{self._left_out} steps in a row were left out, whose "
                "gradients were not finite, the last one"
            )

    def _read_iterations(self):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        # A variable of several replicas cannot be cast to a number directly.
        iterations = ops.convert_to_numpy(self.model.optimizer.iterations)
        return int(iterations.item())

    def _stop(self, what):
        iterations = self._read_iterations()
        of_run = f"step {iterations} of the run"
        if leaves_out_steps(self.model.optimizer):
            of_run = f"after {iterations} updates"
        raise FloatingPointError(
            f"{what} at step {self.step} of epoch {self.epoch + 1} ({of_run}). "
            "Lower the learning rate, lengthen the warm-up, or raise the "
            "temperature; under mixed_float16 try mixed_bfloat16."
        )
