"""Each sentence of a step can be replaced, and the others stay as they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simclr_keras import SimCLRModel
from simclr_keras.augmentation import RandomGaussianNoise
from tests.model.by_hand import ByHand
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    VIEWS,
    fit,
    tiny_encoder,
    tiny_model,
)

FLIPPED = {"view_1": IMAGES, "view_2": IMAGES[:, :, ::-1]}


class Flipped(SimCLRModel):
    def make_views(self, images, training=True):
        return images, ops.flip(images, axis=2)


def test_make_views():
    model = tiny_model(cls=Flipped, augmentation=None, compiling=EAGER)
    logs = model.train_on_batch(IMAGES, return_dict=True)
    by_hand = ByHand(tiny_model())
    # float32
    assert logs == pytest.approx(by_hand.step(FLIPPED), rel=1e-5)
    # Batches of views need none made.
    logs = model.evaluate(VIEWS, batch_size=16, verbose=0, return_dict=True)
    expected = tiny_model(compiling=EAGER)
    expected.set_weights(model.get_weights())
    assert logs == expected.evaluate(
        VIEWS, batch_size=16, verbose=0, return_dict=True
    )


class Wider(SimCLRModel):
    def encode(self, images, training=None):
        h = super().encode(images, training)
        return ops.concatenate([h, h**2], axis=-1)


def unbuilt_encoder():
    return keras.Sequential(
        [keras.layers.Conv2D(8, 3), keras.layers.GlobalMaxPooling2D()]
    )


@pytest.mark.parametrize("encoder", [tiny_encoder, unbuilt_encoder])
def test_encode(encoder):
    model = tiny_model(
        cls=Wider,
        encoder=encoder(),
        num_classes=NUM_CLASSES,
        compiling=EAGER,
    )
    logs = model.test_on_batch(VIEWS, LABELS, return_dict=True)
    images = np.concatenate(list(VIEWS.values())) / np.float32(255)
    h = model.encoder(images).numpy()
    h = np.concatenate([h, h**2], axis=1)
    assert model.projection_head.get_weights()[0].shape[0] == 16
    assert model.linear_probe.kernel.shape[0] == 16
    z = model.projection_head(h)
    # float32
    assert logs["loss"] == pytest.approx(float(model.loss(*np.split(z, 2))))
    np.testing.assert_allclose(
        model.predict(IMAGES, verbose=0), h[:16], rtol=1e-5
    )


class Halved(SimCLRModel):
    def project(self, representations, training=None):
        return super().project(representations, training)[:, :2]


def test_project():
    model = tiny_model(cls=Halved, compiling=EAGER)
    by_hand = ByHand(model)
    whole = by_hand.project
    by_hand.project = lambda h, training=False: whole(h, training)[:, :2]
    logs = model.train_on_batch(VIEWS, return_dict=True)
    # float32
    assert logs == pytest.approx(by_hand.step(VIEWS), rel=1e-5)
    kernel = "head/dense_2/kernel"
    (found,) = (v for v in model.weights if v.path == kernel)
    np.testing.assert_allclose(
        found, by_hand.weights[kernel], rtol=1e-4, atol=1e-5
    )


class Alignment(SimCLRModel):
    """Notes what it is given."""

    def contrastive_loss(
        self, projections, labels=None, views=None, training=True
    ):
        self.given = projections, labels, views, training
        z_1, z_2 = projections
        return ops.mean(ops.sum((z_1 - z_2) ** 2, axis=-1))


def test_contrastive_loss():
    model = tiny_model(cls=Alignment, num_classes=NUM_CLASSES, compiling=EAGER)
    by_hand = ByHand(model)
    by_hand.loss = lambda z: tf.reduce_mean(
        tf.reduce_sum((z[:16] - z[16:]) ** 2, axis=1)
    )
    one_hot = np.eye(NUM_CLASSES, dtype="float32")[LABELS]
    logs = model.train_on_batch(VIEWS, one_hot, return_dict=True)
    # float32. The probe's loss is beside it, not in it.
    assert logs == pytest.approx(by_hand.step(VIEWS, LABELS), rel=1e-5)
    projections, labels, views, training = model.given
    assert training
    assert [tuple(z.shape) for z in projections] == [(16, 4)] * 2
    assert labels.dtype == "int32"
    np.testing.assert_array_equal(labels, LABELS)
    for view, images in zip(views, VIEWS.values(), strict=True):
        np.testing.assert_allclose(view, images / 255, atol=1e-6)
    model.evaluate(VIEWS, LABELS, verbose=0)
    assert not model.given[-1]


class Length(SimCLRModel):
    """Logs the mean length of the projections of each class 0."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.length = keras.metrics.Mean(name="length")

    def update_metrics(self, projections, labels=None):
        super().update_metrics(projections, labels)
        for z in projections:
            self.length.update_state(
                ops.norm(z, axis=-1), sample_weight=labels == 0
            )


def test_update_metrics():
    model = tiny_model(cls=Length, compiling=EAGER)
    by_hand = ByHand(model)
    h = by_hand.represent(np.concatenate(list(VIEWS.values())), training=True)
    lengths = np.linalg.norm(by_hand.project(h, training=True), axis=1)
    expected = {
        **by_hand.logs(VIEWS),
        "length": lengths[np.tile(LABELS, 2) == 0].mean(),
    }
    logs = model.train_on_batch(VIEWS, LABELS, return_dict=True)
    assert logs == pytest.approx(expected, rel=1e-5)  # float32


class All(Flipped, Wider, Halved, Alignment, Length):
    pass


def test_all_of_them_in_a_graph():
    model = tiny_model(
        cls=All, augmentation=RandomGaussianNoise(seed=1), num_classes=4
    )
    history = fit(
        model, IMAGES, LABELS, epochs=1, validation_data=(IMAGES, LABELS)
    )
    assert {"length", "val_length", "val_probe_loss"} < set(history)
    assert np.isfinite(list(history.values())).all()
