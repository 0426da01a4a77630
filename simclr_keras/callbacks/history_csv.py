"""Writes the logs of every epoch to a CSV file."""

import contextlib
import csv
import os
import time
import warnings

import keras
from keras import ops

from simclr_keras import distribution, user_code
from simclr_keras.write_aside import make_folder, replace


class HistoryCSV(keras.callbacks.Callback):
    """Writes a row per epoch: step, duration, learning rate and the logs.

    `keras.callbacks.CSVLogger` appends, so an epoch that is run again after a
    resume has two rows. Here the rows of the epochs that `fit` is about to run
    are removed: after `fit(initial_epoch=3)` the first three rows are kept.

    The columns are `epoch` (from 1), `step` (of the whole run), `seconds`,
    `learning_rate`, and those of the logs. The file is written whole, under
    another name first; if that fails, as on a full disk, a warning says so and
    training goes on. With several workers the chief writes it.

    Args:
        path: String, the file.

    Raises:
        ValueError: From `fit`, if the file was written by something else.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> history = simclr_keras.callbacks.HistoryCSV("history.csv")
        >>> _ = model.fit(
        ...     np.ones((8, 2)),
        ...     np.zeros((8, 1)),
        ...     epochs=3,
        ...     callbacks=[history],
        ...     verbose=0,
        ... )
        >>> history.history["epoch"]
        [1.0, 2.0, 3.0]
        >>> sorted(history.history)
        ['epoch', 'learning_rate', 'loss', 'seconds', 'step']
    """

    def __init__(self, path):
        super().__init__()
        self.path = os.fspath(path)
        self._rows = None
        self._started = 0.0

    @property
    def history(self):
        """What the file holds, as in `fit(...).history`.

        A dictionary from the name of a column to a list of floats, one for
        each epoch that has a value; empty if there is no file.
        """
        history = {}
        for row in self._read():
            for name, value in row.items():
                if value != "":
                    history.setdefault(name, []).append(float(value))
        return history

    def on_train_begin(self, logs=None):
        self._rows = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._rows is None:
            self._rows = [r for r in self._read() if int(r["epoch"]) <= epoch]
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        row = {
            "epoch": epoch + 1,
            "step": int(ops.convert_to_numpy(optimizer.iterations)),
            "seconds": round(time.monotonic() - self._started, 3),
            # The digits that a float32 has: 0.1, not 0.10000000149.
            "learning_rate": float(
                str(ops.convert_to_numpy(optimizer.learning_rate))
            ),
        }
        row.update((name, float(value)) for name, value in (logs or {}).items())
        self._rows.append(row)
        if distribution.is_chief(distribution.strategy_of(self.model)):
            self._write()

    def _read(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path, newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        missing = {"epoch", "step", "seconds"} - set(reader.fieldnames or ())
        if missing and reader.fieldnames:
            raise ValueError(
                "`path` must be a file that `HistoryCSV` has written, or none. "
                f"Received: path={self.path!r}, without the columns "
                f"{sorted(missing)}. Choose another path, or move the file."
            )
        return rows

    def _write(self):
        # Not every epoch has every value: see `fit(validation_freq=...)`.
        names = dict.fromkeys(name for row in self._rows for name in row)
        folder = os.path.dirname(self.path)
        partial = self.path + ".part"
        try:
            if folder:
                make_folder(folder)
            with open(partial, "w", newline="") as file:
                writer = csv.DictWriter(file, list(names), restval="")
                writer.writeheader()
                writer.writerows(self._rows)
            replace(partial, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.remove(partial)
            warnings.warn(
                f"{self.path!r} could not be written: {error}. What was there "
                "is untouched. Training goes on, and the next epoch writes all "
                "rows.",
                stacklevel=user_code.stacklevel(),
            )
