import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.evaluation import extract_features


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Conv2D(5, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).random((10, 4, 4, 3), dtype="float32")


def test_all_images_in_order_in_inference_mode(model, images):
    features = extract_features(model, images, batch_size=4)
    assert isinstance(features, np.ndarray)
    assert features.dtype == "float32"
    kernel, bias = (
        v.numpy().astype("float64") for v in model.layers[2].weights
    )
    scale = 1 / np.sqrt(1 + 1e-3)  # batch norm as it begins
    expected = np.zeros((10, 5))
    for n in range(10):
        for top in range(2):
            for left in range(2):
                patch = images[n, top : top + 3, left : left + 3] * scale
                product = np.tensordot(patch, kernel, axes=3)
                expected[n] += (product + bias) / 4
    # float32 sums of 27 products of the order of 1.
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize("with_labels", [False, True])
def test_data_sets_give_the_same(model, images, with_labels):
    data = (images, np.arange(10)) if with_labels else images
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(3)
    np.testing.assert_array_equal(
        extract_features(model, dataset),
        extract_features(model, images, batch_size=3),
    )


def test_float32_under_mixed_precision(images):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.GlobalAveragePooling2D(dtype="mixed_bfloat16"),
        ]
    )
    assert extract_features(model, images).dtype == "float32"


def test_an_encoder_without_a_pool_is_refused(images):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match=r"\(10, 4, 4, 3\).*GlobalAverage"):
        extract_features(model, images)


def test_diverged_weights_are_refused(model, images):
    model.layers[2].kernel.assign(model.layers[2].kernel * np.nan)
    with pytest.raises(ValueError, match="must give finite representations"):
        extract_features(model, images)
