"""Saves training as it goes, to continue it exactly."""

import contextlib
import math
import os
import re
import signal
import time
import warnings

import keras
from keras import ops

from simclr_keras import distribution, user_code
from simclr_keras.argument_checks import check_positive_integer
from simclr_keras.callbacks.background import Background
from simclr_keras.callbacks.checksum import checksum_of, has_checksum
from simclr_keras.callbacks.folder_lock import FolderLock
from simclr_keras.callbacks.steps_done import StepsDone
from simclr_keras.callbacks.stop_request import StopRequest
from simclr_keras.callbacks.training_state import (
    compiled_numbers,
    load_training_state,
    training_state,
)
from simclr_keras.write_aside import make_folder, replace

# Of a model: the numbers in `compile` that a checkpoint replaces.
_ATTRIBUTES = {
    "learning rate": "optimizer.learning_rate",
    "temperature": "loss.temperature",
}
_NAME = re.compile(r"epoch_(\d+)(?:_step_(\d+))?\.weights\.h5")


class Checkpoints(keras.callbacks.Callback):
    """Saves training as it goes, and restores it exactly.

    A checkpoint holds the weights, the optimizer with its slots, step and loss
    scale, the state of the random generators of all layers, the metrics, and
    the history so far. One is written after each epoch, every so many steps or
    minutes if asked for, and when the program is told to stop: at Ctrl-C, or
    at SIGTERM, by which clusters take a machine back, the running step is
    finished and saved, and `fit` raises `KeyboardInterrupt`. A run that is
    interrupted and then resumed ends with the weights of an uninterrupted one,
    bit for bit where the operations themselves are deterministic.

    To resume, run the same program again: pass what `restore` returns as
    `initial_epoch`. It is 0 the first time. A run that stopped within an epoch
    begins that epoch anew and passes over the batches that it has seen,
    without training on them. Batches are the data's matter: their order must
    follow from the epoch, as it does in
    `simclr_keras.data.training_dataset(..., initial_epoch=...)` and, on
    TensorFlow after `keras.utils.set_random_seed`, in arrays. That dataset
    does not even read what is passed over if it is given
    `initial_step=checkpoints.step`.

    A checkpoint is written under another name and is on the disk before it has
    its own, so neither a kill nor a power cut leaves half of one. It ends in a
    checksum: a damaged one is never loaded, but the one before it is used, with
    a warning. If one cannot be written, as on a full disk, a warning says so
    and training goes on. It is an ordinary `.weights.h5` file with a few
    additions, and `model.load_weights` reads it. Training waits while a copy
    of the state is made; that is written while training goes on.

    Put it **after** callbacks that change the model or the optimizer at the end
    of an epoch, such as `ReduceLROnPlateau`, and after `StopOnNaN`, so that
    nothing is saved that has become NaN. What other callbacks remember (the
    patience of `EarlyStopping`) is not saved.

    With several workers the chief writes and all of them restore, so the
    folder must be one that all of them see. A signal to one of them stops all
    after the same step: they ask each other at every step. A second run in the
    same folder is refused while the first one lives.

    Args:
        path: String, the folder. It is made if it does not exist.
        keep: Positive integer, how many of the last checkpoints to keep.
            Defaults to 2: see `discard_unproven`.
        every_steps: Positive integer, after how many steps within an epoch to
            save. None saves at the ends of epochs. Defaults to None.
        every_minutes: Positive float, after how much time within an epoch to
            save. None is never. Defaults to None.
        monitor: String, a name in the logs. The checkpoint after the epoch in
            which it was best is kept, too. Defaults to None.
        mode: "min" or "max", which values of `monitor` are best; "auto" is
            "max" for a name that ends in "accuracy", "min" for one that ends in
            "loss" or "entropy", and what a metric of a `SimCLRModel` says of
            itself. Defaults to "auto".
        signals: Sequence of the signals at which to save and stop. They are
            heard while `fit` runs, in the main thread; a second one takes
            effect at once. Defaults to SIGINT and SIGTERM.

    Attributes:
        history: Dictionary from each name in the logs to a list of floats, as
            in `fit(...).history`, but of the whole run.
        step: Integer, how many steps of the epoch that `restore` returned are
            done.

    Raises:
        KeyboardInterrupt: From `fit`, after one of `signals`.
        TypeError: If `keep` or `every_steps` is not an integer, or
            `every_minutes` is not a number.
        ValueError: If one of them is not positive, or `mode` is none of the
            above. From `fit`, if "auto" tells nothing of `monitor`, the folder
            holds checkpoints that were not restored or is that of a running
            process, or `fit` does not begin at the epoch of the checkpoint.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> x, y = np.ones((8, 2)), np.zeros((8, 1))
        >>> def train(epochs):
        ...     model = keras.Sequential(
        ...         [keras.Input((2,)), keras.layers.Dense(1)]
        ...     )
        ...     model.compile("adam", "mse")
        ...     checkpoints = simclr_keras.callbacks.Checkpoints("checkpoints")
        ...     model.fit(
        ...         x,
        ...         y,
        ...         epochs=epochs,
        ...         initial_epoch=checkpoints.restore(model),
        ...         callbacks=[checkpoints],
        ...         verbose=0,
        ...     )
        ...     return checkpoints
        >>> checkpoints = train(epochs=2)
        >>> checkpoints = train(epochs=5)  # three more
        >>> checkpoints.positions(), len(checkpoints.history["loss"])
        ([(4, 0), (5, 0)], 5)
    """

    def __init__(
        self,
        path,
        keep=2,
        every_steps=None,
        every_minutes=None,
        monitor=None,
        mode="auto",
        signals=(signal.SIGINT, signal.SIGTERM),
    ):
        super().__init__()
        check_positive_integer("keep", keep)
        if every_steps is not None:
            check_positive_integer("every_steps", every_steps)
        if every_minutes is not None:
            _check_minutes(every_minutes)
        if mode not in ("auto", "min", "max"):
            raise ValueError(
                '`mode` must be "auto", "min" or "max". Received: '
                f"mode={mode!r}."
            )
        if monitor is not None and mode == "auto":
            mode = _mode_of(monitor) or mode
        self.path = os.fspath(path)
        self.keep = keep
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.monitor = monitor
        self.mode = mode
        self.signals = tuple(signals)
        self.history = {}
        self.step = 0
        # The model whose state is that after `_position`, (epochs, steps).
        self._model_at_position = None
        self._position = (0, 0)
        self._best = None  # (epochs, value of `monitor`)
        self._restored_best = None
        self._is_proven = False
        self._is_training = False
        # Of the epoch that was interrupted: metrics, and steps to pass over.
        self._metrics = None
        self._steps_done = None
        # Of the run: what `compile` was given, and the steps of an epoch.
        self._compiled = {}
        self._steps = None
        self._saved_at = (0, 0.0)  # steps of this epoch, time
        self._request = StopRequest(self.signals, saves=True)
        self._strategy = None
        self._writing = Background()
        self._lock = None

    # --- What is there -------------------------------------------------------
    def positions(self):
        """Where there is a checkpoint: a list of (epochs, steps), in order.

        (3, 0) is the state after three epochs, (3, 20) that after 20 steps of
        the fourth; (0, 0) is that before the first one.
        """
        if not os.path.isdir(self.path):
            return []
        matches = map(_NAME.fullmatch, os.listdir(self.path))
        return sorted((int(m[1]), int(m[2] or 0)) for m in matches if m)

    def file(self, epoch, step=0):
        """The path of the checkpoint at a position."""
        name = f"epoch_{epoch:05}" + (f"_step_{step:06}" if step else "")
        return os.path.join(self.path, f"{name}.weights.h5")

    def best(self):
        """The position after the epoch in which `monitor` was best, or None.

        Epochs without a value, or with NaN, do not count; of equal ones it is
        the first.
        """
        return None if self._best is None else (self._best[0], 0)

    # --- Resuming ------------------------------------------------------------
    def restore(self, model):
        """Loads the last checkpoint that is whole, if there is one.

        Args:
            model: `keras.Model`, built and compiled as the one that was saved.

        Returns:
            Integer, the number of epochs that are done, for `initial_epoch`; 0
            if there is no checkpoint. `step` says how many steps of the next
            epoch are done, too.

        Raises:
            ValueError: If there is a checkpoint, and the model is not built
                or not compiled, or differs from the one that was saved; or if
                all checkpoints are damaged.
        """
        positions = self.positions()
        if not positions:
            return 0
        if not model.built or getattr(model, "optimizer", None) is None:
            raise ValueError(
                "`restore` takes a model that is built and compiled, as it "
                "loads the weights and the optimizer. Received: "
                f"{model.name!r}, with built={model.built}. Call "
                "`model.compile(...)`, and `model.build(input_shape)` or the "
                "model itself on a batch, before it."
            )
        position = self._last_whole(positions)
        self._compiled = compiled_numbers(model)
        notes, metrics = load_training_state(model, self.file(*position))
        self._tell_of_other_numbers(model, notes.get("compiled"))
        self._steps = notes.get("steps")
        # At the beginning of an epoch there is nothing in them.
        self._metrics = metrics if position[1] else None
        self.history = notes["history"]
        self._best, self._restored_best = None, notes.get("best")
        self._recall_best(position[0])
        self._model_at_position, self._position = model, position
        self.step = position[1]
        return position[0]

    def _tell_of_other_numbers(self, model, compiled_then):
        """Warns of numbers in `compile` that the checkpoint's replace."""
        found = compiled_numbers(model)
        for name, here in self._compiled.items():
            there = (compiled_then or {}).get(name, here)
            # What a callback has changed since then is the run's.
            if here != there and name in found and here != found[name]:
                warnings.warn(
                    f"`compile` was given another {name} than when this run "
                    f"began. Received: {here:.6g}, and {there:.6g} then. The "
                    f"checkpoint's holds, {found[name]:.6g}; to go on with "
                    f"another, set `model.{_ATTRIBUTES[name]}` after "
                    "`restore`.",
                    stacklevel=user_code.stacklevel(),
                )

    def _last_whole(self, positions):
        """The last of these positions whose checkpoint is whole."""
        damaged = []
        for position in reversed(positions):
            if has_checksum(self.file(*position)):
                break
            damaged.append(self.file(*position))
        expected = (
            "A checkpoint must be whole, as its checksum says. Received: "
            f"{', '.join(map(repr, damaged))}, damaged or not written by "
            "`Checkpoints`. "
        )
        if len(damaged) == len(positions):
            raise ValueError(
                f"{expected}There is no other one in this folder; put back a "
                "copy, or begin a new run in another folder."
            )
        if damaged:
            warnings.warn(
                f"{expected}Training continues from {self.file(*position)!r}.",
                stacklevel=user_code.stacklevel(),
            )
        return position

    def discard_unproven(self):
        """Removes the last checkpoint if no step went well after it.

        For use after `StopOnNaN` has ended a run, on the callback that `fit`
        was given. A step can leave weights that are finite but so large that
        the next loss is not; the checkpoint between the two is of no use, and
        the one before it is the last good one. That one is never removed, and
        nothing is by a callback that has neither trained nor restored.

        Example:
            try:
                model.fit(..., callbacks=[StopOnNaN(), checkpoints])
            except FloatingPointError:
                checkpoints.discard_unproven()
                raise
        """
        self._finish_writing()
        positions = self.positions()
        is_known = self._model_at_position is not None
        if is_known and not self._is_proven and len(positions) > 1:
            os.remove(self.file(*positions[-1]))
            self._model_at_position = None

    # --- What `fit` calls ----------------------------------------------------
    def on_train_begin(self, logs=None):
        if self.monitor is not None and self.mode == "auto":
            raise ValueError(
                '`mode` must be "min" or "max" for a `monitor` whose name does '
                "not tell which values are best. Received: "
                f'monitor={self.monitor!r}, with mode="auto".'
            )
        epochs = (self.params or {}).get("epochs")
        if epochs is not None and epochs < self._position[0]:
            warnings.warn(
                "`epochs` must be the total of the whole run. Received: "
                f"epochs={epochs}, and {self._position[0]} are done: nothing "
                "is trained.",
                stacklevel=user_code.stacklevel(),
            )
        self._recall_best(self._position[0])
        self._is_training = True
        self._request.listen()
        self._strategy = distribution.strategy_of(self.model)

    def on_train_end(self, logs=None):
        self._is_training = False
        self._stop_passing_over()
        is_requested = self._request.is_made
        if self.monitor not in (None, *self.history) and not is_requested:
            warnings.warn(
                "`monitor` must be a name in the logs, or no checkpoint is the "
                f"best one. Received: monitor={self.monitor!r}, and logs of "
                f"{sorted(self.history)}.",
                stacklevel=user_code.stacklevel(),
            )
        try:
            self._finish_writing(is_last=True)
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None
            self._request.end()
        if is_requested:
            raise KeyboardInterrupt(self._where())

    def on_epoch_begin(self, epoch, logs=None):
        if self._is_chief() and self._lock is None:
            make_folder(self.path)
            self._lock = FolderLock(self.path)
        if self._model_at_position is not self.model:
            self._start(epoch)
        elif epoch != self._position[0]:
            raise ValueError(
                "`fit` must begin where the checkpoint is. Received: "
                f"initial_epoch={epoch}, and a checkpoint after "
                f"{self._position[0]} epochs. Use "
                "`fit(initial_epoch=checkpoints.restore(model))`, "
                "and `epochs` as the total of the whole run."
            )
        self._stop_passing_over()
        if self._position[1]:
            self._check_steps()
            self._pass_over(self._position[1])
        self._saved_at = (self._position[1], time.monotonic())

    def on_train_batch_end(self, batch, logs=None):
        step = batch + 1
        is_requested, is_due = self._ask_all(
            self._request.is_made, self._is_due(step)
        )
        if step <= self._position[1]:  # All of it is saved already.
            if is_requested:
                self._stop()
            return
        self._is_proven = True
        self._position = (self._position[0], step)
        if is_requested:
            self._metrics = self._read_metrics()
            self._save(self._metrics, is_last=True)
            self._stop()
        elif is_due:
            self._save(self._read_metrics())
        elif not self._writing.is_busy():
            self._finish_writing()

    def on_test_begin(self, logs=None):
        # `evaluate` within `fit`, which begins with new metrics.
        if self._is_training:
            self._metrics = self._read_metrics()

    def on_test_batch_end(self, batch, logs=None):
        if self._is_training and self._ask_all(self._request.is_made)[0]:
            self._save(self._metrics, is_last=True)
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._note_best(epoch + 1, (logs or {}).get(self.monitor))
        # What was saved after the last step is the same state.
        is_saved = self._position[1] and not self._is_proven
        same = self._position if is_saved else None
        self._position = (epoch + 1, 0)
        self._metrics = None
        self._save([], same=same)

    # --- How -----------------------------------------------------------------
    def _recall_best(self, epochs):
        """Finds the best epoch of what was restored, if it has to be."""
        if self._best is not None or self.mode == "auto":
            return
        *of, epoch, value = self._restored_best or (None, None, None, None)
        if of == [self.monitor, self.mode]:
            self._best = (epoch, value)
            return
        # Another `monitor` than before: where it has a value for each epoch.
        values = self.history.get(self.monitor, [])
        if len(values) == epochs:
            for epoch, value in enumerate(values, 1):
                self._note_best(epoch, value)

    def _note_best(self, epoch, value):
        if value is None or math.isnan(value):
            return
        sign = 1 if self.mode == "max" else -1
        if self._best is None or sign * value > sign * self._best[1]:
            self._best = (epoch, float(value))

    def _start(self, epoch):
        """Saves the state before the first epoch."""
        last = max(self.positions(), default=(0, 0))
        if last > (0, 0):
            raise ValueError(
                "`Checkpoints` must have an empty folder for a new run. "
                f"Received: {self.path!r}, with {self.file(*last)!r}. To "
                "continue that run, use "
                "`fit(initial_epoch=checkpoints.restore(model))`; for a new "
                "one, choose another folder or remove this one."
            )
        self.history, self._best, self._restored_best = {}, None, None
        self._model_at_position, self._position = self.model, (epoch, 0)
        self._compiled = compiled_numbers(self.model)
        self._save([])

    def _steps_per_epoch(self):
        # Keras does not know it beforehand of every dataset.
        return (self.params or {}).get("steps")

    def _check_steps(self):
        """Raises if the rest of an epoch is not that of the one begun."""
        steps = self._steps_per_epoch()
        if None not in (steps, self._steps) and steps != self._steps:
            raise ValueError(
                "An epoch must have as many steps as before, to continue "
                f"within it. Received: {self.file(*self._position)!r}, of an "
                f"epoch of {self._steps} steps, and data of {steps}. Use the "
                "batch size and the images that it began with; to change them, "
                "remove this file, and training continues from the checkpoint "
                "before it."
            )

    def _pass_over(self, step):
        """Brings the epoch that was interrupted to where it was."""
        self._set_metrics()
        # Before JAX takes the variables' values away.
        logs = {
            name: float(ops.convert_to_numpy(value).item())
            for name, value in self.model.get_metrics_result().items()
        }
        self._steps_done = StepsDone(self.model, step, logs)

    def _read_metrics(self):
        # Those of several workers are read by all of them together.
        return [ops.convert_to_numpy(v) for v in self.model.metrics_variables]

    def _set_metrics(self):
        """Sets the metrics to what they were in the midst of the epoch."""
        if self._metrics is None:  # An error has ended it.
            return
        variables = self.model.metrics_variables
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [value.shape for value in self._metrics]:
            raise ValueError(
                "The model must have the metrics that it was saved with, to "
                "continue within an epoch. Received: "
                f"{self.file(*self._position)!r}, with {len(self._metrics)} "
                f"variables of metrics, for a model with {len(variables)}."
            )
        for variable, value in zip(variables, self._metrics):
            variable.assign(value)
        self._metrics = None

    def _stop_passing_over(self):
        if self._steps_done is not None:
            self._steps_done.end()
            self._steps_done = None

    def _is_due(self, step):
        saved_step, saved_time = self._saved_at
        if self.every_steps and step - saved_step >= self.every_steps:
            return True
        minutes = (time.monotonic() - saved_time) / 60
        return self.every_minutes is not None and minutes >= self.every_minutes

    def _ask_all(self, *conditions):
        """Whether one of the workers has something, the same on all."""
        return distribution.any_worker(self._strategy, *conditions)

    def _stop(self):
        # A worker that ends takes the others with it: the chief is to have
        # written before that.
        self._ask_all(True)
        self._is_training = False
        self._stop_passing_over()
        self._request.end()
        raise KeyboardInterrupt(self._where())

    def _where(self):
        """What a signal has left behind."""
        return f"Training is saved in {self.path!r}, to be continued from."

    def _is_chief(self):
        return distribution.is_chief(distribution.strategy_of(self.model))

    def _save(self, metrics, is_last=False, same=None):
        """Writes the state at `_position`, the first and the last at once.

        Args:
            metrics: List of arrays, the values of the metrics' variables.
            is_last: Boolean, whether training ends with it.
            same: Position of a checkpoint that this one takes the place of, so
                that those which are kept are different states; or None.
        """
        self._saved_at = (self._position[1], time.monotonic())
        self._is_proven = False
        if not self._is_chief():
            return
        self._finish_writing(is_last)
        best = self._best and (self.monitor, self.mode, *self._best)
        notes = {
            "history": self.history,
            "best": best,
            "compiled": self._compiled,
            "steps": self._steps_per_epoch(),
        }
        content = training_state(self.model, notes, metrics)
        position, best = self._position, self.best()

        def write():
            partial = os.path.join(self.path, "partial.weights.h5")
            try:
                with open(partial, "wb") as file:
                    file.write(content)
                    file.write(checksum_of(content))
                replace(partial, self.file(*position))
            except OSError as error:
                if error.errno:  # Without one its text would be lost.
                    error.filename = error.filename or partial
                with contextlib.suppress(OSError):
                    os.remove(partial)
                raise _NotWrittenError(position, error) from error
            self._remove_old(position, best, same)

        self._writing.run(write)
        if is_last or not self.positions():
            self._finish_writing(is_last)

    def _remove_old(self, position, best, same):
        """Removes what is not kept, after a checkpoint has been written."""
        path = self.path
        try:
            # Damaged ones may be ahead: they do not count.
            done = [each for each in self.positions() if each <= position]
            if same in done:
                done.remove(same)
                path = self.file(*same)
                os.remove(path)
            for old in done[: -self.keep]:
                if old != best:
                    path = self.file(*old)
                    os.remove(path)
        except OSError as error:
            raise _NotRemovedError(path, error) from error

    def _finish_writing(self, is_last=False):
        """Waits for what is being written, and warns if that failed."""
        try:
            self._writing.wait()
            return
        except _NotWrittenError as failure:
            # Its own file may be there, and not yet for good.
            others = [p for p in self.positions() if p < failure.position]
            if not others:  # Nothing would ever be there to restore.
                raise failure.error from None
            epoch, step = failure.position
            place = (
                f"step {step} of epoch {epoch + 1}"
                if step
                else (f"epoch {epoch}")
            )
            last = self.file(*others[-1])
            text = (
                f"The checkpoint after {place} could not be written: "
                f"{failure.error}. The last one is {last!r}."
            )
        except _NotRemovedError as failure:
            text = (
                f"The old checkpoint {failure.path!r} could not be removed: "
                f"{failure.error}."
            )
        if not is_last:
            text += (
                " Training goes on, and with the next one it is tried again."
            )
        warnings.warn(text, stacklevel=user_code.stacklevel())


class _NotWrittenError(Exception):
    def __init__(self, position, error):
        super().__init__(str(error))
        self.position = position
        self.error = error


class _NotRemovedError(Exception):
    def __init__(self, path, error):
        super().__init__(str(error))
        self.path = path
        self.error = error


def _mode_of(monitor):
    """Which values of what is logged are best, or None if none can tell."""
    if monitor.endswith("accuracy"):
        return "max"
    if monitor.endswith(("loss", "entropy")):
        return "min"
    return None


def _check_minutes(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            "`every_minutes` must be a number. Received: "
            f"every_minutes={value!r} of type {type(value)}."
        )
    if not value > 0:
        raise ValueError(
            "`every_minutes` must be positive. Received: "
            f"every_minutes={value}."
        )
