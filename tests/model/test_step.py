"""What a step computes and logs, against the same by hand."""

import keras
import numpy as np
import pytest

from simclr_keras import ProjectionHead
from simclr_keras.augmentation import RandomGaussianNoise
from tests.model.by_hand import ByHand, assert_trained_alike, probe_logs
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    VIEWS,
    assert_equal,
    fit,
    tiny_encoder,
    tiny_model,
    weights,
)


@pytest.mark.parametrize("probe", [False, True])
def test_a_step_equals_one_by_hand(probe):
    model = tiny_model(
        num_classes=NUM_CLASSES if probe else None, compiling=EAGER
    )
    by_hand = ByHand(model)
    labels = LABELS if probe else None
    logs = model.train_on_batch(VIEWS, labels, return_dict=True)
    expected = by_hand.step(VIEWS, labels)
    assert logs == pytest.approx(expected, rel=1e-5)  # float32
    assert_trained_alike(model, by_hand)


def test_terms_that_layers_add_are_in_the_loss():
    model = tiny_model(
        encoder=tiny_encoder(kernel_regularizer=keras.regularizers.L2(0.05)),
        compiling=EAGER,
    )
    by_hand = ByHand(model)
    logs = model.train_on_batch(VIEWS, return_dict=True)
    assert logs == pytest.approx(by_hand.step(VIEWS, l2=0.05), rel=1e-5)
    assert_trained_alike(model, by_hand)


def test_logs_are_means_over_images():
    model = tiny_model(keras.optimizers.SGD(0.0), compiling=EAGER)
    start = ByHand(model)
    views = {key: value[:12] for key, value in VIEWS.items()}
    history = fit(model, views, epochs=1)  # batches of 8 and 4
    eight, four = (
        start.logs({key: value[part] for key, value in views.items()})
        for part in (slice(8), slice(8, 12))
    )
    for name, (value,) in history.items():
        expected = (8 * eight[name] + 4 * four[name]) / 12
        assert value == pytest.approx(expected, rel=1e-5), name  # float32


def trained_and_expected():
    """A model whose statistics have moved, and what its evaluation logs."""
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    fit(model, VIEWS, LABELS, epochs=1)
    by_hand = ByHand(model)
    h = by_hand.represent(np.concatenate(list(VIEWS.values())))
    z = by_hand.project(h)
    logits = model.linear_probe(h.numpy()).numpy()
    return model, {
        "loss": float(by_hand.loss(z)),
        **by_hand.metrics(z),
        **probe_logs(logits, np.concatenate([LABELS, LABELS])),
    }


def test_evaluation_is_in_inference_mode():
    model, expected = trained_and_expected()
    before = weights(model)
    logs = model.evaluate(
        VIEWS, LABELS, batch_size=16, verbose=0, return_dict=True
    )
    assert logs == pytest.approx(expected, rel=1e-4)  # float32
    on_batch = model.test_on_batch(VIEWS, LABELS, return_dict=True)
    assert on_batch == pytest.approx(logs, rel=1e-6)
    assert_equal(weights(model), before)


def test_evaluate_probes_the_images_themselves():
    model = tiny_model(
        augmentation=RandomGaussianNoise(0.3, seed=1),
        num_classes=NUM_CLASSES,
        compiling=EAGER,
    )
    logs = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    h = ByHand(model).represent(IMAGES).numpy()
    expected = probe_logs(model.linear_probe(h).numpy(), LABELS)
    found = {name: logs[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-4)  # float32


def test_steps_one_at_a_time_are_those_of_fit():
    together, one_by_one = tiny_model(), tiny_model()
    history = fit(together, IMAGES, epochs=1)
    steps = []
    for half in (IMAGES[:8], IMAGES[8:]):
        one_by_one.reset_metrics()  # Keras 3.12 goes on with the last ones
        steps.append(one_by_one.train_on_batch(half, return_dict=True))
    # Batches of one size: the logs of the epoch are the mean of theirs.
    means = {k: [np.mean([logs[k] for logs in steps])] for k in history}
    assert_equal(means, history, rtol=1e-5)
    # float32, in graphs for batches of known and of unknown size
    assert_equal(weights(one_by_one), weights(together), rtol=1e-4, atol=1e-6)


# --- Learning --------------------------------------------------------------
def test_loss_falls_and_every_weight_moves():
    brightness = keras.layers.RandomBrightness(0.1, seed=1)
    model = tiny_model(keras.optimizers.Adam(0.02), augmentation=brightness)
    before = [v.numpy() for v in model.trainable_variables]
    history = fit(model, IMAGES, epochs=15)  # 30 steps
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert (
        history["contrastive_accuracy"][-1] > history["contrastive_accuracy"][0]
    )
    paths = [v.path for v in model.trainable_variables]
    assert any(path.startswith("encoder/") for path in paths)
    assert any(path.startswith("head/") for path in paths)
    for v, old in zip(model.trainable_variables, before):
        assert np.abs(v.numpy() - old).max() > 1e-4, v.path


def test_a_collapse_shows_in_the_logs():
    model = tiny_model(
        encoder=keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Rescaling(0.0, offset=1.0),
                keras.layers.GlobalAveragePooling2D(),
            ]
        ),
        projection_head=ProjectionHead(kind="none"),
        compiling=EAGER,
    )
    logs = model.evaluate(IMAGES, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(np.log(31), rel=1e-5)  # float32
    assert logs["contrastive_entropy"] == pytest.approx(np.log(16), rel=1e-5)
    assert logs["contrastive_accuracy"] < 0.5
