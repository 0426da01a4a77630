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


# --- The range that an encoder takes ------------------------------------------
BYTES = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), "uint8")


def pooled(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            *layers,
            keras.layers.Conv2D(5, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = pooled()

    def call(self, images):
        return self.inner(images)


class OneLayer(keras.layers.Layer):
    def call(self, images):
        return keras.ops.mean(images, axis=(1, 2))


def resnet():
    return simclr_keras.encoders.ResNet18(stem="cifar", width_multiplier=0.125)


class OfBytes(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return BYTES[2 * index : 2 * index + 2], np.zeros(2)


FORMS = {
    "an array": lambda: BYTES,
    "a tensor": lambda: tf.constant(BYTES),
    "a set": lambda: simclr_keras.data.from_arrays(BYTES).train,
    "a dataset": lambda: tf.data.Dataset.from_tensor_slices(BYTES).batch(2),
    "a PyDataset": OfBytes,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [pooled, Subclassed, resnet, OneLayer])
def test_bytes_are_scaled_for_every_encoder(make, form):
    """As the model around an encoder scales them."""
    encoder, images = make(), FORMS[form]()
    features = extract_features(encoder, images)
    model = simclr_keras.SimCLRModel(
        encoder, simclr_keras.ProjectionHead(kind="none"), value_range=(0, 255)
    )
    for expected in (
        extract_features(model, images),
        extract_features(encoder, BYTES / np.float32(255)),
    ):
        # Sums of float32, of batches of other sizes.
        np.testing.assert_allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize("make", [pooled, resnet, OneLayer])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64"])
def test_integers_of_an_unknown_range_are_refused(make, dtype):
    images = BYTES.astype(dtype)
    forms = [images, tf.data.Dataset.from_tensor_slices(images).batch(2)]
    if dtype == "uint16":
        forms.append(simclr_keras.data.from_arrays(images).train)
    for form in forms:
        with pytest.raises(
            TypeError, match=rf"{dtype}.*SimCLRModel\(encoder, value_range="
        ):
            extract_features(make(), form)


def test_what_is_advised_for_wider_integers():
    encoder = pooled()
    model = simclr_keras.SimCLRModel(encoder, value_range=(0, 65535))
    np.testing.assert_allclose(
        extract_features(model, BYTES.astype("uint16") * 257),
        extract_features(encoder, BYTES),
        atol=1e-6,
    )


def normalization(mean):
    return keras.layers.Normalization(mean=[mean] * 3, variance=[1.0] * 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pooled(keras.layers.Rescaling(1 / 255)),
        lambda: pooled(keras.layers.Rescaling([1 / 127.5] * 3, offset=-1)),
        lambda: pooled(normalization(120.0)),
        lambda: keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.Sequential([keras.layers.Rescaling(1 / 255)]),
                keras.layers.GlobalAveragePooling2D(),
            ]
        ),
        pytest.param(
            lambda: keras.applications.MobileNetV3Small(
                (32, 32, 3), include_top=False, weights=None, pooling="avg"
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: keras.applications.ConvNeXtTiny(
                input_shape=(32, 32, 3),
                include_top=False,
                weights=None,
                pooling="avg",
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_bytes_for_an_encoder_that_scales_them_itself(make):
    encoder = make()
    images = np.resize(BYTES, (6, *encoder.input_shape[1:]))
    wrapped = simclr_keras.encoders.BackboneEncoder(
        encoder, input_scaling=(0, 255)
    )
    expected = extract_features(encoder, images.astype("float32"))
    # As they are; and from [0, 1] back.
    for features in (
        extract_features(encoder, images),
        extract_features(encoder, simclr_keras.data.from_arrays(images).train),
        extract_features(wrapped, images),
    ):
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def after_a_product():
    inputs = keras.Input((8, 8, 3))
    x = pooled(keras.layers.Rescaling(1 / 255))(inputs * 255.0)
    return keras.Model(inputs, x)


class AfterAProduct(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = pooled(keras.layers.Rescaling(1 / 255))

    def call(self, images):
        return self.inner(images * 255.0)


def after_a_backbone():
    encoder = simclr_keras.encoders.BackboneEncoder(
        pooled(keras.layers.Rescaling(1 / 255)), input_scaling=(0, 255)
    )
    return keras.Sequential([encoder, keras.layers.Dense(3)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: pooled(keras.layers.Rescaling(2.0, -1)),
        lambda: pooled(keras.layers.Rescaling(255.0)),
        lambda: pooled(normalization(0.5)),
        after_a_product,
        AfterAProduct,
        after_a_backbone,
    ],
)
def test_encoders_that_scale_images_from_0_to_1_are_none_of_these(make):
    encoder = make()
    np.testing.assert_allclose(
        extract_features(encoder, BYTES),
        extract_features(encoder, BYTES / np.float32(255)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_another_output_of_an_encoder_is_refused_for_bytes_too():
    with pytest.raises(ValueError, match=r"an output of a SimCLRModel"):
        extract_features(pooled(), BYTES, output="projection")


@pytest.mark.slow
def test_an_exported_encoder(tmp_path):
    encoder = resnet()
    path = simclr_keras.export_saved_model(encoder, tmp_path / "exported")
    exported = simclr_keras.export.SavedModelEncoder(path)
    expected = extract_features(encoder, BYTES)
    for images in (
        BYTES,
        BYTES / np.float32(255),
        simclr_keras.data.from_arrays(BYTES).train,
    ):
        np.testing.assert_allclose(
            extract_features(exported, images), expected, atol=1e-5
        )
    with pytest.raises(ValueError, match=r"value_range=\(0, 1\)"):
        extract_features(exported, BYTES.astype("float32"))
    for _ in range(2):
        again = simclr_keras.export.SavedModelEncoder(path)
        np.testing.assert_allclose(
            extract_features(again, BYTES, cache_dir=tmp_path / "cache"),
            expected,
            atol=1e-5,
        )
    assert len(os.listdir(tmp_path / "cache")) == 1


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("batch_size", 2.5, ValueError),
        ("batch_size", "2", TypeError),
        ("output", None, TypeError),
        ("dtype", np.ones(2), ValueError),
    ],
)
def test_arguments_that_are_none(model, name, value, error):
    images = np.zeros((2, 4, 4, 3), "float32")
    with pytest.raises(error, match=f"`{name}` must be"):
        extract_features(model, images, **{name: value})
    with pytest.raises(ValueError, match=r"images.shape=\(\)"):
        extract_features(model, tf.constant(1.0))
    with pytest.raises(TypeError, match="`images` must be an array of num"):
        extract_features(model, images.astype(str))
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        extract_features("model.keras", images)
