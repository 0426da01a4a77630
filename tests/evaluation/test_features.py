import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import simclr_keras
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


# --- Other outputs, and sets of images ----------------------------------------
@pytest.fixture
def simclr(model):
    images = np.random.default_rng(1).integers(0, 256, (12, 4, 4, 3), "uint8")
    simclr = simclr_keras.SimCLRModel(
        model,
        simclr_keras.ProjectionHead(output_dim=6, num_layers=3),
        value_range=(0, 255),
    )
    simclr(images)  # Builds the head.
    for variable in simclr.weights:  # Also what batch norm has seen.
        variable.assign(
            np.random.default_rng(2).uniform(0.5, 1.5, variable.shape)
            if "float" in variable.dtype
            else variable
        )
    return simclr, images


def test_the_projection_and_the_layers_of_the_head(simclr):
    model, images = simclr
    h = extract_features(model, images)
    head = model.projection_head
    x = h
    for layer in head.layers:
        x = layer(x)
        np.testing.assert_allclose(
            extract_features(model, images, output=layer.name, batch_size=5),
            keras.ops.convert_to_numpy(x),
            atol=1e-6,  # float32, in batches of another size
        )
    z = extract_features(model, images, output="projection")
    np.testing.assert_allclose(
        z, keras.ops.convert_to_numpy(head(h, training=False)), atol=1e-6
    )


def test_a_layer_of_the_encoder_is_averaged_over_space(simclr):
    model, images = simclr
    name = model.encoder.layers[2].name  # before the pool, which does so
    np.testing.assert_allclose(
        extract_features(model, images, output=name),
        extract_features(model, images),
        atol=1e-6,
    )


def test_a_subclass_keeps_its_encode_and_scale(images):
    class Twice(simclr_keras.SimCLRModel):
        def encode(self, images, training=None):
            return 2 * super().encode(images, training)

        def scale(self, images):
            return super().scale(images) / 3

    encoder = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    model = Twice(
        encoder, simclr_keras.ProjectionHead(kind="none"), value_range=(0, 1)
    )
    np.testing.assert_allclose(
        extract_features(model, images, output="projection"),
        2 / 3 * images.reshape(10, -1),
        rtol=1e-6,
    )


def test_unknown_outputs_are_refused(simclr, model, images):
    with pytest.raises(ValueError, match=r"'projection', 'dense_1'.*'conv2d"):
        extract_features(simclr[0], simclr[1], output="dense_9")
    with pytest.raises(ValueError, match=r"an output of a SimCLRModel"):
        extract_features(model, images, output="projection")


def test_float16_in_half_the_memory(simclr, model, images):
    features = extract_features(*simclr)
    half = extract_features(*simclr, dtype="float16")
    np.testing.assert_array_equal(half, features.astype("float16"))
    with pytest.raises(ValueError, match=r"Received: dtype='float64'"):
        extract_features(model, images, dtype="float64")
    model.layers[2].bias.assign(np.full(5, 1e5, "float32"))
    with pytest.raises(ValueError, match=r"up to 65504. Received: .* 1e\+05"):
        extract_features(model, images, dtype="float16")


def test_a_set_of_images_is_read_in_its_order(simclr, tmp_path):
    model, images = simclr
    for k, image in enumerate(images):
        folder = tmp_path / "ab"[k % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{k}.png")
    data = simclr_keras.data.load_image_folder(tmp_path, 4, test_fraction=0.0)
    files = simclr_keras.data.load_image_folder(
        tmp_path, 4, test_fraction=0.0, in_memory=False
    ).train
    expected = [images[int(os.path.basename(p)[:-4])] for p in files.paths]
    np.testing.assert_array_equal(data.train.paths, files.paths)
    subsets = [each.subset(np.array([3, 1])) for each in (data.train, files)]
    np.testing.assert_array_equal(*(each.paths for each in subsets))
    for each in (data.train, files):
        np.testing.assert_allclose(
            extract_features(model, each, batch_size=5),
            extract_features(model, np.array(expected)),
            atol=1e-6,
        )


def test_an_encoder_that_takes_0_to_1_gets_a_set_of_bytes_so():
    encoder = simclr_keras.encoders.ResNet18(
        stem="cifar", width_multiplier=0.125
    )
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), "uint8")
    data = simclr_keras.data.from_arrays(images)
    np.testing.assert_allclose(
        extract_features(encoder, data.train),
        extract_features(encoder, images.astype("float32") / 255),
        atol=1e-6,
    )
