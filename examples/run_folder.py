"""The folder of a run: what is in it, and how a run that stops leaves it."""

import contextlib
import json
import os
import re
import shlex
import sys

import made_of
import recipes
import tensorflow as tf
from strategies import local_copy

from simclr_keras.callbacks.folder_lock import FolderLock
from simclr_keras.data.messages import message_of
from simclr_keras.write_aside import make_folder, replace, write_aside


class RunFolder:
    """Where a run keeps what it makes.

        config.json        the resolved configuration
        made_of.json       versions, data and configuration, as it began
        history.csv        a row for each epoch
        checkpoints/       everything to continue from, the last two of them
        tensorboard/       for `tensorboard --logdir`
        model.keras        the whole model, without its optimizer
        encoder.keras      its encoder alone
        *.png, results.json

    Args:
        path: String, the folder; made if it does not exist.
        resume: Boolean, continue the run that is there, if there is one.

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
                f"{self.read_config().get('recipe')!r}. Continue that run with "
                "--resume, or choose another folder with --run_dir."
            )
        if not is_run and self._others():
            raise ValueError(
                f"The run folder {path!r} must be empty, missing, or hold a "
                "run. Received a folder with other files in it. Choose "
                "another folder with --run_dir."
            )
        self.is_resumed = is_run
        self._lock = None

    def lock(self):
        """Keeps other processes out until this one ends.

        Raises:
            ValueError: If another one runs in it.
        """
        make_folder(self.path)
        self._lock = FolderLock(self.path)

    def _others(self):
        """Files that are there, but for what a first write left unfinished."""
        names = os.listdir(self.path) if os.path.exists(self.path) else []
        ours = (".part", ".lock")
        return [name for name in names if not name.endswith(ours)]

    def file(self, *names):
        """The path of a file in the folder."""
        return os.path.join(self.path, *names)

    def read_config(self):
        """The configuration of the run that is there."""
        return self.read_json("config.json")

    def read_json(self, name):
        """What a JSON file of the folder holds, None if there is no file."""
        if not os.path.exists(self.file(name)):
            return None
        try:
            with open(self.file(name)) as file:
                content = json.load(file)
        except ValueError as error:
            raise ValueError(
                f"{self.file(name)!r} is damaged: {error}. Put back a copy, or "
                "start another run with another --run_dir."
            ) from None
        if not isinstance(content, dict):
            raise ValueError(
                f"{self.file(name)!r} must hold a dictionary. Received: "
                f"{content!r}."
            )
        return content

    def check_made_of(self, before, now, is_forced):
        """Raises a `ValueError` if a run that is resumed would be another one.

        Args:
            before, now: As `made_of.describe` gives them.
            is_forced: Boolean, whether to print what differs and to go on.
        """
        found = made_of.differences(before, now)
        if not found:
            return
        lines = "".join(f"\n    {line}" for line in found)
        if not is_forced:
            raise ValueError(
                f"The run in {self.path!r} began with something else:{lines}\n"
                "Bring that back, or go on all the same with --resume=force."
            )
        print(f"Going on, although this differs:{lines}")
        if any(line.startswith("data") for line in found):
            print(
                "    Images that the run has seen may be among those that are "
                "held out now: its results may be too good."
            )

    def write_json(self, name, content):
        """Writes a JSON file, whole or not at all."""
        make_folder(self.path)
        with open(self.file(name + ".part"), "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        replace(self.file(name + ".part"), self.file(name))

    def save_model(self, model):
        """Writes `model.keras` and `encoder.keras`, each whole or not at all.

        Args:
            model: A `SimCLRModel`. Its optimizer stays in the checkpoints.
        """
        uncompiled = local_copy(model)
        uncompiled.build(model.encoder.input_shape)
        for name, part in (
            ("model.keras", uncompiled),
            ("encoder.keras", uncompiled.encoder),
        ):
            with write_aside(self.file(name), ".keras") as path:
                part.save(path)


@contextlib.contextmanager
def stops_with_advice(folder, checkpoints, model, epochs, is_chief):
    """Ends the program if `fit` stops early, with what to do next.

    Args:
        folder: `RunFolder`.
        checkpoints: The `Checkpoints` that `fit` has.
        model: The `SimCLRModel`. On Ctrl-C it is saved as it is.
        epochs: Integer, the epochs of the whole run.
        is_chief: Boolean, whether this process is the one that writes.
    """
    program, run_dir = (shlex.quote(p) for p in (sys.argv[0], folder.path))
    resume = f"    python {program} --run_dir={run_dir} --resume"
    try:
        yield
    except KeyboardInterrupt:
        if is_chief:
            folder.save_model(model)
            print(
                f"\nInterrupted. {folder.file('encoder.keras')} is the encoder "
                f"as it is now.\n{_last(checkpoints, epochs)}\nContinue from "
                f"there with\n{resume}"
            )
        sys.exit(130)  # as a shell reports Ctrl-C
    except FloatingPointError as error:
        if is_chief:
            checkpoints.discard_unproven()
        sys.exit(f"\n{error}\n{_last(checkpoints, epochs)}")
    except tf.errors.InvalidArgumentError as error:
        # A wrong image or label, or a file that cannot be read.
        sys.exit(
            f"\nError: {what_is_wrong(error)}\n"
            f"{_last(checkpoints, epochs)}\nOnce the data is fixed, continue "
            f"from there with\n{resume}"
        )
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        sys.exit(
            f"\nError: {error.message}\nA worker is gone. Start all of them "
            "again with --resume."
        )


def what_is_wrong(error):
    """What an error in the reading of images says, in the words of flags.

    Args:
        error: `tf.errors.OpError`.
    """
    message = message_of(error)
    if re.match(r"Invalid \w+ data", message):
        message += (
            " A file that is cut into while it is decoded is not named: "
            'on_error="skip" finds such files and leaves them out.'
        )
    return recipes.in_flags(message)


def _last(checkpoints, epochs):
    positions = checkpoints.positions()
    if not positions:  # stopped before the first step
        return "There is no checkpoint yet."
    return (
        f"The last good checkpoint is {checkpoints.file(*positions[-1])}.\n"
        f"It was saved after {in_words(*positions[-1], epochs)}."
    )


def in_words(epoch, step, epochs):
    """How far a run is: epochs that are done, and steps of the next one."""
    if step:
        return f"step {step} of epoch {epoch + 1} of {epochs}"
    return f"epoch {epoch} of {epochs}"
