"""On every backend: `KERAS_BACKEND=jax pytest` runs this file too."""

import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from simclr_keras import NTXentLoss, ProjectionHead, SimCLRModel
from simclr_keras.augmentation import RandomHorizontalFlip
from simclr_keras.callbacks import Checkpoints, CollapseMonitor, HistoryCSV
from simclr_keras.evaluation import feature_std, rank_me

BATCH = 8
CHANCE = math.log(2 * BATCH - 1)
KEYS = ["h_rank_me", "h_std", "z_rank_me", "z_std"]


def make_images(count, seed):
    rng = np.random.default_rng(seed)
    colors = rng.uniform(64, 192, (count, 1, 1, 3))
    noise = rng.uniform(-64, 64, (count, 8, 8, 3))
    return (colors + noise).astype("uint8")


IMAGES, HELD_OUT = make_images(16, seed=0), make_images(40, seed=1)


def make_model(*after, cls=SimCLRModel, head=None, compiled=False, **loss):
    """A tiny one, whose encoder ends in the layers `after`."""
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            # Around zero, or all representations begin as all but equal.
            keras.layers.Rescaling(8.0, offset=-4.0),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            *after,
        ]
    )
    # Without batch norm, which makes noise of what is left at a collapse.
    head = head or ProjectionHead(4, kind="linear")
    model = cls(encoder, head, RandomHorizontalFlip(seed=7))
    model.compile(
        keras.optimizers.SGD(0.01),
        NTXentLoss(0.5, **loss),
        # The quickest for a few steps, on TensorFlow.
        run_eagerly=not compiled and keras.backend.backend() == "tensorflow",
    )
    return model


def constant():
    """A layer that gives the same representation for all images."""
    return keras.layers.Rescaling(1e-9, offset=1.0)


def fit(model, *callbacks, epochs=3, images=IMAGES):
    """The history; a warning is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Collapse")
        return model.fit(
            images,
            batch_size=BATCH,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        ).history


def fit_with_warnings(model, *callbacks, epochs=5):
    """The history and the messages that warn of a collapse."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(
            IMAGES,
            batch_size=BATCH,
            epochs=epochs,
            verbose=0,
            callbacks=list(callbacks),
        ).history
    caught = [w for w in caught if str(w.message).startswith("Collapse")]
    assert all(w.filename == __file__ for w in caught)
    return history, [str(w.message) for w in caught]


def weights_of(model):
    return [ops.convert_to_numpy(v) for v in model.weights]


@pytest.fixture(scope="module")
def healthy():
    """A model, its monitor and its history after a run that is healthy."""
    model = make_model(compiled=True)
    monitor = CollapseMonitor(
        HELD_OUT, batch_size=16, stop=True, train_batch_size=BATCH, patience=1
    )
    return model, monitor, fit(model, monitor)


# --- What it logs ------------------------------------------------------------
def test_a_healthy_run_is_left_alone(healthy):
    _, monitor, history = healthy
    assert monitor.collapse is None
    assert [len(history[key]) for key in [*KEYS, "loss"]] == [3] * 5


def test_the_logs_are_those_of_the_model_after_the_epoch(healthy):
    model, _, history = healthy
    h = model.predict(HELD_OUT, verbose=0)
    z = ops.convert_to_numpy(model.project(ops.convert_to_tensor(h)))
    for name, features in (("h", h), ("z", z)):
        assert history[f"{name}_std"][-1] == pytest.approx(
            feature_std(features), rel=1e-4
        )
        assert history[f"{name}_rank_me"][-1] == pytest.approx(
            rank_me(features), rel=1e-3
        )
    assert history["h_std"][0] != history["h_std"][-1]


def test_training_is_the_same_without_it(healthy):
    model, _, history = healthy
    other = make_model(compiled=True)
    assert fit(other)["loss"] == history["loss"]
    for a, b in zip(weights_of(other), weights_of(model)):
        np.testing.assert_array_equal(a, b)


def test_other_callbacks_see_the_logs(tmp_path):
    model = make_model()
    early = keras.callbacks.EarlyStopping(
        "h_rank_me", mode="max", min_delta=100, patience=1
    )
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5",
        monitor="z_std",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
    )
    written = HistoryCSV(tmp_path / "history.csv")
    checkpoints = Checkpoints(
        tmp_path / "checkpoints", monitor="h_rank_me", mode="max"
    )
    history = fit(
        model, CollapseMonitor(HELD_OUT), early, best, written, checkpoints
    )
    assert early.stopped_epoch == 1  # Nothing rises by 100.
    assert len(history["loss"]) == 2
    assert early.best == history["h_rank_me"][0]
    assert best.best == max(history["z_std"])
    assert written.history["z_std"] == history["z_std"]
    assert checkpoints.history["h_std"] == history["h_std"]


def test_every_so_many_epochs():
    history = fit(make_model(), CollapseMonitor(HELD_OUT, every=3), epochs=6)
    values = history["h_std"]
    # The first, the fourth and the last are looked at.
    assert values[0] == values[1] == values[2]
    assert values[3] == values[4]
    assert len({values[0], values[3], values[5]}) == 3


def test_a_subclass_and_floats():
    class Halved(SimCLRModel):
        def encode(self, images, training=None):
            return super().encode(images, training)[:, :4]

        def project(self, representations, training=None):
            return super().project(2 * representations, training)

    model = make_model(cls=Halved)
    history = fit(model, CollapseMonitor(HELD_OUT.astype("float32")), epochs=1)
    h = model.predict(HELD_OUT, verbose=0)
    assert h.shape == (40, 4)
    assert history["h_std"] == [pytest.approx(feature_std(h), rel=1e-4)]


def test_a_data_set():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return HELD_OUT[20 * index : 20 * (index + 1)]

    found = [
        fit(make_model(), CollapseMonitor(images), epochs=1)
        for images in (Batches(), HELD_OUT)
    ]
    for key in KEYS:
        assert found[0][key] == pytest.approx(found[1][key], rel=1e-5)


# --- What it warns of --------------------------------------------------------
def test_a_collapse_ends_the_run():
    monitor = CollapseMonitor(HELD_OUT, stop=True, train_batch_size=BATCH)
    history, messages = fit_with_warnings(make_model(constant()), monitor)
    assert len(history["loss"]) == 3
    # All cosines are 1, whatever the temperature.
    assert history["loss"] == pytest.approx([CHANCE] * 3, abs=1e-5)
    assert history["h_std"] == pytest.approx([0] * 3, abs=1e-6)
    assert history["h_rank_me"] == pytest.approx([1] * 3, abs=1e-4)
    (message,) = messages
    for part in (
        "seen 3 times in a row at the end of epoch 3",
        "All representations h are equal or nearly so: h_std is",
        "spread evenly over the sphere have 0.35",
        "All projections z are equal",
        "The loss is 2.7081, and log(2N - 1) = 2.7081",
        "lower learning rate",
        "higher temperature",
        "Training ends here",
    ):
        assert part in message
    assert monitor.collapse in message


def test_it_warns_once_in_a_run():
    model = make_model(constant())
    monitor = CollapseMonitor(HELD_OUT, patience=1)
    for _ in range(2):
        history, messages = fit_with_warnings(model, monitor, epochs=2)
        assert len(messages) == 1
        assert "at the end of epoch 1." in messages[0]
        assert "Training ends" not in messages[0]
        assert len(history["loss"]) == 2


def test_training_that_collapses():
    """A weight decay that leaves nothing of the encoder but its bias."""
    model = make_model(
        keras.layers.Dense(8, bias_initializer="ones", name="last")
    )
    optimizer = keras.optimizers.SGD(0.1, weight_decay=2.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "projection"])
    model.compile(optimizer, NTXentLoss(0.5), run_eagerly=model.run_eagerly)
    monitor = CollapseMonitor(HELD_OUT, stop=True)
    history, messages = fit_with_warnings(model, monitor, epochs=12)
    assert history["h_std"][0] > monitor.min_std * 8**-0.5
    assert monitor.patience < len(history["h_std"]) < 12
    assert "All representations h are equal" in messages[0]


def test_a_collapse_to_one_dimension():
    # How much redder than green an image is, in either direction.
    kernel = np.outer([1, -1, 0], np.linspace(1, 2, 8))
    red_or_green = keras.layers.Dense(
        8,
        use_bias=False,
        kernel_initializer=lambda shape, dtype: ops.cast(kernel, dtype),
        trainable=False,
    )
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            red_or_green,
        ]
    )
    model = SimCLRModel(
        encoder, ProjectionHead(4), augmentation=RandomHorizontalFlip()
    )
    model.compile("sgd")
    monitor = CollapseMonitor(HELD_OUT, patience=1)
    history, messages = fit_with_warnings(model, monitor, epochs=1)
    assert history["h_std"][0] > 0.1
    assert "representations h vary in hardly more than one dim" in messages[0]
    assert "less their mean, is 1 of 8" in messages[0]
    assert "weaker augmentation" in messages[0]


def test_one_dimension_is_all_that_some_heads_have():
    model = make_model(head=ProjectionHead(1, kind="linear"))
    history = fit(model, CollapseMonitor(HELD_OUT, min_std=0, patience=1))
    assert history["z_rank_me"] == pytest.approx([1] * 3, abs=1e-5)


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_loss_alone(decoupled):
    model = make_model(constant(), decoupled=decoupled)
    monitor = CollapseMonitor(train_batch_size=BATCH, stop=True)
    history, messages = fit_with_warnings(model, monitor)
    assert set(KEYS).isdisjoint(history)
    left_out = 1 + decoupled
    chance = math.log(2 * BATCH - left_out)
    assert history["loss"] == pytest.approx([chance] * 3, abs=1e-5)
    assert f"log(2N - {left_out}) = {chance:.4f}" in messages[0]


def test_a_look_that_sees_nothing_begins_the_count_anew():
    monitor = CollapseMonitor(train_batch_size=BATCH, patience=2)
    monitor.set_model(make_model())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (CHANCE, 2.5, CHANCE, math.nan, CHANCE):
            monitor.on_epoch_end(0, {"loss": loss})
    with pytest.warns(UserWarning, match="2 times in a row"):
        monitor.on_epoch_end(1, {"loss": CHANCE})


def test_nan_is_logged_and_left_to_others():
    # A ReLU of TensorFlow makes zeros of NaN.
    model = make_model(keras.layers.Dense(8))
    model.encoder.layers[-1].bias.assign(np.full(8, np.nan))
    history = fit(model, CollapseMonitor(HELD_OUT, patience=1), epochs=1)
    assert all(math.isnan(history[key][0]) for key in KEYS)


# --- Arguments ---------------------------------------------------------------
def test_arguments_are_attributes():
    arguments = {
        "images": HELD_OUT,
        "every": 3,
        "batch_size": 5,
        "stop": True,
        "train_batch_size": 7,
        "min_std": 0.1,
        "min_rank_me": 2.5,
        "patience": 4,
    }
    monitor = CollapseMonitor(**arguments)
    for name, value in arguments.items():
        assert getattr(monitor, name) is value


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"images": None}, ValueError, "images=None, train_batch_size=None"),
        ({"images": HELD_OUT[0]}, ValueError, r"shape=\(8, 8, 3\)"),
        ({"images": HELD_OUT[:1]}, ValueError, r"M at least 2.*\(1, 8, 8, 3\)"),
        ({"images": "images"}, TypeError, "Received: str"),
        ({"every": 0}, ValueError, "every=0"),
        ({"every": 1.5}, TypeError, "every=1.5 of type float"),
        ({"batch_size": -1}, ValueError, "batch_size=-1"),
        ({"batch_size": True}, TypeError, "batch_size=True"),
        ({"patience": 0}, ValueError, "patience=0"),
        ({"train_batch_size": 1}, ValueError, "at least 2.*size=1"),
        ({"stop": 1}, TypeError, "stop=1"),
        ({"min_std": 1}, ValueError, "min_std=1"),
        ({"min_std": math.nan}, ValueError, "min_std=nan"),
        ({"min_rank_me": 0.5}, ValueError, "min_rank_me=0.5"),
    ],
)
def test_arguments_are_checked(arguments, error, match):
    with pytest.raises(error, match=match):
        CollapseMonitor(**{"images": HELD_OUT, **arguments})


def test_another_model_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"needs a SimCLRModel.*Sequential"):
        model.fit(
            np.ones((4, 2)),
            np.ones((4, 1)),
            verbose=0,
            callbacks=[CollapseMonitor(HELD_OUT)],
        )
