"""The temperature of a compiled model: changed, scheduled, learned, saved."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import LARS, NTXentLoss
from simclr_keras.losses import LearnedTemperature
from tests import checks
from tests.losses.test_nt_xent import algorithm_1
from tests.model.models import (
    EAGER,
    IMAGES,
    VIEWS,
    fit,
    tiny_model,
)


def still(loss=None, **compiling):
    """A model of fixed views that does not learn."""
    model = tiny_model(augmentation=None)
    model.compile(
        keras.optimizers.SGD(0.0), loss or NTXentLoss(0.5), **compiling
    )
    return model


def logs_at(temperature):
    model = still(NTXentLoss(temperature), **EAGER)
    return model.evaluate(VIEWS, batch_size=16, verbose=0, return_dict=True)


@pytest.mark.parametrize("compiling", [{}, {"jit_compile": True}])
def test_a_change_takes_effect_after_the_first_step(compiling):
    model = still(**compiling)
    expected = {t: logs_at(t) for t in (0.5, 0.1)}
    for temperature in (0.5, 0.1, 0.5):
        model.loss.temperature = temperature
        logs = model.evaluate(VIEWS, batch_size=16, verbose=0, return_dict=True)
        for name in ("loss", "contrastive_entropy"):
            # float32, compiled or not
            assert logs[name] == pytest.approx(
                expected[temperature][name], rel=1e-5
            )
    assert expected[0.5]["loss"] != pytest.approx(expected[0.1]["loss"])


def test_a_callback_schedules_it():
    seen = []
    schedule = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(
            model.loss, "temperature", 0.5 / (epoch + 1)
        ),
        on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]),
    )
    model = still()
    model.fit(VIEWS, batch_size=16, epochs=3, callbacks=schedule, verbose=0)
    for epoch, loss in enumerate(seen):
        fixed = still(NTXentLoss(0.5 / (epoch + 1)), **EAGER)
        expected = fixed.fit(VIEWS, batch_size=16, verbose=0).history["loss"]
        assert loss == pytest.approx(expected[0], rel=1e-4)


def learning(optimizer, bounds=None, **compiling):
    model = tiny_model()
    model.compile(
        optimizer,
        NTXentLoss(LearnedTemperature(0.5, **(bounds or {}))),
        **compiling,
    )
    return model


def test_it_is_learned_and_saved(tmp_path):
    # LARS has a slot for it and looks for the layer that it belongs to.
    model = learning(LARS(0.5), **EAGER)
    fit(model, IMAGES, epochs=2)
    learned = float(model.loss.temperature)
    assert learned != pytest.approx(0.5, abs=1e-3)
    loaded = checks.save_and_load(model, tmp_path)
    assert float(loaded.loss.temperature) == learned
    first, second = (
        m.evaluate(IMAGES, verbose=0, return_dict=True) for m in (model, loaded)
    )
    assert first == pytest.approx(second, rel=1e-5)
    # They go on alike: slots and draws are saved too.
    for m in (model, loaded):
        fit(m, IMAGES, epochs=1)
    # float32; threads may add up in another order
    after = [float(m.loss.temperature) for m in (model, loaded)]
    assert after[0] == pytest.approx(after[1], rel=1e-4)
    assert after[0] != pytest.approx(learned, rel=1e-3)


def test_its_gradient_is_that_of_differences():
    rng = np.random.default_rng(0)
    z_i, z_j = rng.normal(size=(2, 6, 4))
    loss = NTXentLoss(LearnedTemperature(0.5), dtype="float64")
    loss.build()
    (variable,) = loss.variables
    with tf.GradientTape() as tape:
        value = loss(z_i, z_j)
    found = float(tape.gradient(value, variable.value))
    delta = 1e-4
    above, below = (
        np.mean(algorithm_1(z_i, z_j, 0.5 * np.exp(d))) for d in (delta, -delta)
    )
    # The variable is float32; the difference's own error is about 1e-8.
    assert found == pytest.approx((above - below) / (2 * delta), rel=1e-5)


def test_it_stays_within_its_bounds():
    bounds = {"minimum": 0.2, "maximum": 0.7}
    model = learning(keras.optimizers.SGD(1e3), bounds)
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: seen.append(
            float(model.loss.temperature)
        )
    )
    fit(model, IMAGES, epochs=3, callbacks=[note])
    # float32
    assert min(seen) >= 0.2 - 1e-6
    assert max(seen) <= 0.7 + 1e-6
    assert {round(t, 3) for t in seen} & {0.2, 0.7}


def test_a_changed_one_is_saved_and_comes_back(tmp_path):
    model = tiny_model()
    model.loss.temperature = 0.25
    loaded = checks.save_and_load(model, tmp_path)
    assert float(loaded.loss.temperature) == 0.25
    # Weights alone bring it, too.
    model.loss.temperature = 0.125
    model.save_weights(tmp_path / "model.weights.h5")
    loaded.load_weights(tmp_path / "model.weights.h5")
    assert float(loaded.loss.temperature) == 0.125
    assert loaded.loss.get_config()["temperature"] == 0.125


def test_configurations():
    for loss in (
        NTXentLoss(0.3),
        NTXentLoss(LearnedTemperature(0.3, 0.02, 0.9)),
    ):
        loss.build()
        text = json.dumps(keras.saving.serialize_keras_object(loss))
        made = keras.saving.deserialize_keras_object(json.loads(text))
        assert made.get_config() == loss.get_config()
    assert NTXentLoss(0.3).get_config()["temperature"] == 0.3


def test_a_learned_one_is_among_the_weights():
    model = learning(keras.optimizers.SGD(0.5))
    before = model.get_weights()
    fit(model, IMAGES, epochs=1)
    assert float(model.loss.temperature) != pytest.approx(0.5, abs=1e-4)
    model.set_weights(before)
    assert float(model.loss.temperature) == pytest.approx(0.5, rel=1e-6)


def test_a_learned_one_goes_to_the_constructor():
    with pytest.raises(TypeError, match="to the constructor"):
        NTXentLoss(0.5).temperature = LearnedTemperature(0.1)


def test_a_variable_is_refused_with_advice():
    with pytest.raises(TypeError, match="LearnedTemperature"):
        NTXentLoss(keras.Variable(0.5))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (np.nan, ValueError),
        ("0.2", TypeError),
    ],
)
def test_bad_temperatures(value, error):
    loss = NTXentLoss(0.5)
    loss.build()
    with pytest.raises(error, match=f"temperature={value!r}".replace("(", ".")):
        loss.temperature = value
    assert float(loss.temperature) == 0.5


def test_bad_bounds():
    for arguments in (
        (0.1, 0.2, 1),
        (2, 0.1, 1),
        (0.1, 0, 1),
        (0.1, 0.1, np.inf),
    ):
        with pytest.raises(
            ValueError,
            match=r"minimum <= initial|must be positive|a positive number",
        ):
            LearnedTemperature(*arguments)
    learned = NTXentLoss(LearnedTemperature(0.1))
    with pytest.raises(ValueError, match="between the bounds"):
        learned.temperature = 3.0
