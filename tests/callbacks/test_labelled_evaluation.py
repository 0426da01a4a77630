import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras import evaluation
from simclr_keras.callbacks import KNNEvaluation, LinearEvaluation

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 60)
# Classes of another colour, under noise.
IMAGES = 120 * np.eye(3)[LABELS][:, None, None] + RNG.integers(
    0, 136, (60, 4, 4, 3)
)
IMAGES = IMAGES.astype("uint8")
TRAIN, TEST = (IMAGES[:40], LABELS[:40]), (IMAGES[40:], LABELS[40:])


def make_model():
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
        ]
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        simclr_keras.ProjectionHead(4),
        simclr_keras.augmentation.RandomHorizontalFlip(seed=0),
    )
    model.compile("sgd")
    return model


def fit(callbacks, epochs=1, model=None, **kwargs):
    model = model or make_model()
    model.fit(
        IMAGES,
        batch_size=20,
        epochs=epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
        **kwargs,
    )
    return model


def test_the_accuracies_are_those_of_the_functions():
    callbacks = [
        KNNEvaluation(TRAIN, TEST, k=5),
        KNNEvaluation(TRAIN, k=5, name="leave_one_out"),
        LinearEvaluation(TRAIN, TEST),
    ]
    model = fit(callbacks)
    logs = model.history.history
    h, h_test = (
        evaluation.extract_features(model, each) for each, _ in (TRAIN, TEST)
    )
    knn = evaluation.knn_accuracy(h, TRAIN[1], h_test, TEST[1], k=5)
    assert logs["knn_accuracy"] == [knn]
    assert 0.5 < knn < 1
    assert logs["leave_one_out"] == [evaluation.knn_accuracy(h, TRAIN[1], k=5)]
    linear = evaluation.linear_evaluation(
        h, TRAIN[1], h_test, TEST[1], l2_values=10.0 ** np.arange(0, -7, -1)
    )
    assert logs["linear_accuracy"] == [linear.accuracy]


def test_training_is_as_it_would_have_been():
    alone = fit([], epochs=2)
    watched = fit([KNNEvaluation(TRAIN, TEST)], epochs=2)
    for here, there in zip(watched.weights, alone.weights):
        np.testing.assert_array_equal(here, there)
    assert watched.history.history["loss"] == alone.history.history["loss"]


def test_when_it_looks(monkeypatch):
    looks = []

    def count(self, *features):
        looks.append(len(features))
        return len(looks) / 10

    monkeypatch.setattr(KNNEvaluation, "evaluate", count)
    callback = KNNEvaluation(TRAIN, every=3)
    model = fit([callback], epochs=6)
    assert model.history.history["knn_accuracy"] == [
        0.1,
        0.1,
        0.1,
        0.2,
        0.2,
        0.3,
    ]
    # One that goes on looks at once.
    fit([callback], epochs=6, initial_epoch=4, model=model)
    assert model.history.history["knn_accuracy"] == [0.4, 0.5]


def test_early_stopping_finds_it():
    stop = keras.callbacks.EarlyStopping("knn_accuracy", 2, mode="max")
    model = fit([KNNEvaluation(TRAIN, TEST, every=9), stop], epochs=5)
    assert len(model.history.history["loss"]) == 2


@pytest.mark.parametrize(
    "callbacks",
    [
        [KNNEvaluation(TRAIN, TEST, name="loss")],
        [KNNEvaluation(TRAIN, TEST), KNNEvaluation(TRAIN)],
    ],
)
def test_a_name_that_is_taken(callbacks):
    with pytest.raises(ValueError, match=f"name={callbacks[-1].name!r}"):
        fit(callbacks)


def test_sets_of_images():
    data = simclr_keras.data.from_arrays(
        *TRAIN, test_images=TEST[0], test_labels=TEST[1]
    )
    pairs, sets = (
        KNNEvaluation(TRAIN, TEST),
        KNNEvaluation(data.train, data.test, name="sets"),
    )
    logs = fit([pairs, sets]).history.history
    assert logs["knn_accuracy"] == logs["sets"]


@pytest.mark.slow
def test_under_replicas():
    devices = [f"CPU:{i}" for i in range(len(tf.config.list_logical_devices()))]
    with tf.distribute.MirroredStrategy(devices).scope():
        model = make_model()
    logs = fit([KNNEvaluation(TRAIN, TEST)], model=model).history.history
    h, h_test = (
        evaluation.extract_features(model, each) for each, _ in (TRAIN, TEST)
    )
    assert logs["knn_accuracy"] == [
        evaluation.knn_accuracy(h, TRAIN[1], h_test, TEST[1], k=20)
    ]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: KNNEvaluation(IMAGES), TypeError, "a pair .*ndarray"),
        (
            lambda: KNNEvaluation((IMAGES, LABELS[:3])),
            ValueError,
            "one label for each of the 60 rows",
        ),
        (
            lambda: KNNEvaluation((IMAGES, LABELS / 2)),
            TypeError,
            "labels of train` must be integers",
        ),
        (
            lambda: KNNEvaluation(simclr_keras.data.from_arrays(IMAGES).train),
            ValueError,
            "must have labels. Received: ArrayImageSet",
        ),
        (lambda: KNNEvaluation(TRAIN, every=0), ValueError, "every=0"),
        (lambda: KNNEvaluation(TRAIN, k=0), ValueError, "k=0"),
        (
            lambda: LinearEvaluation(TRAIN, TEST, batch_size=0.5),
            ValueError,
            "batch_size=0.5",
        ),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_nan_is_logged_and_does_not_stop():
    model = make_model()
    model.encoder.layers[-1].activation = keras.activations.linear
    model.encoder.layers[-1].kernel.assign(np.full((48, 8), np.nan))
    logs = fit([KNNEvaluation(TRAIN, TEST)], model=model).history.history
    assert np.isnan(logs["knn_accuracy"]).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LinearEvaluation(TRAIN, None), TypeError, "test=None"),
        (
            lambda: LinearEvaluation(TRAIN, TEST, l2_values=(-1,)),
            ValueError,
            "l2_values",
        ),
        (
            lambda: KNNEvaluation(TRAIN, temperature=np.nan),
            ValueError,
            "temperature=nan",
        ),
        (
            lambda: KNNEvaluation((IMAGES[0, 0], LABELS[:4])),
            ValueError,
            "N, H, W, C",
        ),
        (lambda: KNNEvaluation((IMAGES[:0], [])), ValueError, "N at least 1"),
    ],
)
def test_mistakes_are_told_before_the_training(make, error, message):
    with pytest.raises(error, match=message):
        make()
