"""A disk on which one operation of a write fails."""

import builtins
import os

# In their order. The checksum is written behind the content, the end of both
# when the file is closed.
OPERATIONS = (
    "open",
    "write 1",
    "write 2",
    "close",
    "open to flush",
    "flush",
    "rename",
    "open the folder",
    "flush the folder",
    "remove",
)


class FaultyDisk:
    """Stands between Python and the system, for the files of one folder.

    It counts the times that a file is opened for writing, under a name that
    ends in `suffix`. Of those after that many of `healthy` ones, until there
    have been `faults`, the operation fails.

    Args:
        monkeypatch: That of pytest.
        folder: `pathlib.Path`.
        suffix: String.
        operation: One of `OPERATIONS`.
        number: Integer, the `errno`.
        healthy: Integer, how many writes go well before.
        faults: Integer, how many do not.

    Attributes:
        num_failed: How many did not.
        before: The files that were there before the first of them, and after
            the last: dictionaries from names to contents.
        after: See `before`; None as long as none was begun after it.
    """

    def __init__(
        self, monkeypatch, folder, suffix, operation, number, healthy, faults=1
    ):
        self.folder, self.suffix = str(folder), suffix
        self.operation, self.number = operation, number
        self.healthy, self.faults = healthy, faults
        self.num_opened = self.num_failed = self._failed_in = 0
        self.before = self.after = None
        self._names = {}
        self._open, self._os_open = builtins.open, os.open
        self._fsync, self._replace = os.fsync, os.replace
        self._remove, self._close = os.remove, os.close
        for module, name, function in (
            (builtins, "open", self.open),
            (os, "open", self.os_open),
            (os, "fsync", self.fsync),
            (os, "close", self.close),
            (os, "replace", self.replace),
            (os, "remove", self.remove),
        ):
            monkeypatch.setattr(module, name, function)

    def contents(self):
        """Names and contents of what is there, without hidden files."""
        found = {}
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if not name.startswith(".") and os.path.isfile(path):
                with self._open(path, "rb") as file:
                    found[name] = file.read()
        return found

    def _fail(self, operation, path):
        is_due = 0 < self.num_opened - self.healthy <= self.faults
        # Each write has one fault, however often it does something.
        is_first = self._failed_in != self.num_opened
        if operation == self.operation and is_due and is_first:
            self._failed_in = self.num_opened
            self.num_failed += 1
            raise OSError(self.number, os.strerror(self.number), path)

    # --- What Python calls ---------------------------------------------------
    def open(self, path, mode="r", *args, **kwargs):
        is_ours = (
            "w" in mode
            and str(path).startswith(self.folder)
            and str(path).endswith(self.suffix)
        )
        if not is_ours:
            return self._open(path, mode, *args, **kwargs)
        self.num_opened += 1
        if self.num_opened == self.healthy + 1:
            self.before = self.contents()
        elif self.num_opened == self.healthy + self.faults + 1:
            self.after = self.contents()
        self._fail("open", path)
        return _File(self, path, self._open(path, mode, *args, **kwargs))

    def os_open(self, path, *args, **kwargs):
        is_folder = str(path) == self.folder
        if is_folder or str(path).startswith(self.folder):
            self._fail(
                "open the folder" if is_folder else "open to flush", path
            )
        number = self._os_open(path, *args, **kwargs)
        self._names[number] = str(path)
        return number

    def close(self, number):
        self._names.pop(number, None)
        self._close(number)

    def fsync(self, number):
        name = self._names.get(number, "")
        if name.startswith(self.folder):
            is_folder = name == self.folder
            self._fail("flush the folder" if is_folder else "flush", name)
        self._fsync(number)

    def replace(self, source, target):
        self._fail("rename", source)
        self._replace(source, target)

    def remove(self, path):
        if not str(path).endswith(self.suffix) or "epoch" in str(path):
            self._fail("remove", path)
        self._remove(path)


class _File:
    """An open file, of which half is written before a write fails."""

    def __init__(self, disk, path, file):
        self._disk, self._path, self._file = disk, path, file
        self._num_writes = 0

    def write(self, content):
        self._num_writes += 1
        try:
            self._disk._fail(f"write {self._num_writes}", self._path)
        except OSError:
            self._file.write(content[: len(content) // 2])
            raise
        return self._file.write(content)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._file.close()
        if kind is None:
            self._disk._fail("close", self._path)

    def __getattr__(self, name):
        return getattr(self._file, name)
