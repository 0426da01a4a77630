"""Evaluation on Keras's other backends, beside a `fit` that goes on."""

import keras
import numpy as np

from simclr_keras import evaluation
from simclr_keras.callbacks import CollapseMonitor, KNNEvaluation
from tests.callbacks.test_labelled_evaluation import (
    IMAGES,
    TEST,
    TRAIN,
    make_model,
)


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
