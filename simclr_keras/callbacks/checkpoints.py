"""Saves training after each epoch, to continue it exactly."""

import contextlib
import os
import re
import warnings

import keras

from simclr_keras import distribution, user_code
from simclr_keras.callbacks.checksum import checksum_of, has_checksum
from simclr_keras.callbacks.folder_lock import FolderLock
from simclr_keras.callbacks.training_state import (
    load_training_state,
    training_state,
)
from simclr_keras.write_aside import replace

_NAME = re.compile(r"epoch_(\d+)\.weights\.h5")


class Checkpoints(keras.callbacks.Callback):
    """Saves training after each epoch, and restores it exactly.

    A checkpoint holds the weights, the optimizer with its slots, step and loss
    scale, the state of the random generators of all layers, and the history so
    far. A run that is interrupted and then resumed ends with the weights of an
    uninterrupted one, bit for bit where the operations themselves are
    deterministic.

    To resume, run the same program again: pass what `restore` returns as
    `initial_epoch`. It is 0 the first time. Batches are the data's matter:
    their order must follow from the epoch, as it does in
    `simclr_keras.data.training_dataset(..., initial_epoch=...)` and, on
    TensorFlow after `keras.utils.set_random_seed`, in arrays.

    A checkpoint is written under another name and is on the disk before it has
    its own, so neither a kill nor a power cut leaves half of one. It ends in a
    checksum: a damaged one is never loaded, but the one before it is used, with
    a warning. If one cannot be written, as on a full disk, a warning says so
    and training goes on. It is an ordinary `.weights.h5` file with a few
    additions, and `model.load_weights` reads it.

    Put it **after** callbacks that change the model or the optimizer at the end
    of an epoch, such as `ReduceLROnPlateau`, and after `StopOnNaN`, so that
    nothing is saved that has become NaN. What other callbacks remember (the
    patience of `EarlyStopping`) is not saved.

    With several workers the chief writes and all of them restore, so the
    folder must be one that all of them see. A second run in the same folder is
    refused while the first one lives.

    Args:
        path: String, the folder. It is made if it does not exist.
        keep: Positive integer, how many of the last checkpoints to keep.
            Defaults to 2: see `discard_unproven`.

    Attributes:
        history: Dictionary from each name in the logs to a list of floats, as
            in `fit(...).history`, but of the whole run.

    Raises:
        TypeError: If `keep` is not an integer.
        ValueError: If `keep` is not positive. From `fit`, if the folder holds
            checkpoints that were not restored or is that of a running process,
            or `fit` does not begin at the epoch of the checkpoint.

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
        >>> checkpoints.epochs(), len(checkpoints.history["loss"])
        ([4, 5], 5)
    """

    def __init__(self, path, keep=2):
        super().__init__()
        if not isinstance(keep, int) or isinstance(keep, bool):
            raise TypeError(
                "`keep` must be an integer. Received: "
                f"keep={keep!r} of type {type(keep)}."
            )
        if keep < 1:
            raise ValueError(
                f"`keep` must be a positive integer. Received: keep={keep}."
            )
        self.path = os.fspath(path)
        self.keep = keep
        self.history = {}
        # The model whose state is that after `_epoch` epochs.
        self._model_at_epoch = None
        self._epoch = 0
        self._is_proven = False
        self._lock = None

    def epochs(self):
        """The epochs after which there is a checkpoint, in order.

        0 is the state before the first one.
        """
        if not os.path.isdir(self.path):
            return []
        matches = map(_NAME.fullmatch, os.listdir(self.path))
        return sorted(int(match[1]) for match in matches if match)

    def file(self, epoch):
        """The path of the checkpoint after so many epochs."""
        return os.path.join(self.path, f"epoch_{epoch:05}.weights.h5")

    def restore(self, model):
        """Loads the last checkpoint that is whole, if there is one.

        Args:
            model: `keras.Model`, built and compiled as the one that was saved.

        Returns:
            Integer, the number of epochs that are done, for `initial_epoch`; 0
            if there is no checkpoint.

        Raises:
            ValueError: If there is a checkpoint, and the model is not built
                or not compiled, or differs from the one that was saved; or if
                all checkpoints are damaged.
        """
        epochs = self.epochs()
        if not epochs:
            return 0
        if not model.built or getattr(model, "optimizer", None) is None:
            raise ValueError(
                "`restore` takes a model that is built and compiled, as it "
                "loads the weights and the optimizer. Received: "
                f"{model.name!r}, with built={model.built}. Call "
                "`model.compile(...)`, and `model.build(input_shape)` or the "
                "model itself on a batch, before it."
            )
        epoch = self._last_whole(epochs)
        notes = load_training_state(model, self.file(epoch))
        self.history = notes["history"]
        self._model_at_epoch, self._epoch = model, epoch
        return epoch

    def _last_whole(self, epochs):
        """The last of these epochs whose checkpoint is whole."""
        damaged = []
        for epoch in reversed(epochs):
            if has_checksum(self.file(epoch)):
                break
            damaged.append(self.file(epoch))
        expected = (
            "A checkpoint must be whole, as its checksum says. Received: "
            f"{', '.join(map(repr, damaged))}, damaged or not written by "
            "`Checkpoints`. "
        )
        if len(damaged) == len(epochs):
            raise ValueError(
                f"{expected}There is no other one in this folder; put back a "
                "copy, or begin a new run in another folder."
            )
        if damaged:
            warnings.warn(
                f"{expected}Training continues from {self.file(epoch)!r}.",
                stacklevel=user_code.stacklevel(),
            )
        return epoch

    def discard_unproven(self):
        """Removes the last checkpoint if no step went well after it.

        For use after `StopOnNaN` has ended a run. A step can leave weights that
        are finite but so large that the next loss is not; the checkpoint
        between the two is of no use, and the one before it is the last good
        one. That one is never removed.
        """
        epochs = self.epochs()
        if not self._is_proven and len(epochs) > 1:
            os.remove(self.file(epochs[-1]))
            self._model_at_epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._is_chief() and self._lock is None:
            os.makedirs(self.path, exist_ok=True)
            self._lock = FolderLock(self.path)
        if self._model_at_epoch is not self.model:
            self._start(epoch)
        elif epoch != self._epoch:
            raise ValueError(
                "`fit` must begin where the checkpoint is. Received: "
                f"initial_epoch={epoch}, and a checkpoint after {self._epoch} "
                "epochs. Use `fit(initial_epoch=checkpoints.restore(model))`, "
                "and `epochs` as the total of the whole run."
            )

    def _start(self, epoch):
        """Saves the state before the first epoch."""
        if any(self.epochs()):
            raise ValueError(
                "`Checkpoints` must have an empty folder for a new run. "
                f"Received: {self.path!r}, with a checkpoint after epoch "
                f"{self.epochs()[-1]}. To continue that run, use "
                "`fit(initial_epoch=checkpoints.restore(model))`; for a new "
                "one, choose another folder or remove this one."
            )
        self.history = {}
        self._save(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self._is_proven = True

    def on_train_end(self, logs=None):
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._save(epoch + 1)

    def _is_chief(self):
        return distribution.is_chief(distribution.strategy_of(self.model))

    def _save(self, epoch):
        self._model_at_epoch, self._epoch = self.model, epoch
        self._is_proven = False
        if not self._is_chief():
            return
        partial = os.path.join(self.path, "partial.weights.h5")
        try:
            content = training_state(self.model, {"history": self.history})
            with open(partial, "wb") as file:
                file.write(content)
                file.write(checksum_of(content))
            replace(partial, self.file(epoch))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.remove(partial)
            if not self.epochs():  # Nothing would ever be there to restore.
                raise
            last = self.file(self.epochs()[-1])
            warnings.warn(
                f"The checkpoint after epoch {epoch} could not be written: "
                f"{error}. The last one is {last!r}. Training goes on, and the "
                "next epoch's is tried again.",
                stacklevel=user_code.stacklevel(),
            )
            return
        for old in self.epochs()[: -self.keep]:
            os.remove(self.file(old))
