"""The linear probe, trained beside the encoder."""

import keras
import numpy as np

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


def test_the_probe_leaves_encoder_and_loss_alone():
    plain = tiny_model(compiling=EAGER)
    probed = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    expected = fit(plain, IMAGES)
    before = probed.linear_probe.kernel.numpy()
    history = fit(probed, IMAGES, LABELS)
    assert set(history) - set(expected) == {"probe_loss", "probe_accuracy"}
    assert_equal({name: history[name] for name in expected}, expected)
    paths = [v.path for v in probed.weights]
    assert [p.split("/")[0] for p in paths[-2:]] == ["linear_probe"] * 2
    assert_equal(weights(probed)[:-2], weights(plain))
    assert not np.array_equal(probed.linear_probe.kernel, before)


def test_the_probe_learns():
    model = tiny_model(keras.optimizers.Adam(0.1), num_classes=NUM_CLASSES)
    images = np.zeros((16, 8, 8, 3), "uint8")
    images[np.arange(16), :, :, LABELS % 3] = 255  # colors tell the classes
    images[LABELS == 3] = 255
    views = {"view_1": images, "view_2": images}
    history = fit(model, views, LABELS, epochs=20)
    assert history["probe_accuracy"][-1] == 1


def test_of_three_views_all_are_probed():
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    views = {f"view_{k + 1}": IMAGES + np.uint8(k) for k in range(3)}
    logs = model.test_on_batch(views, LABELS, return_dict=True)
    h = model.encoder(np.concatenate(list(views.values())) / np.float32(255))
    expected = keras.losses.sparse_categorical_crossentropy(
        np.tile(LABELS, 3), model.linear_probe(h), from_logits=True
    )
    # float32
    np.testing.assert_allclose(logs["probe_loss"], np.mean(expected), rtol=1e-5)
