"""Keras's callbacks in `fit`."""

import csv

import keras
import pytest

from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    assert_equal,
    fit,
    tiny_model,
    weights,
)


def test_files_hold_what_the_history_does(tmp_path):
    path = tmp_path / "model.keras"
    model = tiny_model(compiling=EAGER)
    history = fit(
        model,
        IMAGES,
        callbacks=[
            keras.callbacks.ModelCheckpoint(path, monitor="loss"),
            keras.callbacks.CSVLogger(tmp_path / "history.csv"),
        ],
    )
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    logged = {name: [float(row[name]) for row in rows] for name in history}
    assert_equal(logged, history, rtol=1e-6)  # as text
    assert_equal(weights(keras.saving.load_model(path)), weights(model))


DIRECTIONS = {
    "contrastive_accuracy": "max",
    "contrastive_entropy": "min",
    "probe_accuracy": "max",
    "probe_loss": "min",
}


def test_the_direction_of_metrics_is_known(tmp_path):
    callbacks = {
        name: [
            keras.callbacks.EarlyStopping(f"val_{name}"),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras",
                monitor=f"val_{name}",
                save_best_only=True,
            ),
            keras.callbacks.ReduceLROnPlateau(name),
        ]
        for name in DIRECTIONS
    }
    chosen = keras.callbacks.EarlyStopping("loss", mode="max")
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    fit(
        model,
        IMAGES,
        LABELS,
        epochs=1,
        validation_data=(IMAGES, LABELS),
        callbacks=[keras.tree.flatten(callbacks), chosen],
    )
    for name, mode in DIRECTIONS.items():
        better, worse = (1, 0) if mode == "max" else (0, 1)
        for callback in callbacks[name]:
            assert callback.mode == mode
            assert callback.monitor_op(better, worse)
    assert chosen.mode == "max"


def test_a_list_of_callbacks_as_keras_makes_it():
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    early = keras.callbacks.EarlyStopping("probe_accuracy", patience=5)
    history = keras.callbacks.History()
    callbacks = keras.callbacks.CallbackList([early, history], model=model)
    fit(model, IMAGES, LABELS, epochs=2, callbacks=callbacks)
    assert early.mode == "max"
    assert len(history.history["loss"]) == 2
    model.evaluate(IMAGES, LABELS, verbose=0, callbacks=callbacks)
    model.predict(IMAGES, verbose=0, callbacks=callbacks)
    # What is looked at beside the user's callbacks is.
    with pytest.raises(ValueError, match="Labels must"):
        fit(model, IMAGES, LABELS + NUM_CLASSES, callbacks=callbacks)
