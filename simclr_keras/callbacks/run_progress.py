"""A progress bar over the whole run, with the time left."""

import math
import shutil
import sys
import time

import keras

from simclr_keras import distribution
from simclr_keras.argument_checks import check_names

BAR_WIDTH = 24
FIRST_LINE_AFTER = 30.0  # seconds of steps, in a file


class RunProgress(keras.callbacks.Callback):
    """Shows how far the whole run is, and how long it will still take.

    Keras's own bar starts anew each epoch; pass `verbose=0` to `fit` to have
    this one in its place. A line looks like

        epoch 10/20 [======......] 50/100  loss 3.912  1:05 left

    and counts the epochs before `initial_epoch`. The time left follows from the
    steps of this start, without the first one, in which Keras compiles the
    step. On a terminal one line is overwritten, which leaves out the bar and
    then metrics where it is narrow; a file or a notebook gets a line per epoch,
    and one after half a minute, so that it tells early how long the run will
    take. With several workers the chief prints.

    Args:
        metrics: Sequence of strings, the names in the logs to show. None shows
            all of them. Defaults to None.
        stream: Where to write. None is `sys.stdout`. Defaults to None.

    Raises:
        TypeError: If `metrics` is not a sequence of strings.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> _ = model.fit(
        ...     np.ones((64, 2)),
        ...     np.zeros((64, 1)),
        ...     epochs=2,
        ...     callbacks=[simclr_keras.callbacks.RunProgress()],
        ...     verbose=0,
        ... )
        epoch 1/2 [============............] 2/4  loss ... left
        epoch 2/2 [========================] 4/4  loss ... left
    """

    def __init__(self, metrics=None, stream=None):
        super().__init__()
        if metrics is not None:
            check_names("metrics", metrics)
        self.metrics = metrics
        self.stream = stream
        self._epoch = self._batches = 0
        self._steps_per_epoch = None
        self._timed_from = None  # (epoch, batches, time) of the first step
        self._written_at = -math.inf
        self._is_terminal = self._is_chief = False

    def on_train_begin(self, logs=None):
        # None for a dataset of unknown size, until an epoch has ended.
        self._steps_per_epoch = self.params.get("steps")
        self._timed_from, self._written_at = None, -math.inf
        self._is_terminal = self._stream().isatty()
        strategy = distribution.strategy_of(self.model)
        self._is_chief = distribution.is_chief(strategy)
        if self._is_terminal:
            self._write("The first step is compiled ...", end="")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._batches = epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self._batches = batch + 1
        if self._timed_from is None:
            self._timed_from = (self._epoch, self._batches, now)
        # Ten times a second is as often as one can read. Reading the logs more
        # often would make the host wait for the device.
        if self._is_terminal and now - self._written_at > 0.1:
            self._written_at = now
            self._write(self._line(logs, now), end="")
        is_first = not self._is_terminal and self._written_at == -math.inf
        if is_first and now - self._timed_from[-1] >= FIRST_LINE_AFTER:
            self._written_at = now
            self._write(self._line(logs, now), end="\n")

    def on_epoch_end(self, epoch, logs=None):
        if self._steps_per_epoch is None:
            self._steps_per_epoch = self._batches
        self._batches = self._steps_per_epoch
        self._written_at = now = time.monotonic()
        self._write(self._line(logs, now), end="\n")

    def _stream(self):
        return sys.stdout if self.stream is None else self.stream

    def _write(self, line, end):
        if not self._is_chief:
            return
        if self._is_terminal:
            # All of one line, so that nothing is left of what it replaces.
            width = _terminal_width()
            line = "\r" + line[:width].ljust(width)
        self._stream().write(line + end)
        self._stream().flush()

    def _step(self, epoch, batches):
        return epoch * self._steps_per_epoch + batches

    def _line(self, logs, now):
        epochs = self.params["epochs"]
        epoch, bar, left = f"epoch {self._epoch + 1}/{epochs}", "", []
        if self._steps_per_epoch is None:
            count = f" {self._batches} steps"
        else:
            step = self._step(self._epoch, self._batches)
            total = self._step(epochs, 0)
            filled = BAR_WIDTH * step // total
            bar = f" [{'=' * filled}{'.' * (BAR_WIDTH - filled)}]"
            count = f" {step}/{total}"
            seconds = self._seconds_left(step, total, now)
            if seconds is not None:
                left = [f"{format_seconds(seconds)} left"]
        logs = logs or {}
        values = [
            f"{name} {float(logs[name]):.3f}"
            for name in (logs if self.metrics is None else self.metrics)
            if name in logs
        ]

        def line():
            return "  ".join([epoch + bar + count, *values, *left])

        width = _terminal_width() if self._is_terminal else math.inf
        if len(line()) > width:
            bar = ""
        while values and len(line()) > width:
            values.pop()
        return line()

    def _seconds_left(self, step, total, now):
        """None if there was no step to take the time of yet."""
        if self._timed_from is None:
            return None
        *first, started = self._timed_from
        done = step - self._step(*first)
        return (now - started) / done * (total - step) if done else None


def _terminal_width():
    """The columns to write in: in the last one some terminals wrap."""
    return shutil.get_terminal_size().columns - 1


def format_seconds(seconds):
    """Seconds as on a clock: 65 is "1:05", 3725 is "1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
