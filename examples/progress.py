"""A progress bar over the whole run, with the time that is left."""

import sys
import time

import keras

BAR_WIDTH = 24


class RunProgress(keras.callbacks.Callback):
    """Shows how far the run is, not just the epoch, and when it will end.

    Keras's own bar starts anew each epoch. The estimate leaves out the first
    step after a start, in which the model is compiled.

    Args:
        total_epochs: Integer, epochs of the whole run.
        steps_per_epoch: Integer.
        initial_epoch: Integer, epochs done by an earlier start of the run.
        stream: Where to write. On a terminal one line is overwritten; a file
            gets a line for each epoch.
    """

    def __init__(
        self, total_epochs, steps_per_epoch, initial_epoch=0, stream=None
    ):
        super().__init__()
        self.total_epochs = total_epochs
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_epochs * steps_per_epoch
        self.first_step = initial_epoch * steps_per_epoch
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        self.epoch = initial_epoch
        self.timed_from = None  # (step, time) after the first step
        self.written_at = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        step = self.epoch * self.steps_per_epoch + batch + 1
        if self.timed_from is None:
            self.timed_from = (step, time.monotonic())
        # Ten times a second is as often as one can read.
        if self.is_terminal and time.monotonic() - self.written_at > 0.1:
            self.stream.write("\r" + self._line(step, logs))
            self.stream.flush()
            self.written_at = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        start = "\r" if self.is_terminal else ""
        line = self._line((epoch + 1) * self.steps_per_epoch, logs)
        self.stream.write(f"{start}{line}\n")
        self.stream.flush()

    def seconds_left(self, step):
        """Seconds from `step` to the end of the run; None if not known."""
        if self.timed_from is None or step <= self.timed_from[0]:
            return None
        first_step, first_time = self.timed_from
        per_step = (time.monotonic() - first_time) / (step - first_step)
        return per_step * (self.total_steps - step)

    def _line(self, step, logs):
        filled = BAR_WIDTH * step // self.total_steps
        bar = "=" * filled + "." * (BAR_WIDTH - filled)
        left = self.seconds_left(step)
        values = "".join(
            f"  {name} {logs[key]:.3f}"
            for key, name in (
                ("loss", "loss"),
                ("contrastive_accuracy", "contrastive"),
                ("probe_accuracy", "probe"),
            )
            if key in (logs or {})
        )
        return (
            f"epoch {self.epoch + 1}/{self.total_epochs} [{bar}] "
            f"{step}/{self.total_steps}{values}  "
            f"{'' if left is None else format_seconds(left) + ' left'}"
        ).ljust(100)


def format_seconds(seconds):
    """3725 as "1:02:05", 65 as "1:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
