"""What the model gives of images: the representations of its encoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import ProjectionHead, SimCLRAugmentation, SimCLRModel
from simclr_keras.augmentation import (
    CenterCropAndResize,
    RandomHorizontalFlip,
)
from simclr_keras.evaluation import extract_features
from tests.model.by_hand import ByHand
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    Batches,
    dataset,
    halves,
    random_images,
    tiny_encoder,
    tiny_model,
)


@pytest.mark.parametrize(
    ("value_range", "dtype"),
    [
        ((0, 255), "uint8"),
        ((0, 255), "float32"),
        ((0, 65535), "uint16"),
        ((0, 1), "float32"),
        ((-1, 1), "float64"),
    ],
)
def test_images_are_brought_to_0_to_1(value_range, dtype):
    low, high = value_range
    images = (IMAGES / 255 * (high - low) + low).astype(dtype)
    model = tiny_model(
        augmentation=RandomHorizontalFlip(value_range=value_range),
        compiling=EAGER,
    )
    assert model.value_range == value_range
    scaled = (images.astype("float32") - low) / (high - low)
    expected = model.encoder(scaled)
    # float32
    np.testing.assert_allclose(model(images), expected, atol=1e-6)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, atol=1e-6
    )


def test_images_are_larger_than_views(tmp_path):
    images = random_images(6, 20, 20)
    encoder = tiny_encoder((None, None, 3))
    model = SimCLRModel(
        encoder, ProjectionHead(4), SimCLRAugmentation(8, 8, evaluation_size=12)
    )
    model.compile("sgd")
    model.fit(images, batch_size=3, verbose=0)
    prepared = CenterCropAndResize(12, 12, crop_proportion=1.0)(images) / 255
    expected = encoder(prepared)
    assert not np.allclose(expected, encoder(images / 255.0), atol=1e-3)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        # float32
        np.testing.assert_allclose(
            each.predict(images, verbose=0), expected, atol=1e-6
        )
        np.testing.assert_allclose(
            extract_features(each, images), expected, atol=1e-6
        )


def test_every_form():
    model = tiny_model()
    expected = model.encoder(IMAGES.astype("float32") / 255)
    for data in (
        {"image": IMAGES, "label": LABELS},
        dataset((IMAGES, LABELS)),
        Batches(*halves(IMAGES)),
    ):
        result = model.predict(data, verbose=0)
        np.testing.assert_allclose(result, expected, atol=1e-6)  # float32
    np.testing.assert_allclose(model({"image": IMAGES}), expected, atol=1e-6)
    # Batch norm with the batch's statistics
    np.testing.assert_allclose(
        model(IMAGES, training=True),
        ByHand(model).represent(IMAGES, training=True),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    # The middle of the views' shape, and seven eighths of it where the views
    # are larger than 32 pixels.
    ("size", "image_size", "middle"),
    [(8, (12, 16), (12, 12)), (40, (64, 64), (56, 56))],
)
def test_images_of_another_size_are_brought_to_the_views(
    size, image_size, middle
):
    images = random_images(4, *image_size)
    model = tiny_model(
        augmentation=SimCLRAugmentation(size, size),
        encoder=tiny_encoder((size, size, 3)),
        compiling=EAGER,
    )
    top, left = ((a - b) // 2 for a, b in zip(image_size, middle))
    cut = images[:, top : top + middle[0], left : left + middle[1]]
    resized = tf.image.resize(cut, (size, size), "bicubic")
    expected = model.encoder(tf.clip_by_value(resized, 0, 255) / 255)
    # float32; bicubic weights in another order
    np.testing.assert_allclose(model(images), expected, atol=1e-5)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, atol=1e-5
    )
    # Those of the views' size are left as they are.
    same = random_images(4, size, size)
    np.testing.assert_allclose(
        model(same), model.encoder(same.astype("float32") / 255), atol=1e-6
    )


@pytest.mark.parametrize("size", [40, 48])
def test_images_whose_size_is_not_known_beforehand(size):
    model = tiny_model(
        encoder=tiny_encoder((40, 40, 3)),
        augmentation=SimCLRAugmentation(40, 40),
    )
    images = random_images(height=size, width=size)
    unknown = tf.TensorSpec((None, None, None, 3), tf.uint8)
    represent = tf.function(model, input_signature=[unknown])
    # float32 in a graph and not.
    np.testing.assert_allclose(represent(images), model(images), atol=1e-6)


def test_a_model_that_was_called_can_be_built_without_compile():
    model = SimCLRModel(tiny_encoder(), ProjectionHead(4))
    expected = model(IMAGES[:2])
    model.build((None, *IMAGES.shape[1:]))
    np.testing.assert_array_equal(model(IMAGES[:2]), expected)
