"""Power fails while a run writes checkpoints.

The run writes to a file system of its own, in a file that is its disk. A copy
of that file is what the disk has been given so far; what the system still
keeps in memory is not in it. So a copy at a random moment is what a power cut
leaves, but for one thing: a disk may lose what is in a cache of its own and has
not been told to write, and this one loses nothing.

`SIMCLR_KERAS_POWER_CUTS` says at how many moments; 30 if it is not set.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest

from simclr_keras.callbacks import Checkpoints, HistoryCSV
from simclr_keras.callbacks.checksum import has_checksum
from tests.distribution.results import environment
from tests.reliability import power_cut

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "geteuid")
        or os.geteuid() != 0
        or not all(map(shutil.which, ("mkfs.ext4", "losetup", "mount"))),
        reason="only root makes and mounts file systems",
    ),
]
CUTS = int(os.environ.get("SIMCLR_KERAS_POWER_CUTS", 30))
SIZE = 8 * 2**20
_FREEZE, _THAW = 0xC0045877, 0xC0045878  # As in linux/fs.h.
# Names reach the disk every second, and contents not because of that.
OPTIONS = "loop,noauto_da_alloc,commit=1"


def call(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextlib.contextmanager
def mounted(image):
    """The folder in which the file system of an image is."""
    folder = pathlib.Path(f"{image}.mounted")
    folder.mkdir()
    call("mount", "-o", OPTIONS, str(image), str(folder))
    try:
        yield folder
    finally:
        # Takes back the loop device as well, at the latest when files in it
        # are closed.
        call("umount", "--lazy", str(folder))
        folder.rmdir()


def make_image(path, size=SIZE):
    with open(path, "wb") as file:
        file.truncate(size)
    try:
        call("mkfs.ext4", "-q", str(path))
        with mounted(path):
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here: {error.stderr}")
    return path


def content_at_once(path):
    """The content of a file at one moment, though it is written meanwhile.

    The file system in which it is waits as long, before its next write.
    """
    number = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.ioctl(number, _FREEZE, 0)
        try:
            return path.read_bytes()
        finally:
            fcntl.ioctl(number, _THAW, 0)
    finally:
        os.close(number)


def cut(path, number, *arguments):
    """Runs the program; what its disk holds at random moments.

    Args:
        path: A folder.
        number: How many moments.
        *arguments: Of the program.

    Returns:
        List of pairs of a content, compressed, and of the position that was
        said last before.
    """
    rng, lines, found = np.random.default_rng(0), [], []
    with contextlib.ExitStack() as stack:
        # In a file system of its own, which can be told to wait.
        outer = stack.enter_context(
            mounted(make_image(path / "outer", 3 * SIZE))
        )
        image = make_image(outer / "disk")
        folder = stack.enter_context(mounted(image))
        process = subprocess.Popen(
            [sys.executable, power_cut.__file__, str(folder), *arguments],
            stdout=subprocess.PIPE,
            env={**environment(), "TF_CPP_MIN_LOG_LEVEL": "3"},
            text=True,
        )
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        reader.start()
        try:
            while not lines and process.poll() is None:
                time.sleep(0.01)
            for _ in range(number):
                said = lines[-1]
                content = content_at_once(image)
                found.append((zlib.compress(content, 1), said))
                time.sleep(rng.uniform(0, 0.3))
            assert process.poll() is None, "The program has ended."
        finally:
            process.kill()
            process.wait()
            reader.join()
    return [(content, tuple(map(int, said.split()))) for content, said in found]


def the_one_before(position):
    """The checkpoint that was written before that of a position is begun."""
    epoch, step = position
    if step:
        return epoch, step - 1
    return (epoch - 1, power_cut.STEPS) if epoch else (0, 0)


def checkpoints_in(folder):
    return sorted((folder / "checkpoints").glob("epoch_*.weights.h5"))


def test_a_checkpoint_that_was_written_is_there(tmp_path):
    model = power_cut.make_model()
    cuts = cut(tmp_path, CUTS)
    written = set()
    for number, (content, said) in enumerate(cuts):
        image = tmp_path / f"copy {number}"
        image.write_bytes(zlib.decompress(content))
        with mounted(image) as folder:
            files = checkpoints_in(folder)
            assert files, f"there is no checkpoint after {said}"
            assert all(map(has_checksum, files)), "a file is not whole"
            positions = Checkpoints(folder / "checkpoints").positions()
            assert max(positions) >= the_one_before(said)
            epochs = HistoryCSV(folder / "history.csv").history.get("epoch", [])
            assert epochs == list(range(1, len(epochs) + 1))
            assert len(epochs) >= said[0]
            # The machine has power again.
            assert power_cut.fit(model, folder, epochs=1) == max(positions)
            after = Checkpoints(folder / "checkpoints").positions()
            assert max(after) == (max(positions)[0] + 1, 0)
            assert not any(folder.rglob("*part*"))
            written.add(max(positions))
        image.unlink()
    assert len(written) > CUTS / 2, "the copies do not show different moments"


def test_a_careless_run_is_seen(tmp_path):
    """What the test above would see if contents came after names."""
    is_seen = False
    for number, (content, _) in enumerate(cut(tmp_path, 30, "careless")):
        image = tmp_path / f"copy {number}"
        image.write_bytes(zlib.decompress(content))
        with mounted(image) as folder:
            files = checkpoints_in(folder)
            is_seen |= not files or not all(map(has_checksum, files))
        image.unlink()
    assert is_seen
