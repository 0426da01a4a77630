"""The folder of a run: configuration, history, checkpoints, results."""

import csv
import json
import os
import re
import time

import keras

CHECKPOINT = re.compile(r"epoch_(\d+)\.weights\.h5")


class RunFolder:
    """Where a run keeps what it makes.

        config.json        the resolved configuration
        history.csv        a line for each epoch
        checkpoints/       weights, optimizer and random state of the last two
                           epochs
        tensorboard/       for `tensorboard --logdir`
        *.png, encoder.keras, results.json

    Args:
        path: String, the folder; made if it is missing.
        resume: Boolean, go on with the run that is there, if there is one.

    Raises:
        ValueError: If it holds another run and `resume` is False, or files
            that are not a run's.
    """

    def __init__(self, path, resume=False):
        self.path = path
        is_run = os.path.exists(self.file("config.json"))
        if is_run and not resume:
            raise ValueError(
                f"The run folder {path!r} holds another run, of recipe "
                f"{self.read_config()['recipe']!r}. Go on with that run by "
                "--resume, or choose another folder by --run_dir."
            )
        if not is_run and os.path.exists(path) and os.listdir(path):
            raise ValueError(
                f"The run folder {path!r} must be empty, missing, or hold a "
                "run. Received a folder with other files in it. Choose "
                "another folder by --run_dir."
            )
        self.is_resumed = is_run

    def file(self, *names):
        """The path of a file in the folder."""
        return os.path.join(self.path, *names)

    def read_config(self):
        """The configuration of the run that is there."""
        with open(self.file("config.json")) as file:
            return json.load(file)

    def write_json(self, name, content):
        """Writes a JSON file, whole or not at all."""
        os.makedirs(self.path, exist_ok=True)
        with open(self.file(name + ".part"), "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        os.replace(self.file(name + ".part"), self.file(name))


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of training after each epoch, and keeps the last two.

    A file holds weights, optimizer and the state of all random generators, so
    that a run goes on as if it had not been interrupted.

    Args:
        path: String, the folder.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.is_proven = False
        os.makedirs(path, exist_ok=True)

    def epochs(self):
        """The epochs that there are checkpoints of, in order."""
        matches = map(CHECKPOINT.fullmatch, os.listdir(self.path))
        return sorted(int(match[1]) for match in matches if match)

    def file(self, epoch):
        """The checkpoint after so many epochs."""
        return os.path.join(self.path, f"epoch_{epoch:05}.weights.h5")

    def restore(self, model):
        """Loads the last checkpoint.

        Args:
            model: A built and compiled model.

        Returns:
            Integer, the epochs that are done; 0 where there is no checkpoint.
        """
        if not self.epochs():
            return 0
        # Keras skips the state of an optimizer that has no variables yet.
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        model.load_weights(self.file(self.epochs()[-1]))
        return self.epochs()[-1]

    def discard_unproven(self):
        """Removes the last checkpoint if no step went well after it.

        A step can make weights finite and yet so large that the next loss is
        not; then the checkpoint between the two is no good.
        """
        if not self.is_proven and len(self.epochs()) > 1:
            os.remove(self.file(self.epochs()[-1]))

    def on_train_begin(self, logs=None):
        if not self.epochs():
            self._save(0)

    def on_train_batch_end(self, batch, logs=None):
        self.is_proven = True

    def on_epoch_end(self, epoch, logs=None):
        self._save(epoch + 1)

    def _save(self, epoch):
        # Written under another name first: a kill leaves no half checkpoint.
        partial = os.path.join(self.path, "partial.weights.h5")
        self.model.save_weights(partial, overwrite=True)
        os.replace(partial, self.file(epoch))
        self.is_proven = False
        for old in self.epochs()[:-2]:
            os.remove(self.file(old))


class HistoryFile(keras.callbacks.Callback):
    """Writes a line of `history.csv` for each epoch.

    Args:
        path: String, the file.
        initial_epoch: Integer, the epochs that are done. Lines of later ones
            are removed: their epochs are about to be run again.
    """

    def __init__(self, path, initial_epoch=0):
        super().__init__()
        self.path = path
        self.started = None
        kept = [r for r in self.rows() if int(r["epoch"]) <= initial_epoch]
        self._write(kept, "w")

    def rows(self):
        """The lines so far, as dictionaries of strings."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, newline="") as file:
            return list(csv.DictReader(file))

    def column(self, name):
        """The numbers of one column; empty where there is no such column."""
        return [float(row[name]) for row in self.rows() if name in row]

    def last(self):
        """The numbers of the last epoch; empty before the first."""
        rows = self.rows()
        return {k: float(v) for k, v in rows[-1].items()} if rows else {}

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            "step": int(self.model.optimizer.iterations.numpy()),
            "seconds": round(time.monotonic() - self.started, 3),
            "learning_rate": float(self.model.optimizer.learning_rate),
            **logs,
        }
        self._write([row], "a")

    def _write(self, rows, mode):
        is_new = mode == "w" or os.path.getsize(self.path) == 0
        with open(self.path, mode, newline="") as file:
            if rows:
                writer = csv.DictWriter(file, list(rows[0]))
                if is_new:
                    writer.writeheader()
                writer.writerows(rows)
