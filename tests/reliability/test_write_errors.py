"""A disk that fails, at every operation by which a checkpoint is written.

What was there stays as it is, training goes on with a warning, and what is
restored afterwards ends as a run on a disk that never failed.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import warnings

import keras
import numpy as np
import pytest

from simclr_keras.callbacks import Checkpoints, HistoryCSV
from simclr_keras.callbacks.checksum import has_checksum
from tests.callbacks.small import fit, make_model
from tests.reliability.faulty_disk import OPERATIONS, FaultyDisk

pytestmark = pytest.mark.slow

EPOCHS = 3  # Of four steps.
# Where a run is when it writes a checkpoint: after steps 2 and 4 of each
# epoch, and at its end.
POSITIONS = [
    (0, 0),
    *((e, s) for e in range(EPOCHS) for s in (2, 4)),
    *((e + 1, 0) for e in range(EPOCHS)),
]
POSITIONS.sort()
# What is there in the end: after step 4 it is what it is after the epoch.
KEPT = [(2, 2), (3, 0)]
# Which of them cannot be written, after how many that can.
MOMENTS = {
    "the first": 0,
    "the second": 1,
    "within an epoch": POSITIONS.index((1, 2)),
    "at the end of an epoch": POSITIONS.index((1, 0)),
    "at the end of the run": POSITIONS.index((3, 0)),
    "at Ctrl-C": POSITIONS.index((1, 4)),
}
# Until then the file has not got its name.
NAMELESS = OPERATIONS[: OPERATIONS.index("rename") + 1]
ERRORS = [errno.ENOSPC, errno.EIO]
CASES = [
    (moment, operation, number)
    for moment, healthy in MOMENTS.items()
    for operation in OPERATIONS
    # The first two are kept.
    if operation != "remove" or healthy > 1
    for number in ERRORS
]


@pytest.fixture(autouse=True)
def _ctrl_c_raises():
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, found)


class Model:
    """One model for all cases: to compile one takes longer than to train it."""

    def __init__(self):
        self.model = make_model(dropout=1)
        self.model.optimizer.build(self.model.trainable_variables)
        self._first = self.state()
        fit(self.model, [], epochs=EPOCHS)
        self.end = self.state()
        self.anew()

    def _variables(self):
        return self.model.variables + self.model.optimizer.variables

    def state(self):
        return [variable.numpy() for variable in self._variables()]

    def anew(self):
        """The model, as it is before the first step."""
        for variable, value in zip(self._variables(), self._first, strict=True):
            variable.assign(value)
        return self.model

    def assert_is_at_the_end(self):
        for here, there in zip(self.state(), self.end, strict=True):
            np.testing.assert_array_equal(here, there)


@pytest.fixture(scope="module")
def shared():
    return Model()


class CtrlC(keras.callbacks.Callback):
    """Ctrl-C in the third step of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            signal.raise_signal(signal.SIGINT)


def run(model, folder, *callbacks):
    """A user's program.

    Returns:
        The error that it ends with or None, and the texts of all warnings.
    """
    checkpoints, raised = Checkpoints(folder, every_steps=2), None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            fit(
                model,
                [checkpoints, *callbacks],
                initial_epoch=checkpoints.restore(model),
                epochs=EPOCHS,
            )
        except (OSError, KeyboardInterrupt) as error:
            raised = error
    return raised, texts_of(found)


def texts_of(found):
    """Those of our warnings: NumPy has some of its own."""
    return [
        str(warning.message)
        for warning in found
        if issubclass(warning.category, UserWarning)
    ]


def in_words(position):
    epoch, step = position
    return f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"


def assert_all_is_whole(folder):
    for path in folder.glob("[!.]*"):
        assert "partial" not in path.name
        assert has_checksum(path), path.name


@pytest.mark.parametrize(("moment", "operation", "number"), CASES)
def test_one_checkpoint_cannot_be_written(
    moment, operation, number, shared, tmp_path, monkeypatch
):
    healthy = MOMENTS[moment]
    position = (1, 3) if moment == "at Ctrl-C" else POSITIONS[healthy]
    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        disk = FaultyDisk(
            patch, tmp_path, ".weights.h5", operation, number, healthy
        )
        callbacks = [CtrlC()] if moment == "at Ctrl-C" else []
        error, texts = run(shared.anew(), tmp_path, *callbacks)
        assert disk.num_failed == 1
        after = disk.contents() if disk.after is None else disk.after
    assert_all_is_whole(tmp_path)

    if moment == "the first":
        # Nothing can ever be restored: one clear error.
        assert isinstance(error, OSError)
        assert error.errno == number
        assert not texts
        assert run(shared.anew(), tmp_path) == (None, [])
        shared.assert_is_at_the_end()
        return

    # What was there is as it was.
    for name, content in disk.before.items():
        assert after[name] == content, name
    assert not any("partial" in name for name in after)
    name = os.path.basename(checkpoints.file(*position))
    assert (name in after) == (operation not in NAMELESS)

    if moment == "at Ctrl-C":
        assert isinstance(error, KeyboardInterrupt)
    else:
        assert error is None
        shared.assert_is_at_the_end()
    # One warning, which says what is wrong and what is left.
    (text,) = texts
    assert os.strerror(number) in text
    if operation == "remove":
        # The oldest, or that of the last step, which is the same state.
        old = min(map(position_of, disk.before))
        if position[1] == 0:
            old = POSITIONS[healthy - 1]
        assert checkpoints.file(*old) in text
    else:
        last = checkpoints.file(*POSITIONS[healthy - 1])
        assert f"after {in_words(position)} could not be written" in text
        assert f"The last one is {last!r}" in text
    goes_on = moment not in ("at Ctrl-C", "at the end of the run")
    assert ("raining goes on" in text) == goes_on
    if goes_on:  # The next ones were written, and no others are kept.
        assert checkpoints.positions() == KEPT
        return
    # The same program again.
    assert run(shared.anew(), tmp_path) == (None, [])
    shared.assert_is_at_the_end()
    assert checkpoints.positions()[-1] == POSITIONS[-1]


def position_of(name):
    parts = name.removesuffix(".weights.h5").split("_")
    return int(parts[1]), int(parts[3]) if len(parts) > 3 else 0


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("moment", ["the second", "within an epoch"])
def test_no_checkpoint_can_be_written_any_more(
    moment, operation, shared, tmp_path, monkeypatch
):
    healthy = MOMENTS[moment]
    with monkeypatch.context() as patch:
        disk = FaultyDisk(
            patch,
            tmp_path,
            ".weights.h5",
            operation,
            errno.ENOSPC,
            healthy,
            faults=len(POSITIONS),
        )
        error, texts = run(shared.anew(), tmp_path)
        assert error is None
        shared.assert_is_at_the_end()
        assert len(texts) == disk.num_failed >= len(POSITIONS) - healthy - 2
        for name, content in disk.before.items():
            assert disk.contents()[name] == content
    assert_all_is_whole(tmp_path)
    # With room again it goes on from what there is.
    checkpoints = Checkpoints(tmp_path)
    if operation in NAMELESS:
        assert checkpoints.positions()[-1] == POSITIONS[healthy - 1]
    assert run(shared.anew(), tmp_path) == (None, [])
    shared.assert_is_at_the_end()
    assert checkpoints.positions()[-1] == POSITIONS[-1]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_whose_folders_cannot_be_flushed(
    number, shared, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        FaultyDisk(
            patch,
            tmp_path,
            ".weights.h5",
            "flush the folder",
            number,
            healthy=0,
            faults=len(POSITIONS),
        )
        assert run(shared.anew(), tmp_path) == (None, [])
    assert Checkpoints(tmp_path).positions() == KEPT


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("operation", OPERATIONS[:-1])
def test_a_history_cannot_be_written(
    operation, epoch, number, shared, tmp_path, monkeypatch
):
    history = HistoryCSV(tmp_path / "history.csv")
    with (
        monkeypatch.context() as patch,
        warnings.catch_warnings(record=True) as found,
    ):
        warnings.simplefilter("always")
        disk = FaultyDisk(patch, tmp_path, ".part", operation, number, epoch)
        fit(shared.anew(), [history], epochs=EPOCHS)
        assert disk.num_failed == 1
        after = disk.contents() if disk.after is None else disk.after
    shared.assert_is_at_the_end()
    (text,) = texts_of(found)
    assert repr(history.path) in text
    assert os.strerror(number) in text
    if operation in NAMELESS:
        assert after == disk.before
        rows = epoch if epoch == EPOCHS - 1 else EPOCHS
    else:
        rows = EPOCHS
    assert history.history.get("epoch", []) == list(range(1, rows + 1))
    assert os.listdir(tmp_path) == ["history.csv"]


def test_a_folder_of_the_history_cannot_be_made(shared, tmp_path):
    history = HistoryCSV(tmp_path / "file" / "history.csv")
    (tmp_path / "file").touch()
    with pytest.warns(
        UserWarning, match=r"history\.csv' could not be"
    ) as found:
        fit(shared.anew(), [history], epochs=EPOCHS)
    assert len(texts_of(found)) == EPOCHS
    shared.assert_is_at_the_end()


# --- A file system that is really full ---------------------------------------
PAGE = 4096


@pytest.fixture
def small_disk(tmp_path):
    """A folder that is a file system of 128 pages."""
    if not shutil.which("mount") or os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    command = ["mount", "-t", "tmpfs", "-o", f"size={128 * PAGE}"]
    try:
        subprocess.run([*command, "none", tmp_path], check=True)
    except subprocess.CalledProcessError:
        pytest.skip("no file system can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(folder, num_free):
    """Leaves so many pages of a disk."""
    with (
        contextlib.suppress(OSError),
        open(folder / "filler", "wb", buffering=0) as file,
    ):
        while True:
            file.write(bytes(PAGE))
    os.truncate(
        folder / "filler", (folder / "filler").stat().st_size - num_free * PAGE
    )


class Fill(keras.callbacks.Callback):
    """Fills the disk in the second epoch."""

    def __init__(self, folder, num_free):
        super().__init__()
        self.folder, self.num_free = folder, num_free

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 0):
            wait_for_writes(self.folder, (1, 0))
            fill(self.folder, self.num_free)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.is_told = True
            os.remove(self.folder / "filler")


def wait_for_writes(folder, position):
    while Checkpoints(folder / "checkpoints").positions()[-1] < position:
        pass


@pytest.mark.parametrize("num_free", range(5))
def test_a_disk_that_is_full_for_an_epoch(num_free, shared, small_disk):
    history = HistoryCSV(small_disk / "history.csv")
    folder = small_disk / "checkpoints"
    error, texts = run(
        shared.anew(), folder, history, Fill(small_disk, num_free)
    )
    assert error is None
    shared.assert_is_at_the_end()
    # At least those after steps 2 and 4; the page of the history may be there.
    assert 2 <= len(texts) <= 4
    for text in texts:
        assert "could not be written" in text
        assert "No space left" in text
    assert Checkpoints(folder).positions() == KEPT
    assert_all_is_whole(folder)
    assert history.history["epoch"] == [1, 2, 3]


def test_a_run_goes_on_upon_a_full_disk(shared, small_disk):
    """It can be restored, and that nothing can be written is a warning."""
    folder = small_disk / "checkpoints"
    error, _ = run(shared.anew(), folder, CtrlC())
    assert isinstance(error, KeyboardInterrupt)
    before = {path.name: path.read_bytes() for path in folder.glob("epoch*")}
    (folder / ".lock").unlink()
    fill(small_disk, 0)
    error, texts = run(shared.anew(), folder)
    assert error is None
    shared.assert_is_at_the_end()
    assert texts
    assert all("could not be written" in text for text in texts)
    after = {path.name: path.read_bytes() for path in folder.glob("epoch*")}
    assert before == after
