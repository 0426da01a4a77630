import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras.callbacks import Checkpoints
from tests.callbacks import exact_resume
from tests.callbacks.small import fit, make_model

ROOT = pathlib.Path(__file__).parents[2]


def state(model):
    return [v.numpy() for v in model.variables + model.optimizer.variables]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize("name", exact_resume.MODELS)
def test_resumed_it_equals_the_uninterrupted_run(name, runs):
    whole, broken = runs / name / "whole", runs / name / "broken"
    expected, found = np.load(whole / "end.npz"), np.load(broken / "end.npz")
    assert (expected["done"], found["done"]) == (0, 2)
    for key in set(expected) - {"done"}:
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
    assert checkpoints.epochs() == [2, 3]
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
    assert checkpoints.epochs() == [2]


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
        assert checkpoints.epochs() == [0]
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
    message = "initial_epoch=0" if restored else "with a checkpoint after epoch"
    with pytest.raises(ValueError, match=message) as error:
        fit(model, [checkpoints], epochs=3)
    assert "fit(initial_epoch=checkpoints.restore(model))" in str(error.value)
    assert checkpoints.epochs() == [2, 3]


def test_a_failure_to_write_leaves_the_checkpoints_as_they_were(
    tmp_path, monkeypatch
):
    checkpoints, model = Checkpoints(tmp_path), make_model()
    fit(model, [checkpoints], epochs=2)
    expected = state(model)

    def disk_is_full(path, overwrite):
        pathlib.Path(path).write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(model, "save_weights", disk_is_full)
    with pytest.raises(OSError, match="No space"):
        fit(model, [checkpoints], initial_epoch=2, epochs=3)
    again = make_model()
    assert Checkpoints(tmp_path).restore(again) == 2
    for here, there in zip(state(again), expected, strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_checkpoint_that_no_step_went_well_after_is_discarded(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), make_model()
    fit(model, [checkpoints], epochs=3)
    checkpoints.on_train_batch_end(0)
    checkpoints.discard_unproven()
    assert checkpoints.epochs() == [2, 3]

    done = checkpoints.restore(model)
    fit(model, [checkpoints], initial_epoch=done, epochs=4)
    for _ in range(2):  # The one before it is never removed.
        checkpoints.discard_unproven()
        assert checkpoints.epochs() == [3]
    # The model is not what the last checkpoint holds.
    with pytest.raises(ValueError, match="with a checkpoint after epoch 3"):
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
    with pytest.raises(ValueError, match="holds weights alone"):
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
