"""What the scripts for photos have in common on the command line.

Nothing here imports TensorFlow, so that `--help` and mistakes are quick.
"""

import argparse
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import sys
import uuid

# What the run folder of pretrain.py has, and no folder that is written here.
_OF_A_RUN = ("config.json", "made_of.json")
# Where `folder_aside` writes: not hidden files of others.
_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial")


class UsageError(ValueError):
    """Something that the user can put right on the command line."""


class Parser(argparse.ArgumentParser):
    """A parser whose help has every default, and whose errors are one line.

    Args:
        description: String, the docstring of the script.
    """

    def __init__(self, description):
        super().__init__(
            description=description,
            formatter_class=_Formatter,
            # A flag that is added later must not change what a command means.
            allow_abbrev=False,
        )

    def error(self, message):
        _stop(self.prog, message, 2)


class _Formatter(
    argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter
):
    """Keeps the docstring's lines, and adds defaults where there is one."""

    def _get_help_string(self, action):
        if action.default is None or action.required:
            return action.help  # which says itself what happens without it
        return super()._get_help_string(action)


def path(text):
    """A path of the command line; a shell leaves the ~ of --flag=~/x alone."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return os.path.expanduser(text)


def positive(text):
    """A positive integer of the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a positive integer. Received: {text}"
        )
    return int(text)


def fraction(text):
    """A part of something on the command line, in (0, 1]."""
    try:
        if 0 < float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must lie in (0, 1]. Received: {text}")


@contextlib.contextmanager
def one_line_errors(parser):
    """Ends the program with one line and 1, or 2 for a `UsageError`.

    SIGTERM, by which a scheduler stops a program, ends it as Ctrl-C does, so
    that nothing half-written stays.
    """

    def terminate(number, frame):
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except TerminatedError:
        _stop(parser.prog, "terminated, nothing was written.", 143)
    except UsageError as error:
        _stop(parser.prog, error, 2)
    except KeyboardInterrupt:
        _stop(parser.prog, "interrupted, nothing was written.", 130)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        _stop(parser.prog, error, 1)
    except Exception as error:
        # Of these there is a class only once TensorFlow has been imported.
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow and isinstance(error, tensorflow.errors.OpError):
            _stop(parser.prog, error.message, 1)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class TerminatedError(BaseException):
    """Raised by SIGTERM. No `Exception`, which other code would handle."""


def _stop(program, message, status):
    # Keras colors its messages, and lists the arguments of the call.
    message = re.sub(r"\x1b\[[0-9;]*m", "", str(message))
    message = re.sub(r"(?s)Arguments received by .*", "", message)
    line = " ".join(message.split())
    print(f"{program}: error: {line}", file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def said_of(flag, test_flag="--test_folder"):
    """Puts flags in errors of the library that speak of `path`, `test_path`."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        if not re.search(r"`(test_)?path`", message):
            raise
        for argument, its_flag in (("path", flag), ("test_path", test_flag)):
            message = message.replace(f"`{argument}`", its_flag)
            message = message.replace(
                f"Received: {argument}=", f"Received: {its_flag}="
            )
        # Advice on arguments is none for a command line.
        message = re.sub(r" Pass \w+=.*", "", message)
        raise ValueError(message) from None


def check_exists(flag, value, is_folder):
    """Raises a `UsageError` unless there is such a folder, or such a file."""
    kind = "folder" if is_folder else "file"
    if not (os.path.isdir if is_folder else os.path.isfile)(value):
        raise UsageError(
            f"{flag} must be an existing {kind}. Received: {value}"
        )


def check_test_folder(flag, folder, test_folder):
    """Raises a `UsageError` unless held-out images are others than `folder`'s.

    Args:
        flag: String, that of `folder`.
        folder: Path or None.
        test_folder: Path, what --test_folder says, or None.
    """
    if test_folder is None:
        return
    if folder is None:
        raise UsageError(f"--test_folder needs {flag}.")
    check_exists("--test_folder", test_folder, is_folder=True)
    check_is_elsewhere(flag, folder, test_folder)


def check_is_elsewhere(flag, folder, test_folder):
    """Raises a `UsageError` if one folder is given for both.

    That no image is in both is told when they are read.
    """
    if os.path.realpath(folder) == os.path.realpath(test_folder):
        raise UsageError(
            f"--test_folder must hold other images than {flag}. Received for "
            f"both: {folder}"
        )


def add_output(parser, text, is_folder=True, required=True):
    """Adds --output and --overwrite."""
    parser.add_argument(
        "--output",
        type=path,
        required=required,
        metavar="FOLDER" if is_folder else "FILE",
        help=text,
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what an earlier call has written there",
    )


def add_training(parser, rate_of="for 256 images"):
    """Adds --train_batch_size, --learning_rate and --seed."""
    parser.add_argument(
        "--train_batch_size",
        type=positive,
        default=256,
        metavar="N",
        help="images in a step",
    )
    parser.add_argument(
        "--learning_rate",
        type=float,
        default=0.05,
        metavar="RATE",
        help=rate_of,
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws")


def write_results(folder, results):
    """Writes `results.json`.

    Args:
        folder: String.
        results: Dictionary.
    """
    path = os.path.join(folder, "results.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=2)
        file.write("\n")


def _existing(path):
    """The path, or the nearest folder above it that exists."""
    path = os.path.realpath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _check_writable(output):
    folder = _existing(output)
    missing = os.path.relpath(os.path.realpath(output), folder)
    for name in missing.split(os.sep):
        try:
            os.lstat(os.path.join(folder, name))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                continue  # Most often: it is not there yet.
            raise UsageError(
                f"--output must have a shorter name: of {len(name)} characters "
                f"it is too long for the file system. Received: {output}"
            ) from None
    if not os.access(folder, os.W_OK):
        raise UsageError(
            f"--output cannot be written, {folder} does not allow it. "
            f"Received: {output}"
        )


def check_output_file(options):
    """Raises a `UsageError` if --output is there and is not to be replaced."""
    if os.path.isdir(options.output):
        raise UsageError(f"--output must be a file. Received: {options.output}")
    check_is_free(options.output, options.overwrite)
    _check_writable(options.output)


def check_is_free(output, overwrite):
    """Raises a `UsageError` if a file is there and is not to be replaced."""
    if os.path.exists(output) and not overwrite:
        raise UsageError(
            f"--output is there already: {output}. Choose another, or replace "
            "it with --overwrite."
        )


def check_output_folder(options, *image_folders):
    """Raises a `UsageError` if --output is in use, or among the images.

    Args:
        options: The arguments, with `output` and `overwrite`.
        *image_folders: Paths of folders of images, or None.
    """
    output = options.output
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"--output must be a folder. Received: {output}")
    if all(os.path.exists(os.path.join(output, name)) for name in _OF_A_RUN):
        raise UsageError(
            "--output must not be the folder of a run of pretrain.py, whose "
            f"results would be replaced. Received: {output}. Choose another, "
            "which may lie in it."
        )
    if not options.overwrite:
        _check_is_empty(output)
    _check_writable(output)
    for folder in filter(None, image_folders):
        inside, above = os.path.realpath(output), os.path.realpath(folder)
        if os.path.commonpath([inside, above]) == above:
            raise UsageError(
                f"--output must not lie in the images' folder {folder}: its "
                f"pictures would count as images next time. Received: {output}"
            )


def _is_in_use(folder):
    """Whether a folder holds anything but what is being written into it."""
    return os.path.isdir(folder) and not all(
        map(_PARTIAL.fullmatch, os.listdir(folder))
    )


def _check_is_empty(output):
    if _is_in_use(output):
        raise UsageError(
            f"--output is there already: {output}. Choose another, or replace "
            "its files with --overwrite."
        )


@contextlib.contextmanager
def folder_aside(target, overwrite, stale=()):
    """Yields a folder whose files are moved to `target`, once all are there.

    Other files that `target` holds stay: with --overwrite, a folder that was
    named by mistake loses nothing else.

    Args:
        target: String, the folder; made if it is missing.
        overwrite: Boolean, --overwrite: without it, a `target` that another
            call has filled meanwhile is left as it is.
        stale: Compiled pattern of names that an earlier call may have written
            and this one may not, or ().

    Raises:
        UsageError: At the end, if `target` cannot take the files. It is left
            as it was.
    """
    target = os.path.realpath(target)
    # On the disk of the target, and hidden: no search for images finds it.
    aside = os.path.join(_existing(target), f".{uuid.uuid4().hex}.partial")
    os.mkdir(aside)
    try:
        yield aside
        names = os.listdir(aside)
        if not overwrite:
            _check_is_empty(target)
        # All before the first: half of the files would be worse than none.
        for name in names:
            if os.path.isdir(os.path.join(target, name)):
                raise UsageError(
                    "--output must not hold a folder with the name of a file "
                    f"to write. Received: {os.path.join(target, name)}. Move "
                    "it, or choose another --output."
                )
        os.makedirs(target, exist_ok=True)
        for name in os.listdir(target) if stale else ():
            path = os.path.join(target, name)
            # A folder is nothing that an earlier call has written.
            if stale.fullmatch(name) and not os.path.isdir(path):
                os.remove(path)
        for name in names:
            os.replace(os.path.join(aside, name), os.path.join(target, name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
