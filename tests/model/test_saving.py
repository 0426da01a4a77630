"""A run that is saved, or interrupted, goes on as if nothing had happened."""

import keras
import numpy as np
import pytest

from simclr_keras import LARS, SimCLRModel, WarmupCosineDecay
from simclr_keras.augmentation import (
    RandomCutout,
    RandomGaussianNoise,
    RandomHorizontalFlip,
)
from tests import checks
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    TEMPERATURE,
    assert_equal,
    dataset,
    fit,
    tiny_model,
    weights,
)

LABELLED = dataset((IMAGES, LABELS))


def composed():
    return keras.Sequential(
        [RandomHorizontalFlip(seed=3), RandomGaussianNoise(seed=4)]
    )


def one_for_each_view():
    return [composed(), keras.Sequential([RandomCutout(seed=3)])]


def resumable(augmentation=composed, compiling=None):
    """Every kind of state: velocities, a schedule, statistics, draws."""
    return tiny_model(
        LARS(WarmupCosineDecay(0.5, 6, 1), trust_coefficient=0.1),
        augmentation=augmentation(),
        num_classes=NUM_CLASSES,
        compiling=compiling,
    )


def run(**kwargs):
    model = resumable(**kwargs)
    return fit(model, LABELLED, epochs=3), weights(model)


@pytest.fixture(scope="module")
def uninterrupted():
    """History of three epochs, and the weights in the end."""
    return run()


def assert_is_the_rest(history, model, uninterrupted):
    """Of a run that was interrupted after one epoch."""
    whole, end = uninterrupted
    rest = {name: logs[1:] for name, logs in whole.items()}
    # float32; threads may add up in another order.
    assert_equal(history, rest, rtol=1e-5)
    assert_equal(weights(model), end, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_loaded_model_goes_on(tmp_path, uninterrupted):
    model = resumable()
    fit(model, LABELLED, epochs=1)
    loaded = checks.save_and_load(model, tmp_path)
    assert type(loaded) is SimCLRModel
    assert loaded.loss.get_config() == model.loss.get_config()
    assert float(loaded.loss.temperature) == TEMPERATURE
    np.testing.assert_array_equal(
        loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0)
    )
    rest = fit(loaded, LABELLED, epochs=2)
    assert_is_the_rest(rest, loaded, uninterrupted)


def test_augmentations_of_each_view_go_on(tmp_path):
    arguments = {"augmentation": one_for_each_view, "compiling": EAGER}
    model = resumable(**arguments)
    fit(model, LABELLED, epochs=1)
    loaded = checks.save_and_load(model, tmp_path)
    first, second = loaded.augmentation
    assert [type(layer) for layer in first.layers] == [
        RandomHorizontalFlip,
        RandomGaussianNoise,
    ]
    assert [type(layer) for layer in second.layers] == [RandomCutout]
    rest = fit(loaded, LABELLED, epochs=2)
    assert_is_the_rest(rest, loaded, run(**arguments))


@pytest.mark.slow
def test_loaded_weights_go_on(tmp_path, uninterrupted):
    model = resumable()
    fit(model, LABELLED, epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    again = resumable()
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "model.weights.h5")
    rest = fit(again, LABELLED, epochs=2)
    assert_is_the_rest(rest, again, uninterrupted)


def test_a_run_that_was_interrupted_goes_on(tmp_path, uninterrupted):
    def interrupt(epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    interruption = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(resumable(), LABELLED, callbacks=[backup(), interruption])
    resumed = resumable()
    rest = fit(resumed, LABELLED, epochs=3, callbacks=[backup()])
    assert_is_the_rest(rest, resumed, uninterrupted)


def test_what_was_not_compiled_is_not_loaded_compiled(tmp_path):
    model = tiny_model(LARS(0.1))
    fit(model, LABELLED, epochs=1)
    copy = SimCLRModel.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    loaded = checks.save_and_load(copy, tmp_path)
    assert not loaded.compiled
    for found, expected in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(found, expected)
