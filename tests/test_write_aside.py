import os

import pytest

from simclr_keras import write_aside as module
from simclr_keras.write_aside import make_folder, replace, write_aside


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def test_a_file_takes_its_place(tmp_path):
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with write_aside(path, ".txt") as aside:
            assert aside.endswith(".txt")
            write(aside, text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
        assert os.listdir(path.parent) == ["file.txt"]


def test_a_folder_takes_its_place(tmp_path):
    path = tmp_path / "folder"
    for text in ("first", "second"):
        with write_aside(path) as aside:
            os.makedirs(aside)
            write(os.path.join(aside, text), "")
        assert os.listdir(path) == [text]
        assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_fails_leaves_what_was_there(kind, tmp_path):
    path = tmp_path / "target"
    path.write_text("mine")

    def fail():
        with write_aside(path) as aside:
            if kind == "folder":
                os.makedirs(aside)
                aside = os.path.join(aside, "half")
            write(aside, "half")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["target"]


def test_a_move_that_fails_puts_the_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "mine").touch()

    def fail(source, target):
        raise OSError("No such device")

    def move():
        with write_aside(path) as aside:
            os.makedirs(aside)
            monkeypatch.setattr(os, "replace", fail)

    with pytest.raises(OSError, match="No such device"):
        move()
    assert os.listdir(path) == ["mine"]
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("letter", ["a", "写"])
def test_a_name_as_long_as_may_be(letter, tmp_path):
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - len(".npz")
    path = tmp_path / (letter * (most // len(letter.encode())) + ".npz")
    path.write_text("before")
    with write_aside(path, ".npz") as aside:
        assert os.path.dirname(aside) == str(tmp_path)
        assert os.path.basename(aside).startswith(letter)
        write(aside, "after")
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_replaces_no_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "mine").touch()

    def move():
        with write_aside(path) as aside:
            write(aside, "")

    with pytest.raises(OSError, match="folder"):
        move()
    assert os.listdir(path) == ["mine"]
    assert os.listdir(tmp_path) == ["folder"]


def test_contents_are_on_the_disk_before_their_name(tmp_path, monkeypatch):
    """The order of what must survive a power cut, as the system is told it."""
    names, told = {}, []

    def opened(path, *args, **kwargs):
        number = os_open(path, *args, **kwargs)
        names[number] = os.path.basename(path)
        return number

    os_open, os_replace = os.open, os.replace
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", lambda number: told.append(names[number]))
    monkeypatch.setattr(
        os,
        "replace",
        lambda a, b: (told.append("rename"), os_replace(a, b)),
    )
    (tmp_path / "source" / "inner").mkdir(parents=True)
    write(tmp_path / "source" / "inner" / "file", "content")
    replace(str(tmp_path / "source"), str(tmp_path / "target"))
    assert sorted(told[:3]) == ["file", "inner", "source"]
    assert told[3:] == ["rename", tmp_path.name]
    assert (tmp_path / "target" / "inner" / "file").read_text() == "content"


def test_names_of_new_folders_are_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(module, "_flush", flushed.append)
    make_folder(str(tmp_path / "a" / "b" / "c"))
    assert (tmp_path / "a" / "b" / "c").is_dir()
    folders = [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path)]
    assert flushed == folders
    make_folder(str(tmp_path / "a" / "b" / "c"))
    assert flushed == folders  # nothing is new
