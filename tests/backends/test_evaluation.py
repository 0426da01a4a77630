"""Evaluation on Keras's other backends, beside a `fit` that goes on."""

import keras
import numpy as np
import pytest

from simclr_keras import evaluation
from simclr_keras.callbacks import CollapseMonitor, KNNEvaluation
from simclr_keras.evaluation import accelerator, logistic_regression
from tests.callbacks.test_labelled_evaluation import (
    IMAGES,
    TEST,
    TRAIN,
    make_model,
)
from tests.evaluation.blobs import make_blobs


def train(callbacks):
    model = make_model()
    # On PyTorch any data loader draws from the generator that shuffles.
    history = model.fit(
        IMAGES,
        batch_size=20,
        epochs=2,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    return model, history.history


def test_callbacks_look_and_leave_the_training_alone():
    model, logs = train([KNNEvaluation(TRAIN, TEST), CollapseMonitor(TEST[0])])
    alone, _ = train([])
    for here, there in zip(model.get_weights(), alone.get_weights()):
        np.testing.assert_array_equal(here, there)
    h, h_test = (
        evaluation.extract_features(model, each) for each, _ in (TRAIN, TEST)
    )
    accuracy = evaluation.knn_accuracy(h, TRAIN[1], h_test, TEST[1], k=20)
    assert logs["knn_accuracy"][-1] == accuracy
    assert logs["h_rank_me"][-1] == evaluation.rank_me(h_test)


def test_other_outputs():
    model, _ = train([])
    h = evaluation.extract_features(model, TEST[0])
    z = evaluation.extract_features(model, TEST[0], output="projection")
    expected = model.project(h, training=False)
    np.testing.assert_allclose(
        z, keras.ops.convert_to_numpy(expected), atol=1e-6
    )


@pytest.mark.parametrize("num_classes", [2, 5])
def test_linear_evaluation_equals_scikit_learn(num_classes, monkeypatch):
    # Several chunks, and one that is smaller.
    monkeypatch.setattr(logistic_regression, "_CHUNK_BYTES", 4 * 8 * 70)
    data = make_blobs(num_classes=num_classes)
    ours, theirs = (
        evaluation.linear_evaluation(*data, l2_values=[0.1], solver=solver)
        for solver in ("keras", "scikit-learn")
    )
    # One of 150 images may lie within the tolerance of a border.
    assert np.sum(ours.predicted != theirs.predicted) <= 1
    assert abs(ours.top_5_accuracy - theirs.top_5_accuracy) < 1.5 / 150


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="asks JAX for its memory"
)
@pytest.mark.parametrize(
    ("stats", "expected"),
    [
        ({"bytes_limit": 2**36, "bytes_in_use": 2**34}, 3 * 2**33),
        ({}, 2**30),
        (None, 2**30),
    ],
)
def test_half_of_the_free_memory_is_for_features(stats, expected, monkeypatch):
    import jax

    class Device:
        def memory_stats(self):
            return stats

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    monkeypatch.setattr(accelerator, "has_accelerator", lambda: True)
    assert accelerator.resident_bytes() == expected
