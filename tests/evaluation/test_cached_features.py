"""Features on disk are those that would be computed, whatever has changed."""

import os
import warnings
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras.encoders import BackboneEncoder, ResNet18
from simclr_keras.evaluation import extract_features
from simclr_keras.evaluation.cached_features import model_key

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 4, 4, 3), dtype="uint8")


def make_model(value_range=(0, 255), kernel=None):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Conv2D(5, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    if kernel is not None:
        encoder.layers[0].kernel.assign(kernel + encoder.layers[0].kernel)
    return simclr_keras.SimCLRModel(
        encoder, simclr_keras.ProjectionHead(3), value_range=value_range
    )


class Computed:
    """How many images a model was asked for."""

    def __init__(self, monkeypatch):
        self.count = 0
        predict = simclr_keras.SimCLRModel.predict

        def counting(model, images, *args, **kwargs):
            features = predict(model, images, *args, **kwargs)
            self.count += len(features)
            return features

        monkeypatch.setattr(simclr_keras.SimCLRModel, "predict", counting)


@pytest.fixture
def computed(monkeypatch):
    return Computed(monkeypatch)


def in_memory(images=IMAGES):
    return simclr_keras.data.from_arrays(images).train


@pytest.mark.parametrize("make", [np.array, tf.constant, in_memory])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_second_call_reads_them(make, dtype, tmp_path, computed):
    images, expected = make(IMAGES), extract_features(make_model(), IMAGES)
    computed.count = 0
    for count in (40, 40 + 16):
        # Another model of the same weights, as another process has.
        found = extract_features(
            make_model(), images, dtype=dtype, cache_dir=tmp_path / "new"
        )
        assert found.dtype == dtype
        np.testing.assert_allclose(
            found, expected, rtol=1e-2 if dtype == "float16" else 1e-5
        )
        assert computed.count == count
    assert len(os.listdir(tmp_path / "new")) == 1


CHANGES = {
    "an image": lambda: (make_model(), IMAGES[::-1]),
    "one pixel": lambda: (
        make_model(),
        np.concatenate([IMAGES[:-1], IMAGES[-1:] ^ 1]),
    ),
    "fewer": lambda: (make_model(), IMAGES[:-1]),
    "weights": lambda: (make_model(kernel=1e-6), IMAGES),
    "the preprocessing": lambda: (preprocessing_model(), IMAGES),
}


def preprocessing_model():
    model = make_model()
    model.evaluation_preprocessing = keras.layers.Rescaling(0.5)
    return model


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_computed(change, tmp_path):
    extract_features(make_model(), IMAGES, cache_dir=tmp_path)
    model, images = CHANGES[change]()
    found = extract_features(model, images, cache_dir=tmp_path)
    np.testing.assert_array_equal(found, extract_features(model, images))


def test_what_the_first_images_do_not_show(tmp_path):
    """Black at first, on which every range and every limit are alike."""
    images = np.concatenate([np.zeros_like(IMAGES), IMAGES])

    def limited(most):
        inputs = keras.Input((4, 4, 3))
        x = keras.layers.ReLU(max_value=most)(inputs)
        return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))

    for pair in (
        [make_model(), make_model(value_range=(-3, 255))],
        [limited(None), limited(0.1)],
    ):
        for model in pair:
            data = images.astype("float32")
            found = extract_features(model, data, cache_dir=tmp_path)
            np.testing.assert_array_equal(found, extract_features(model, data))


# --- The key of a model -------------------------------------------------------
def sequential(activation="relu", name=None, dtype=None):
    return keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Conv2D(5, 3, dtype=dtype),
            keras.layers.Activation(activation, name=name, dtype=dtype),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def functional(**kwargs):
    """Two branches, with operations that are no layers."""
    inputs = keras.Input((4, 4, 3))
    first, second = (keras.layers.Conv2D(5, 3)(inputs) for _ in range(2))
    x = keras.ops.tanh(keras.layers.Add()([first, second * 2.0]))
    x = keras.layers.Activation(**{"activation": "relu", **kwargs})(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def nested(**kwargs):
    """A model in a model in a model."""
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.Dense(2)(sequential(**kwargs)(inputs))
    model = keras.Model(inputs, outputs)
    return keras.Sequential([keras.Input((4, 4, 3)), model])


def loaded_and_wrapped():
    """What was in a file keeps its name, which that around it may have."""
    inner = sequential()
    inner.name = "sequential"
    return keras.Sequential(
        [keras.Input((4, 4, 3)), inner, keras.layers.Dense(2)]
    )


@keras.saving.register_keras_serializable(package="test_cached_features")
class Subclassed(keras.Model):
    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone

    def call(self, images):
        return self.backbone(images)

    def get_config(self):
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return {**super().get_config(), "backbone": backbone}

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        return cls(backbone, **config)


def subclassed(**kwargs):
    model = Subclassed(sequential(**kwargs))
    model(IMAGES[:1])
    return model


def resnet(**kwargs):
    return ResNet18(width_multiplier=1 / 16, stem="cifar", **kwargs)


def backbone_encoder(endpoint=1, **kwargs):
    backbone = functional(**kwargs)
    return BackboneEncoder(backbone, endpoint=backbone.layers[endpoint].name)


def simclr_model(**kwargs):
    model = simclr_keras.SimCLRModel(
        sequential(**kwargs),
        augmentation=simclr_keras.SimCLRAugmentation(4, 4),
        num_classes=2,
    )
    model(IMAGES)
    return model


def key(make, **kwargs):
    """The key of a model that has the weights of every other one."""
    model = make(**kwargs)
    for variable in model.weights:
        variable.assign(keras.ops.ones_like(variable))
    return model_key(model)


MODELS = [
    sequential,
    functional,
    nested,
    loaded_and_wrapped,
    subclassed,
    resnet,
    backbone_encoder,
    simclr_model,
]


@pytest.mark.parametrize("make", MODELS)
def test_a_model_that_is_built_again_has_the_same_key(make, tmp_path):
    keras.utils.clear_session()  # Where counting begins.
    expected = key(make)
    for _ in range(11):  # Names of one and of two digits are ordered otherwise.
        keras.layers.Conv2D(2, 2)
        keras.ops.tanh(keras.Input((2,)))
    assert key(make) == expected
    model = make()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert model_key(loaded) == model_key(model)


@pytest.mark.parametrize(
    "make",
    [
        sequential,
        functional,
        nested,
        subclassed,
        backbone_encoder,
        simclr_model,
    ],
)
def test_an_activation_of_which_a_layer_has_the_name_is_in_the_key(make):
    keys = {
        key(make, activation=activation, name=name)
        for activation in ("relu", "tanh")
        for name in (activation, None)
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    "make", [sequential, nested, subclassed, resnet, simclr_model]
)
def test_the_dtype_policy_is_in_the_key(make):
    assert key(make) != key(make, dtype="mixed_bfloat16")


def test_what_is_wired_otherwise_has_another_key():
    def wired(first, second):
        """Two convolutions, one after the other, in this order or in that."""
        inputs = keras.Input((4, 4, 3))
        layers = [
            keras.layers.Conv2D(3, 1, activation=a) for a in ("relu", "tanh")
        ]
        x = layers[first](inputs)
        x = keras.layers.Add()([layers[second](x), x])
        return keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(x))

    def other_output(place):
        model = functional()
        x = model.layers[place].output
        return keras.Model(
            model.input, [keras.layers.GlobalMaxPooling2D()(x), *model.outputs]
        )

    for make, choices in (
        (wired, [(0, 1), (1, 0)]),
        (other_output, [(1,), (2,)]),
        (backbone_encoder, [(1,), (2,)]),
    ):
        first, second = (key(partial(make, *each)) for each in choices)
        assert first != second


def test_an_activation_of_the_name_of_its_layer_is_computed(tmp_path):
    images = np.concatenate([np.zeros_like(IMAGES), IMAGES]) / np.float32(255)
    for activation in ("relu", "tanh"):
        keras.utils.set_random_seed(0)
        model = sequential(activation, name=activation)
        found = extract_features(model, images, cache_dir=tmp_path)
        np.testing.assert_array_equal(found, extract_features(model, images))


def test_a_model_without_a_configuration_is_refused(tmp_path):
    class Mine(keras.Model):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, images):
            return keras.ops.mean(images, axis=(1, 2)) * self.factor

        def get_config(self):
            raise NotImplementedError("not mine")

    with pytest.raises(ValueError, match=r"`get_config`.*not mine"):
        extract_features(Mine(2.0), IMAGES / 255, cache_dir=tmp_path)


def test_a_disk_that_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.warns(UserWarning, match="could not be kept.*No space left"):
        found = extract_features(make_model(), IMAGES, cache_dir=tmp_path)
    np.testing.assert_array_equal(found, extract_features(make_model(), IMAGES))
    assert not os.listdir(tmp_path)


def test_other_outputs_and_dtypes_have_files_of_their_own(tmp_path):
    model = make_model()
    for output in ("representation", "projection"):
        for dtype in ("float32", "float16"):
            extract_features(
                model, IMAGES, output=output, dtype=dtype, cache_dir=tmp_path
            )
    assert len(os.listdir(tmp_path)) == 4


def test_another_range_is_computed(tmp_path):
    images = IMAGES.astype("float32")
    extract_features(make_model(), images, cache_dir=tmp_path)
    model = make_model(value_range=(0, 257))
    found = extract_features(model, images, cache_dir=tmp_path)
    np.testing.assert_array_equal(found, extract_features(model, images))


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "other shape",
        "no array",
        "header",
        "zip",
        "NaN",
        "a bit",
        "the checksum",
        "no checksum",
        "nothing",
    ],
)
def test_a_damaged_file_is_made_anew(damage, tmp_path):
    model = make_model()
    expected = extract_features(model, IMAGES, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "other shape":
        np.save(path, expected[:7])
    elif damage == "header":
        path.write_bytes(path.read_bytes()[:40])
    elif damage == "zip":
        path.write_bytes(b"PK\x03\x04junk")
    elif damage == "NaN":
        np.save(path, np.where(np.arange(40)[:, None] > 30, np.nan, expected))
    elif damage in ("a bit", "the checksum"):
        content = bytearray(path.read_bytes())
        # Of the last value, far from the images that are looked at again.
        place = 128 + expected.nbytes - 2 if damage == "a bit" else -1
        content[place] ^= 1
        path.write_bytes(content)
    elif damage == "no checksum":  # As files once were.
        np.save(path, expected)
    else:
        path.write_text("" if damage == "nothing" else "no array")
    with pytest.warns(UserWarning, match=f"{path}.*damaged.*anew"):
        found = extract_features(model, IMAGES, cache_dir=tmp_path)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.load(path), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = extract_features(model, IMAGES, cache_dir=tmp_path)
    np.testing.assert_array_equal(found, expected)


def test_files_of_a_folder_that_change(tmp_path):
    for k in range(12):
        path = tmp_path / "photos" / f"{k:02}.png"
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, IMAGES[k], scale=False)

    def features():
        data = simclr_keras.data.load_image_folder(
            str(tmp_path / "photos"), 4, in_memory=False
        )
        return extract_features(
            make_model(), data.train, cache_dir=tmp_path / "cache"
        )

    before = features()
    np.testing.assert_array_equal(features(), before)
    keras.utils.save_img(path, 255 - IMAGES[11], scale=False)
    assert np.abs(features() - before)[11].max() > 0.01


def test_data_sets_are_refused(tmp_path):
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).batch(8)
    with pytest.raises(ValueError, match="which can be told from another"):
        extract_features(make_model(), dataset, cache_dir=tmp_path)


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="cache_dir="):
        extract_features(make_model(), IMAGES, cache_dir=tmp_path / "file")
