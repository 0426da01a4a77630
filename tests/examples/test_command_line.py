"""What the scripts for photos do when they are stopped, and with --output."""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys

import command_line
import features_file
import numpy as np
import pytest
from command_line import UsageError

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SCRIPT = """
import signal, sys, time, command_line
# A shell has its background processes ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
parser = command_line.Parser("Writes a file and waits.")
with command_line.one_line_errors(parser):
    with command_line.folder_aside(sys.argv[1], False) as folder:
        open(f"{folder}/half", "w").close()
        print("writing", flush=True)
        time.sleep(100)
"""


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_nothing_half_written_stays(number, code, word, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
    ) as process:
        assert process.stdout.readline() == "writing\n"
        (partial,) = tmp_path.iterdir()
        assert os.listdir(partial) == ["half"]
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert errors == f"-c: error: {word}, nothing was written.\n"
    assert not list(tmp_path.iterdir())


# --- --output ---------------------------------------------------------------
def options(output, overwrite=False):
    return argparse.Namespace(output=str(output), overwrite=overwrite)


def write(folder, text, *names):
    """Files that hold a text."""
    for name in names:
        pathlib.Path(folder, name).write_text(text)


def contents(folder):
    return {p.name: p.read_text() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_of_pretrain_is_no_folder_to_write_into(overwrite, tmp_path):
    write(tmp_path, "{}", "config.json", "made_of.json")
    with pytest.raises(UsageError, match="--output must not be") as error:
        command_line.check_output_folder(options(tmp_path, overwrite))
    assert str(tmp_path) in str(error.value)
    command_line.check_output_folder(options(tmp_path / "classes", overwrite))


@pytest.mark.parametrize("exists", [False, True])
def test_of_two_calls_at_once_the_second_replaces_nothing(exists, tmp_path):
    output = tmp_path / "out"
    if exists:
        output.mkdir()

    def call(text, overwrite, meanwhile=lambda: None):
        command_line.check_output_folder(options(output, overwrite))
        meanwhile()
        with command_line.folder_aside(
            str(output), overwrite, re.compile("old")
        ) as folder:
            write(folder, text, "map.png")

    with pytest.raises(UsageError, match="--output is there already"):
        call("second", False, lambda: call("first", False))
    assert contents(output) == {"map.png": "first"}
    call("third", True)
    assert contents(output) == {"map.png": "third"}
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(output) == ["map.png"]


def test_what_another_call_is_still_writing_is_not_in_the_way(tmp_path):
    first = contextlib.ExitStack()
    folder = first.enter_context(
        command_line.folder_aside(str(tmp_path), False)
    )
    write(folder, "first", "map.png")
    command_line.check_output_folder(options(tmp_path))
    with command_line.folder_aside(str(tmp_path), False) as folder:
        write(folder, "second", "map.png")
    with pytest.raises(UsageError, match="--output is there already"):
        first.close()
    assert contents(tmp_path) == {"map.png": "second"}
    assert os.listdir(tmp_path) == ["map.png"]


def test_all_files_or_none(tmp_path):
    """A folder with the name of a file: nothing of before is replaced."""
    write(tmp_path, "before", "a.html", "z.html", "old")
    (tmp_path / "map.png").mkdir()
    there = contents(tmp_path)
    with (
        pytest.raises(UsageError, match="--output must not hold") as error,
        command_line.folder_aside(
            str(tmp_path), True, re.compile("old")
        ) as folder,
    ):
        write(folder, "now", "a.html", "map.png", "z.html")
    assert str(tmp_path / "map.png") in str(error.value)
    assert contents(tmp_path) == there
    assert len(os.listdir(tmp_path)) == 4


def test_a_folder_is_nothing_that_an_earlier_call_has_written(tmp_path):
    (tmp_path / "old").mkdir()
    with command_line.folder_aside(
        str(tmp_path), True, re.compile("old")
    ) as folder:
        write(folder, "now", "map.png")
    assert sorted(os.listdir(tmp_path)) == ["map.png", "old"]


@pytest.mark.parametrize(
    "check", [command_line.check_output_file, command_line.check_output_folder]
)
@pytest.mark.parametrize("name", ["{}", "not/yet/{}", "{}/below"])
def test_a_name_that_is_too_long_is_found_at_once(check, name, tmp_path):
    too_long = os.pathconf(tmp_path, "PC_NAME_MAX") + 1
    path = tmp_path / name.format("f" * too_long)
    with pytest.raises(UsageError, match=f"shorter name: of {too_long} char"):
        check(options(path))
    check(options(tmp_path / name.format("f" * (too_long - 1))))
    assert not os.listdir(tmp_path)


# --- What the library says --------------------------------------------------
def test_what_the_library_calls_path_is_a_flag_here():
    with (
        pytest.raises(ValueError, match="--images must") as error,
        command_line.said_of("--images"),
    ):
        raise FileNotFoundError(
            "`path` must contain images. Received: path='a/path=b', which has "
            "none. Pass labels=None to take all."
        )
    assert str(error.value) == (
        "--images must contain images. Received: --images='a/path=b', which "
        "has none."
    )
    with (
        pytest.raises(FileNotFoundError, match="gone"),
        command_line.said_of("--images"),
    ):
        raise FileNotFoundError("gone")


# --- --features -------------------------------------------------------------
PATHS = np.array(["a.png", "b.png"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((2, 3))}, "paths.npy"),
        ({"paths": PATHS}, "features.npy"),
        (
            {"features": np.ones((2, 3)), "paths": np.arange(2)},
            "2 strings. Received: shape (2,), dtype int64",
        ),
        ({"features": np.ones((3, 3)), "paths": PATHS}, "must be 3 strings"),
        ({"features": np.ones((2, 3)), "paths": PATHS[0]}, "must be 2 strings"),
        ({"features": np.ones(2), "paths": PATHS}, "floats (N, F)"),
        ({"features": np.ones((2, 0)), "paths": PATHS}, "at least 1"),
        ({"features": np.ones((0, 3)), "paths": PATHS[:0]}, "at least 1"),
        ({"features": np.ones((2, 3), int), "paths": PATHS}, "dtype int64"),
        ({"features": np.ones((2, 3), "U1"), "paths": PATHS}, "dtype <U1"),
        ({"features": np.ones((2, 3), complex), "paths": PATHS}, "complex128"),
        ({"features": np.array([[None]]), "paths": PATHS[:1]}, "dtype object"),
    ],
)
def test_archives_that_are_no_features(arrays, message, tmp_path):
    path = str(tmp_path / "f.npz")
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match="--features must be") as error:
        features_file.check(path)
    assert message in str(error.value)
    assert path in str(error.value)


def test_files_that_are_features_by_name_alone(tmp_path):
    path = tmp_path / "f.npz"
    with open(path, "wb") as file:
        np.save(file, np.ones((2, 3)))
    with pytest.raises(UsageError, match="it is no zip archive"):
        features_file.check(str(path))
    np.savez(path, features=np.ones((2, 3)), paths=PATHS)
    features_file.check(str(path))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match="it is no zip archive"):
        features_file.check(str(path))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_features_of_all_floats(dtype, tmp_path):
    path = str(tmp_path / "f.npz")
    np.savez_compressed(path, features=np.ones((2, 3), dtype), paths=PATHS)
    features_file.check(path)
