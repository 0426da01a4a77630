"""What the scripts for photos have in common on the command line.

Nothing here imports TensorFlow, so that `--help` and mistakes are quick.
"""

import argparse
import contextlib
import os
import shutil
import sys
import uuid


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


@contextlib.contextmanager
def one_line_errors(parser):
    """Ends the program with one line and 1, or 2 for a `UsageError`."""
    try:
        yield
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


def _stop(program, message, status):
    line = " ".join(str(message).split())
    print(f"{program}: error: {line}", file=sys.stderr)
    sys.exit(status)


def check_exists(flag, value, is_folder):
    """Raises a `UsageError` unless there is such a folder, or such a file."""
    kind = "folder" if is_folder else "file"
    if not (os.path.isdir if is_folder else os.path.isfile)(value):
        raise UsageError(
            f"{flag} must be an existing {kind}. Received: {value}"
        )


def add_output(parser, text, is_folder=True):
    """Adds --output and --overwrite."""
    parser.add_argument(
        "--output",
        type=path,
        required=True,
        metavar="FOLDER" if is_folder else "FILE",
        help=text,
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what an earlier call has written there",
    )


def _existing(path):
    """The path, or the nearest folder above it that exists."""
    path = os.path.realpath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _check_writable(output):
    folder = _existing(output)
    if not os.access(folder, os.W_OK):
        raise UsageError(
            f"--output cannot be written, {folder} does not allow it. "
            f"Received: {output}"
        )


def check_output_file(options):
    """Raises a `UsageError` if --output is there and is not to be replaced."""
    if os.path.isdir(options.output):
        raise UsageError(f"--output must be a file. Received: {options.output}")
    if os.path.exists(options.output) and not options.overwrite:
        raise UsageError(
            f"--output is there already: {options.output}. Choose another, or "
            "replace it with --overwrite."
        )
    _check_writable(options.output)


def check_output_folder(options, *image_folders):
    """Raises a `UsageError` if --output is in use, or among the images.

    Args:
        options: The arguments, with `output` and `overwrite`.
        *image_folders: Paths of folders of images, or None.
    """
    output = options.output
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"--output must be a folder. Received: {output}")
    if os.path.isdir(output) and os.listdir(output) and not options.overwrite:
        raise UsageError(
            f"--output is there already: {output}. Choose another, or replace "
            "its files with --overwrite."
        )
    _check_writable(output)
    for folder in filter(None, image_folders):
        inside, above = os.path.realpath(output), os.path.realpath(folder)
        if os.path.commonpath([inside, above]) == above:
            raise UsageError(
                f"--output must not lie in the images' folder {folder}: its "
                f"pictures would count as images next time. Received: {output}"
            )


@contextlib.contextmanager
def folder_aside(target, stale=()):
    """Yields a folder whose files are moved to `target`, once all are there.

    Other files that `target` holds stay: with --overwrite, a folder that was
    named by mistake loses nothing else.

    Args:
        target: String, the folder; made if it is missing.
        stale: Compiled pattern of names that an earlier call may have written
            and this one may not, or ().
    """
    target = os.path.realpath(target)
    # On the disk of the target, and hidden: no search for images finds it.
    aside = os.path.join(_existing(target), f".{uuid.uuid4().hex}.partial")
    os.mkdir(aside)
    try:
        yield aside
        os.makedirs(target, exist_ok=True)
        if stale:
            for name in filter(stale.fullmatch, os.listdir(target)):
                os.remove(os.path.join(target, name))
        for name in os.listdir(aside):
            os.replace(os.path.join(aside, name), os.path.join(target, name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
