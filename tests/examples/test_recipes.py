import keras
import numpy as np
import pytest
import recipes
import run_folder
from progress import RunProgress, format_seconds

X, Y = np.ones((8, 2)), np.zeros((8, 1))


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    return model


def fit(model, callbacks, **kwargs):
    model.fit(X, Y, batch_size=2, verbose=0, callbacks=callbacks, **kwargs)


def test_checkpoints_of_the_last_two_epochs_are_kept(tmp_path):
    checkpoints = run_folder.Checkpoints(tmp_path)
    model = make_model()
    fit(model, [checkpoints], epochs=3)
    assert checkpoints.epochs() == [2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch_00002.weights.h5",
        "epoch_00003.weights.h5",
    ]
    again = make_model()
    assert run_folder.Checkpoints(tmp_path).restore(again) == 3
    for here, there in zip(
        again.weights + again.optimizer.variables,
        model.weights + model.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(here.numpy(), there.numpy())


def test_there_is_a_checkpoint_before_the_first_epoch_ends(tmp_path):
    checkpoints = run_folder.Checkpoints(tmp_path)
    model = make_model()
    assert checkpoints.restore(model) == 0

    def stop(batch, logs):
        raise KeyboardInterrupt

    interrupt = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        fit(model, [checkpoints, interrupt])
    assert checkpoints.epochs() == [0]


def test_a_checkpoint_that_no_step_went_well_after_is_discarded(tmp_path):
    checkpoints = run_folder.Checkpoints(tmp_path)
    fit(make_model(), [checkpoints], epochs=3)
    checkpoints.discard_unproven()
    assert checkpoints.epochs() == [2]
    fit(make_model(), [checkpoints], epochs=3)
    checkpoints.on_train_batch_end(0)
    checkpoints.discard_unproven()
    assert checkpoints.epochs() == [2, 3]


def test_history_goes_on_where_the_checkpoint_is(tmp_path):
    path = tmp_path / "history.csv"
    model = make_model()
    fit(model, [run_folder.HistoryFile(path)], epochs=3)
    # The third epoch's checkpoint was lost, say, and the epoch runs again.
    history = run_folder.HistoryFile(path, initial_epoch=2)
    assert history.column("epoch") == [1, 2]
    fit(model, [history], initial_epoch=2, epochs=4)
    assert history.column("epoch") == [1, 2, 3, 4]
    assert len(history.column("loss")) == 4
    assert history.column("accuracy") == []
    assert history.last()["learning_rate"] == pytest.approx(0.1)
    assert path.read_text().splitlines()[0].startswith("epoch,step,seconds,")


def test_a_flag_takes_the_place_of_the_recipes_value():
    config = recipes.resolve("cifar10", {"depth": 50})
    assert config["depth"] == 50
    assert config["image_size"] == 32
    assert config["recipe"] == "cifar10"


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_has_every_value(name):
    recipe = recipes.RECIPES[name]
    assert set(recipe) == set(recipes.KEYS)
    for key, (kind, _) in recipes.KEYS.items():
        assert recipe[key] is None or type(recipe[key]) is kind, key


def test_steps_are_rounded_up_to_epochs():
    assert recipes.count_epochs({"steps": None, "epochs": 7}, 10) == 7
    assert recipes.count_epochs({"steps": 41, "epochs": 7}, 10) == 5


def test_the_time_left_is_that_of_the_run(capsys, monkeypatch):
    clock = iter(np.arange(0, 1000, 5.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = RunProgress(total_epochs=4, steps_per_epoch=5, initial_epoch=1)
    progress.on_epoch_begin(1)
    for batch in range(5):  # steps 6 to 10 of 20, the first one not timed
        progress.on_train_batch_end(batch)
    progress.on_epoch_end(1, {"loss": 2.0})
    # One reading of the clock after the first step and one at the end of the
    # epoch, 5 seconds apart and 4 steps: 12.5 seconds for the 10 steps left.
    line = capsys.readouterr().out
    assert "epoch 2/4" in line
    assert "10/20  loss 2.000  0:12 left" in line


def test_seconds_are_written_as_a_clock():
    assert [format_seconds(s) for s in (5.4, 65, 3725)] == [
        "0:05",
        "1:05",
        "1:02:05",
    ]
