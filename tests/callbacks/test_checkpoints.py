import json
import os
import pathlib
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras.callbacks import Checkpoints
from simclr_keras.callbacks.checksum import has_checksum
from tests.callbacks import exact_resume
from tests.callbacks.small import fit, make_model

ROOT = pathlib.Path(__file__).parents[2]


def state(model):
    return [v.numpy() for v in model.variables + model.optimizer.variables]


def names(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of `exact_resume`, which has begun runs and resumed them."""
    folder = tmp_path_factory.mktemp("runs")
    for command in ("begin", "resume"):
        subprocess.run(
            [sys.executable, exact_resume.__file__, command, str(folder)],
            check=True,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                # oneDNN adds up in an order that depends on what else the
                # machine does.
                "TF_ENABLE_ONEDNN_OPTS": "0",
            },
        )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", exact_resume.ENDS)
@pytest.mark.parametrize("name", exact_resume.MODELS)
def test_resumed_it_equals_the_uninterrupted_run(name, kind, runs):
    whole, broken = runs / name / "whole", runs / name / kind
    expected, found = np.load(whole / "end.npz"), np.load(broken / "end.npz")
    assert (expected["done"], found["done"]) == (0, 2)
    assert found["steps"] == exact_resume.ENDS[kind][1]
    for key in set(expected) - {"done", "steps"}:
        np.testing.assert_array_equal(found[key], expected[key], err_msg=key)
    histories = [
        json.loads((folder / "history.json").read_text())
        for folder in (whole, broken)
    ]
    assert len(histories[0]["loss"]) == exact_resume.EPOCHS
    assert histories[0] == histories[1]
    assert names(whole / "checkpoints") == names(broken / "checkpoints")


def test_the_last_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    model = make_model()
    fit(model, [checkpoints], epochs=3)
    assert checkpoints.positions() == [(2, 0), (3, 0)]
    assert names(tmp_path) == [
        "epoch_00002.weights.h5",
        "epoch_00003.weights.h5",
    ]
    again = make_model()
    assert Checkpoints(tmp_path).restore(again) == 3
    for here, there in zip(state(again), state(model), strict=True):
        np.testing.assert_array_equal(here, there)


def test_the_scale_of_the_loss_is_restored(tmp_path):
    def make():
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1, momentum=0.9),
            initial_scale=8.0,
            dynamic_growth_steps=2,
        )
        return make_model(optimizer)

    model, again = make(), make()
    fit(model, [Checkpoints(tmp_path)])
    assert float(model.optimizer.dynamic_scale) == 32.0  # after four steps
    Checkpoints(tmp_path).restore(again)
    for here, there in zip(state(again), state(model), strict=True):
        np.testing.assert_array_equal(here, there)


def test_keep(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    fit(make_model(), [checkpoints], epochs=2)
    assert checkpoints.positions() == [(2, 0)]


def test_keras_reads_the_weights(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    model, other = make_model(dropout=1), make_model(dropout=1)
    fit(model, [checkpoints])
    other.optimizer.build(other.trainable_variables)
    other.load_weights(checkpoints.file(1))
    for here, there in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(here.numpy(), there.numpy())


def test_there_is_a_checkpoint_before_the_first_epoch_ends(tmp_path):
    def stop(batch, logs):
        raise KeyboardInterrupt

    interrupt = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    for restores in (False, True, False):
        checkpoints, model = Checkpoints(tmp_path), make_model()
        if restores:
            model.layers[-1].kernel.assign([[5.0], [5.0]])
            assert checkpoints.restore(model) == 0
        with pytest.raises(KeyboardInterrupt):
            fit(model, [checkpoints, interrupt])
        assert checkpoints.positions() == [(0, 0)]
        checkpoints.restore(model)
        expected = make_model().weights
        for here, there in zip(model.weights, expected, strict=True):
            np.testing.assert_array_equal(here.numpy(), there.numpy())


def test_history_is_of_the_whole_run(tmp_path):
    first, second = Checkpoints(tmp_path), Checkpoints(tmp_path)
    parts = [fit(make_model(), [first], epochs=2).history["loss"]]
    model = make_model()
    parts += [
        fit(
            model, [second], epochs=3, initial_epoch=second.restore(model)
        ).history["loss"]
    ]
    assert second.history == {"loss": parts[0] + parts[1]}
    # A `fit` after the other, of one model and one callback.
    fit(model, [second], epochs=4, initial_epoch=3)
    assert len(second.history["loss"]) == 4


@pytest.mark.parametrize("restored", [False, True])
def test_a_run_that_is_there_is_not_written_over(restored, tmp_path):
    fit(make_model(), [Checkpoints(tmp_path)], epochs=3)
    checkpoints, model = Checkpoints(tmp_path), make_model()
    if restored:
        checkpoints.restore(model)
    message = "initial_epoch=0" if restored else r"with '.*epoch_00003"
    with pytest.raises(ValueError, match=message) as error:
        fit(model, [checkpoints], epochs=3)
    assert "fit(initial_epoch=checkpoints.restore(model))" in str(error.value)
    assert checkpoints.positions() == [(2, 0), (3, 0)]


def test_a_failure_to_write_leaves_the_checkpoints_as_they_were(
    tmp_path, monkeypatch
):
    checkpoints, model = Checkpoints(tmp_path), make_model()
    fit(model, [checkpoints], epochs=2)
    expected = state(model)

    def disk_is_full(source, target):
        raise OSError("No space left on device")

    module = simclr_keras.callbacks.checkpoints
    monkeypatch.setattr(module, "replace", disk_is_full)
    with pytest.warns(UserWarning, match=r"epoch 3 could not.*No space.*00002"):
        fit(model, [checkpoints], initial_epoch=2, epochs=3)
    again = make_model()
    assert Checkpoints(tmp_path).restore(again) == 2
    for here, there in zip(state(again), expected, strict=True):
        np.testing.assert_array_equal(here, there)
    assert names(tmp_path) == [
        "epoch_00001.weights.h5",
        "epoch_00002.weights.h5",
    ]
    # Once there is room again, the next one is written.
    monkeypatch.undo()
    fit(model, [checkpoints], initial_epoch=3, epochs=4)
    assert checkpoints.positions() == [(2, 0), (4, 0)]


def test_a_first_write_that_fails_ends_the_run(tmp_path, monkeypatch):
    def disk_is_full(source, target):
        raise OSError("No space left on device")

    module = simclr_keras.callbacks.checkpoints
    monkeypatch.setattr(module, "replace", disk_is_full)
    with pytest.raises(OSError, match="No space"):
        fit(make_model(), [Checkpoints(tmp_path)])
    assert names(tmp_path) == []
    monkeypatch.undo()
    fit(make_model(), [Checkpoints(tmp_path)])  # The folder can be used.


@pytest.mark.slow
def test_a_disk_that_takes_no_more(tmp_path):
    """With the system's own error, in the middle of HDF5's writing."""
    program = f"""
import resource
import time
import keras
from simclr_keras.callbacks import Checkpoints, HistoryCSV
from tests.callbacks.small import fit, make_model

def limit(epoch, logs=None):
    time.sleep(0.5)  # for what is written beside the training
    size = 2048 if epoch in (1, 2) else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

limits = keras.callbacks.LambdaCallback(on_epoch_begin=limit)
checkpoints = Checkpoints({str(tmp_path)!r})
fit(make_model(), [limits, checkpoints], epochs=4)
print(checkpoints.positions())
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("[(1, 0), (4, 0)]")
    for epoch in (2, 3):
        assert f"after epoch {epoch} could not be written" in result.stderr
    assert "Traceback" not in result.stderr
    assert names(tmp_path) == [
        "epoch_00001.weights.h5",
        "epoch_00004.weights.h5",
    ]


def damage(data, rng):
    """Contents of a file that has been cut off, altered or partly lost."""
    data, kind = bytearray(data), rng.integers(5)
    at, other = sorted(rng.integers(len(data), size=2))
    length = int(rng.integers(1, 513))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == 3:
        data[at], data[other] = data[other], data[at]
    else:
        data += bytes(length)
    return bytes(data)


def test_no_damaged_checkpoint_is_loaded(tmp_path):
    model = make_model()
    checkpoints = Checkpoints(tmp_path)
    fit(model, [checkpoints], epochs=2)
    path = pathlib.Path(checkpoints.file(2))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    assert has_checksum(path)
    tried = 0
    for _ in range(1000):
        damaged = damage(whole, rng)
        if damaged == whole:  # Two equal bytes, or zeros that were zeros.
            continue
        path.write_bytes(damaged)
        assert not has_checksum(path)
        tried += 1
    assert tried > 500
    again = make_model()
    with pytest.warns(UserWarning, match=r"00002.*damaged.*from .*00001") as w:
        assert Checkpoints(tmp_path).restore(again) == 1
    assert w[0].filename == __file__
    assert int(again.optimizer.iterations) == 4
    path.unlink()
    other = pathlib.Path(checkpoints.file(1))
    other.write_bytes(other.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"00001.*no other one in this folder"):
        Checkpoints(tmp_path).restore(again)


def test_a_run_goes_on_from_the_one_before_the_damaged(tmp_path):
    straight, model = make_model(dropout=1), make_model(dropout=1)
    fit(straight, [], epochs=3)
    checkpoints = Checkpoints(tmp_path)
    fit(model, [checkpoints], epochs=2)
    path = pathlib.Path(checkpoints.file(2))
    path.write_bytes(path.read_bytes()[:-1])
    again, checkpoints = make_model(dropout=1), Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        done = checkpoints.restore(again)
    fit(again, [checkpoints], initial_epoch=done, epochs=3)
    assert checkpoints.positions() == [(2, 0), (3, 0)]
    for here, there in zip(state(again), state(straight), strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_folder_has_one_writer(tmp_path):
    other = f"""
import sys
from simclr_keras.callbacks.folder_lock import FolderLock
lock = FolderLock({str(tmp_path)!r})
print("locked", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", other],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline().strip() == b"locked"
    try:
        message = f"Only one process at a time.*process {process.pid}"
        with pytest.raises(ValueError, match=message):
            fit(make_model(), [Checkpoints(tmp_path)])
    finally:
        process.kill()
        process.communicate()
    # Nothing is left of a lock whose process was killed.
    checkpoints = Checkpoints(tmp_path)
    fit(make_model(), [checkpoints])
    assert checkpoints.positions() == [(0, 0), (1, 0)]


def test_another_learning_rate_than_the_checkpoint_s_is_told(tmp_path):
    fit(make_model(), [Checkpoints(tmp_path)])
    other = make_model(keras.optimizers.SGD(0.01, momentum=0.9))
    message = r"another learning rate.*Received: 0\.01, and 0\.1 then"
    with pytest.warns(UserWarning, match=message) as caught:
        Checkpoints(tmp_path).restore(other)
    assert caught[0].filename == __file__
    assert float(other.optimizer.learning_rate) == np.float32(0.1)


def test_fewer_epochs_than_are_done_are_told(tmp_path):
    fit(make_model(), [Checkpoints(tmp_path)], epochs=3)
    again, checkpoints = make_model(), Checkpoints(tmp_path)
    done = checkpoints.restore(again)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(again, [checkpoints], initial_epoch=done, epochs=3)
    with pytest.warns(UserWarning, match="epochs=2, and 3 are done"):
        fit(again, [checkpoints], initial_epoch=done, epochs=2)


def test_another_temperature_than_the_checkpoint_s_is_told(tmp_path):
    def model(temperature):
        found = simclr_keras.SimCLRModel(
            keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()]),
            None,
            value_range=(0, 1),
        )
        schedule = simclr_keras.WarmupCosineDecay(0.1, 10)
        found.compile(
            keras.optimizers.SGD(schedule),
            simclr_keras.NTXentLoss(temperature),
        )
        found.build((None, 4, 4, 1))
        return found

    views = np.random.default_rng(0).random((2, 8, 4, 4, 1), "float32")
    views = {"view_1": views[0], "view_2": views[1]}
    arguments = {"batch_size": 4, "verbose": 0}
    model(0.5).fit(views, callbacks=[Checkpoints(tmp_path)], **arguments)
    again = model(0.1)
    with pytest.warns(
        UserWarning, match=r"another temperature.*0\.1, and 0\.5"
    ):
        Checkpoints(tmp_path).restore(again)
    assert float(again.loss.temperature) == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Checkpoints(tmp_path).restore(model(0.5))


def test_a_learning_rate_that_a_callback_lowers_is_the_run_s(tmp_path):
    def lowers():
        return keras.callbacks.ReduceLROnPlateau("loss", 0.5, 0, min_delta=1e9)

    fit(make_model(), [lowers(), Checkpoints(tmp_path)], epochs=3)
    again = make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Checkpoints(tmp_path).restore(again)
    assert float(again.optimizer.learning_rate) < 0.06


def test_a_checkpoint_that_no_step_went_well_after_is_discarded(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), make_model()
    fit(model, [checkpoints], epochs=3)
    checkpoints.on_train_batch_end(0)
    checkpoints.discard_unproven()
    assert checkpoints.positions() == [(2, 0), (3, 0)]

    done = checkpoints.restore(model)
    fit(model, [checkpoints], initial_epoch=done, epochs=4)
    for _ in range(2):  # The one before it is never removed.
        checkpoints.discard_unproven()
        assert checkpoints.positions() == [(3, 0)]
    # The model is not what the last checkpoint holds.
    with pytest.raises(ValueError, match=r"with '.*epoch_00003"):
        fit(model, [checkpoints], initial_epoch=3, epochs=4)


def test_only_the_chief_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        simclr_keras.distribution, "is_chief", lambda strategy: False
    )
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    fit(make_model(), [checkpoints], epochs=2)
    assert not (tmp_path / "checkpoints").exists()
    assert len(checkpoints.history["loss"]) == 2


def test_another_optimizer_is_refused(tmp_path):
    fit(make_model(), [Checkpoints(tmp_path)])
    for optimizer, description in (
        (keras.optimizers.Adam(), "Adam with 6 variables"),
        # With as many variables as SGD with momentum.
        (keras.optimizers.Lion(), "Lion with 4 variables"),
    ):
        with pytest.raises(ValueError, match=description) as error:
            Checkpoints(tmp_path).restore(make_model(optimizer))
        assert "SGD with 4 variables" in str(error.value)
        assert "epoch_00001.weights.h5" in str(error.value)


def test_another_model_is_refused(tmp_path):
    fit(make_model(dropout=1), [Checkpoints(tmp_path)])
    with pytest.raises(ValueError, match="with 1 random generators"):
        Checkpoints(tmp_path).restore(make_model(dropout=2))


def test_weights_alone_are_refused(tmp_path):
    model = make_model()
    model.save_weights(tmp_path / "epoch_00001.weights.h5")
    with pytest.raises(ValueError, match="not written by `Checkpoints`"):
        Checkpoints(tmp_path).restore(model)


@pytest.mark.parametrize("is_built", [False, True])
def test_a_model_that_is_not_ready_is_refused(is_built, tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    if is_built:
        model.build((None, 2))
    else:
        model.compile("sgd", "mse")
    assert Checkpoints(tmp_path).restore(model) == 0  # Nothing to load.
    fit(make_model(), [Checkpoints(tmp_path)])
    with pytest.raises(ValueError, match=f"with built={is_built}"):
        Checkpoints(tmp_path).restore(model)


@pytest.mark.parametrize(
    ("keep", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bad_keep(keep, error):
    with pytest.raises(error, match=f"keep={keep}"):
        Checkpoints("checkpoints", keep=keep)
