"""One process at a time writes in a folder."""

import contextlib
import os
import socket

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = ".lock"


class FolderLock:
    """Keeps other processes out of a folder, until it is released.

    The operating system takes the lock back when a process ends, however it
    ends. Processes of several machines see each other's where their file
    system has locks. Windows has none of this kind, and nobody is kept out.

    Args:
        path: String, a folder that is there.

    Raises:
        ValueError: If another process has it.
    """

    def __init__(self, path):
        self._file = None
        if fcntl is None:
            return
        # Opened for good: a process loses its lock when it closes the file.
        self._file = open(os.path.join(path, _NAME), "a+")  # noqa: SIM115
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise ValueError(
                f"Only one process at a time can write in {path}. Another "
                f"one does: {owner}. Wait for it, stop it, or choose another "
                "folder."
            ) from None
        except OSError:  # The file system has no locks.
            return
        owner = f"process {os.getpid()} on {socket.gethostname()}\n"
        # A note, for which a full disk may have no room. Without a buffer,
        # which would be written when the file is closed.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), owner.encode())

    def release(self):
        """Lets others in."""
        if self._file is not None:
            self._file.close()
