"""Losses and metrics that `compile` is given, and those it refuses."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simclr_keras import LARS, NTXentLoss, SimCLRModel
from simclr_keras.losses import ContrastiveLoss, LearnedTemperature
from simclr_keras.metrics import ContrastiveEntropy
from tests import checks
from tests.model.by_hand import ByHand
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    VIEWS,
    dataset,
    fit,
    tiny_encoder,
    tiny_model,
)

RAISED = ValueError, tf.errors.InvalidArgumentError


def distance(z_1, z_2):
    return ops.sum((z_1 - z_2) ** 2, axis=-1)


class Distance(keras.losses.Loss):
    def call(self, z_1, z_2):
        return distance(z_1, z_2)


@pytest.fixture(scope="module")
def distances():
    """Of the projections of `VIEWS`, by hand."""
    by_hand = ByHand(tiny_model())
    h = by_hand.represent(np.concatenate(list(VIEWS.values())), training=True)
    z_1, z_2 = np.split(by_hand.project(h, training=True), 2)
    return ((z_1 - z_2) ** 2).sum(axis=1)


def test_metrics_see_the_projections(distances):
    model = tiny_model(compiling={"metrics": [distance], **EAGER})
    logs = model.train_on_batch(VIEWS, return_dict=True)
    # float32
    assert logs["distance"] == pytest.approx(distances.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "reduce"),
    [
        (distance, np.mean),
        (lambda z_1, z_2: ops.mean(distance(z_1, z_2)), np.mean),
        (Distance(), np.mean),
        (Distance(reduction="sum"), np.sum),
        (Distance(reduction=None), np.mean),
    ],
    ids=["rows", "scalar", "mean", "sum", "none"],
)
def test_any_loss_of_two_projections(loss, reduce, distances):
    model = tiny_model()
    model.compile("sgd", loss, run_eagerly=True)
    logs = model.train_on_batch(VIEWS, return_dict=True)
    assert logs["loss"] == pytest.approx(reduce(distances), rel=1e-4)  # float32


def test_what_compares_two_projections_is_welcome():
    model = tiny_model(
        compiling={
            "metrics": [keras.metrics.CosineSimilarity(name="cosine")],
            **EAGER,
        }
    )
    assert -1 <= fit(model, IMAGES, epochs=1)["cosine"][0] <= 1
    model.compile("sgd", keras.losses.CosineSimilarity(), run_eagerly=True)
    fit(model, IMAGES, epochs=1)


def test_metrics_under_a_strategy():
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = tiny_model(
            compiling={"metrics": [keras.metrics.MeanSquaredError(name="mse")]}
        )
    history = fit(model, IMAGES, epochs=1)
    assert np.isfinite(history["mse"]).all()


# --- A loss that asks for labels ---------------------------------------------
@keras.saving.register_keras_serializable(package="tests")
class SameClass(ContrastiveLoss):
    """How far apart views of one class are."""

    uses_labels = True

    def view_losses(self, z_i, z_j, labels=None):
        same = ops.cast(labels[:, None] == labels[None, :], z_i.dtype)
        squares = distance(z_i[:, None], z_j[None, :]) * same
        return ops.concatenate(
            [ops.mean(squares, axis=1), ops.mean(squares, axis=0)]
        )


def labelled_model(compiling=EAGER, **kwargs):
    model = tiny_model(**kwargs)
    model.compile("sgd", SameClass(), **compiling)
    return model


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS[:, None], np.eye(NUM_CLASSES, dtype="float32")[LABELS]],
)
def test_a_loss_with_labels(labels):
    by_hand = ByHand(tiny_model())
    h = by_hand.represent(np.concatenate(list(VIEWS.values())), training=True)
    z_1, z_2 = np.split(by_hand.project(h, training=True), 2)
    squares = ((z_1[:, None] - z_2[None]) ** 2).sum(axis=-1)
    expected = (squares * (LABELS[:, None] == LABELS)).mean()
    logs = labelled_model().train_on_batch(VIEWS, labels, return_dict=True)
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)  # float32


def test_a_loss_with_labels_is_saved(tmp_path):
    model = labelled_model()
    fit(model, IMAGES, LABELS, epochs=1)
    loaded = checks.save_and_load(model, tmp_path)
    assert type(loaded.loss) is SameClass
    a, b = (
        m.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
        for m in (model, loaded)
    )
    assert a == b


def test_a_loss_without_the_labels_it_asks_for():
    with pytest.raises(ValueError, match=r"SameClass needs labels"):
        fit(labelled_model(), IMAGES)


@pytest.mark.parametrize(
    ("wrong", "compiling"),
    [
        (np.nan, EAGER),
        (1.5, EAGER),
        (2.0**32, EAGER),
        pytest.param(1.5, {"jit_compile": True}, marks=pytest.mark.slow),
    ],
)
def test_a_loss_refuses_labels_that_are_no_integers(wrong, compiling):
    labels = LABELS.astype("float32")
    labels[3] = wrong
    for data in (IMAGES, labels), (dataset((IMAGES, labels)),):
        with pytest.raises(RAISED, match="Labels must be integers of 32 bits"):
            fit(labelled_model(compiling), *data, epochs=1)
    # Nobody looks at them here.
    fit(tiny_model(compiling=compiling), IMAGES, labels, epochs=1)


class OfLabels(SimCLRModel):
    def contrastive_loss(self, projections, labels=None, *_, **__):
        return ops.mean(ops.cast(labels, "float32"))


@pytest.mark.parametrize("wrong", [0.5, 2.0**40])
def test_an_overridden_loss_is_given_no_labels_that_it_would_misread(wrong):
    model = tiny_model(cls=OfLabels, compiling=EAGER)
    with pytest.raises(RAISED, match="Labels must be integers of 32 bits"):
        fit(model, IMAGES, LABELS + wrong, epochs=1)


def test_a_learned_temperature_is_not_for_lars():
    loss = NTXentLoss(LearnedTemperature(0.1))
    model = tiny_model()
    with pytest.warns(UserWarning, match="at a bound, 0.01 or 1.0"):
        model.compile(LARS(0.3), loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile(keras.optimizers.AdamW(1e-3), loss)
        model.compile(LARS(0.3), NTXentLoss(0.1))


# --- What cannot be meant ----------------------------------------------------
@pytest.mark.parametrize(
    "metric", [ContrastiveEntropy(0.5), keras.metrics.CosineSimilarity("loss")]
)
def test_a_metric_of_the_name_of_another(metric):
    with pytest.raises(ValueError, match="other names than the model's own"):
        tiny_model(compiling={"metrics": [metric]})


@pytest.mark.parametrize(
    ("loss", "error"),
    [
        ("categorical_crossentropy", TypeError),
        ("mse", TypeError),
        (["mse"], TypeError),
        (NTXentLoss, TypeError),
        (keras.losses.CategoricalCrossentropy(), ValueError),
        (keras.losses.sparse_categorical_crossentropy, ValueError),
        (keras.losses.Hinge(), ValueError),
    ],
)
def test_losses_of_labels(loss, error):
    with pytest.raises(error, match=r"`loss` must .*two"):
        SimCLRModel(tiny_encoder()).compile("sgd", loss)


@pytest.mark.parametrize(
    ("metrics", "error"),
    [
        (["accuracy"], TypeError),
        ("accuracy", TypeError),
        ({"a": "accuracy"}, TypeError),
        ([keras.metrics.SparseCategoricalAccuracy()], ValueError),
        ([keras.metrics.AUC()], ValueError),
        ([keras.metrics.categorical_accuracy], ValueError),
    ],
)
def test_metrics_of_labels(metrics, error):
    with pytest.raises(error, match=r"num_classes=10"):
        SimCLRModel(tiny_encoder()).compile("sgd", metrics=metrics)
