import keras
import numpy as np
import pytest
from keras import ops

from simclr_keras import ProjectionHead, SimCLRModel
from simclr_keras.encoders import BackboneEncoder
from tests import checks

SHAPE = (8, 6, 3)
# float32: a few sums of some 50 numbers of size 1, in another order.
ATOL = 1e-5


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def images(count=4, shape=SHAPE):
    return np.random.default_rng(0).random((count, *shape), "float32")


def convolutional(shape=SHAPE, outputs=lambda early, late: late):
    """A functional backbone with batch norm and two feature maps."""
    inputs = keras.Input(shape)
    early = keras.layers.Conv2D(4, 3, padding="same", name="early")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(early)
    late = keras.layers.Conv2D(5, 3, strides=2, name="late")(x)
    return keras.Model(inputs, outputs(early, late), name="convolutional")


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A backbone whose layers are built at its first call."""

    def __init__(self, kind="map", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.first = keras.Sequential([keras.layers.Conv2D(4, 3)])
        self.second = keras.layers.Conv2D(5, 3)

    def call(self, x):  # without `training`
        early = self.first(x)
        late = self.second(early)
        return {
            "map": late,
            "tokens": ops.reshape(late, (-1, 8, 5)),
            "vector": ops.mean(late, axis=(1, 2)),
            "levels": {"early": early, "late": late},
            "two": (early, late),
            "one more axis": late[:, None],
        }[self.kind]

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


# --- Pooling and endpoints -------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "pooling", "reference"),
    [
        ("map", "avg", lambda f: f.mean(axis=(1, 2))),
        ("map", "max", lambda f: f.max(axis=(1, 2))),
        ("tokens", "avg", lambda f: f.mean(axis=1)),
        ("tokens", "max", lambda f: f.max(axis=1)),
        ("tokens", "token", lambda f: f[:, 0]),
        ("vector", "max", lambda f: f),
    ],
)
def test_pools(kind, pooling, reference):
    backbone = Subclassed(kind)
    encoder = BackboneEncoder(backbone, pooling=pooling)
    h = encoder(images())
    np.testing.assert_allclose(
        h, reference(backbone(images()).numpy()), atol=ATOL
    )
    assert encoder.output_shape == (None, 5)
    assert encoder.compute_output_shape((None, *SHAPE)) == (None, 5)


def test_endpoint_is_a_layer_and_the_rest_is_not_trained():
    backbone = convolutional()
    encoder = BackboneEncoder(backbone, endpoint="early")
    early = backbone.get_layer("early")
    np.testing.assert_allclose(
        encoder(images()), np.mean(early(images()), axis=(1, 2)), atol=ATOL
    )
    assert [v.path for v in encoder.trainable_variables] == [
        v.path for v in early.trainable_variables
    ]


@pytest.mark.parametrize("endpoint", ["early", "late"])
@pytest.mark.parametrize("functional", [True, False])
def test_endpoint_is_a_key_of_the_outputs(endpoint, functional):
    backbone = Subclassed("levels")
    if functional:
        backbone = convolutional(
            # The keys name each other's layers: they go first.
            outputs=lambda early, late: {"early": late, "late": early}
        )
    encoder = BackboneEncoder(backbone, endpoint=endpoint)
    expected = np.mean(backbone(images())[endpoint], axis=(1, 2))
    np.testing.assert_allclose(encoder(images()), expected, atol=ATOL)


def test_endpoint_is_a_level_of_a_pyramid():
    backbone = convolutional()
    level = backbone.get_layer("early").output
    backbone.pyramid_outputs = {"P1": level}  # as KerasHub does
    backbone.pyramid_level_inputs = {"P2": "late"}  # as KerasCV does
    for endpoint, layer in (("P1", "early"), ("P2", "late")):
        np.testing.assert_array_equal(
            BackboneEncoder(backbone, endpoint=endpoint)(images()),
            BackboneEncoder(backbone, endpoint=layer)(images()),
        )


def test_backbone_with_a_named_input():
    inner = convolutional()
    named = keras.Input(SHAPE, name="images")
    backbone = keras.Model({"images": named}, inner(named))
    np.testing.assert_array_equal(
        BackboneEncoder(backbone)(images()), BackboneEncoder(inner)(images())
    )


# --- What the backbone gets ------------------------------------------------


class Identity(keras.layers.Layer):
    """Returns its input, flattened, so that a test can look at it."""

    def call(self, x):
        return ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_named_scalings_are_those_of_keras(mode):
    expected = keras.applications.imagenet_utils.preprocess_input(
        images() * 255, mode=mode, data_format="channels_last"
    )
    h = BackboneEncoder(Identity(), input_scaling=mode)(images())
    # float32: rounding at values of up to 255.
    np.testing.assert_allclose(h, expected.reshape(4, -1), atol=1e-4)


@pytest.mark.parametrize(
    ("scaling", "reference"),
    [
        ((0, 1), lambda x: x),
        ((0, 255), lambda x: x * 255),
        ([-2, 3], lambda x: x * 5 - 2),
        ({"mean": 0.5, "deviation": 0.25}, lambda x: (x - 0.5) / 0.25),
        (
            {"mean": [0.1, 0.2, 0.3], "deviation": [0.5, 1, 2]},
            lambda x: (x - [0.1, 0.2, 0.3]) / [0.5, 1, 2],
        ),
    ],
)
def test_scalings(scaling, reference):
    h = BackboneEncoder(Identity(), input_scaling=scaling)(images())
    # float32: rounding at values of up to 255.
    np.testing.assert_allclose(h, reference(images()).reshape(4, -1), atol=1e-4)


def test_training_reaches_batch_norm():
    encoder = BackboneEncoder(convolutional())
    norm = encoder.backbone.get_layer("norm")
    before = norm.moving_mean.numpy()
    encoder(images())
    encoder(images(), training=False)
    np.testing.assert_array_equal(norm.moving_mean, before)
    encoder(images(), training=True)
    assert np.any(norm.moving_mean.numpy() != before)


def test_any_height_and_width_where_the_backbone_allows():
    encoder = BackboneEncoder(convolutional((None, None, 3)))
    assert encoder.output_shape == (None, 5)
    assert encoder(images(2, (9, 7, 3))).shape == (2, 5)
    assert encoder(images(1, (16, 16, 3))).shape == (1, 5)


# --- As every component ----------------------------------------------------


def test_config():
    checks.check_config(
        BackboneEncoder(backbone := Subclassed("levels"), "early", "max", "tf"),
        {
            "backbone": backbone,
            "endpoint": "early",
            "pooling": "max",
            "input_scaling": "tf",
        },
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: BackboneEncoder(convolutional(), input_scaling=(0, 255)),
        lambda: BackboneEncoder(convolutional(), endpoint="early"),
        lambda: BackboneEncoder(Subclassed("levels"), endpoint="late"),
        lambda: BackboneEncoder(keras.Sequential([convolutional()])),
        lambda: BackboneEncoder(
            keras.layers.Conv2D(4, 3),
            input_scaling={"mean": [0.1, 0.2, 0.3], "deviation": 0.5},
        ),
    ],
    ids=["functional", "endpoint", "subclassed", "sequential", "layer"],
)
def test_saves_and_loads(make, tmp_path):
    checks.check_saves_and_loads(make(), (images(),), tmp_path)


def test_what_lies_behind_the_endpoint_is_saved_too(tmp_path):
    encoder = BackboneEncoder(convolutional(), endpoint="early")
    loaded = checks.save_and_load(encoder, tmp_path)
    np.testing.assert_array_equal(
        loaded.backbone(images()), encoder.backbone(images())
    )


def test_compiles():
    backbone = convolutional()
    checks.check_compiles(
        lambda: BackboneEncoder(backbone, input_scaling="torch"),
        (images(),),
        atol=ATOL,
    )


def test_mixed_precision_gives_float32():
    def make():
        keras.utils.set_random_seed(0)
        return BackboneEncoder(convolutional())

    # bfloat16 has 8 bits of mantissa: 0.4 % of sums of some 30 terms.
    checks.check_policies(make, (images(),), atol=0.05, dtype="float32")


@pytest.mark.parametrize("kind", ["map", "levels"])
def test_pretrains_and_is_loaded_again(kind, tmp_path):
    encoder = BackboneEncoder(
        Subclassed(kind), endpoint="late" if kind == "levels" else None
    )
    model = SimCLRModel(
        encoder, projection_head=ProjectionHead(4), value_range=(0, 1)
    )
    model.compile("sgd")
    views = {"view_1": images(8), "view_2": images(8)[:, ::-1]}
    model.fit(views, batch_size=4, verbose=0)
    loaded = checks.save_and_load(model, tmp_path)
    np.testing.assert_array_equal(
        loaded.predict(images(), verbose=0), model.predict(images(), verbose=0)
    )
    # The optimizer continues where it was.
    assert int(loaded.optimizer.iterations) == 2
    for model_k in (model, loaded):
        model_k.fit(views, batch_size=4, shuffle=False, verbose=0)
    checks.assert_same(loaded(images()), model(images()), atol=ATOL)


# --- Mistakes --------------------------------------------------------------


def make(**kwargs):
    return BackboneEncoder(**{"backbone": convolutional(), **kwargs})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("backbone", None, TypeError),
        ("endpoint", 3, TypeError),
        ("endpoint", "nowhere", ValueError),
        ("pooling", None, ValueError),
        ("pooling", "mean", ValueError),
        ("pooling", "token", ValueError),  # of a feature map
        ("input_scaling", None, ValueError),
        ("input_scaling", "imagenet", ValueError),
        ("input_scaling", (1, 0), ValueError),
        ("input_scaling", (0, 1, 2), ValueError),
        ("input_scaling", ("a", "b"), ValueError),
        ("input_scaling", {"mean": 0}, ValueError),
        ("input_scaling", {"mean": 0, "deviation": 0}, ValueError),
    ],
)
def test_rejects(name, value, error):
    received = "pooling='token'" if value == "token" else None
    checks.check_rejects(make, name, value, error, received)


def test_an_unknown_endpoint_lists_those_there_are():
    with pytest.raises(ValueError, match="early, norm, late"):
        make(endpoint="nowhere")
    with pytest.raises(ValueError, match="early, late"):
        make(backbone=Subclassed("levels"), endpoint="nowhere")(images())
    with pytest.raises(ValueError, match=r"early, late.*endpoint=None"):
        make(backbone=Subclassed("levels"))(images())


def two_inputs():
    a, b = keras.Input(SHAPE, name="a"), keras.Input(SHAPE, name="b")
    return keras.Model([a, b], keras.layers.Add()([a, b]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": Subclassed("two")}, "2 tensors"),
        ({"backbone": Subclassed("one more axis")}, r"\(4, 1, 4, 2, 5\)"),
        ({"backbone": Subclassed(), "endpoint": "late"}, "is neither"),
        (
            {"input_scaling": {"mean": [0.1, 0.2], "deviation": 1}},
            "images of 3 channels",
        ),
        ({"backbone": convolutional((8, 6, 1)), "input_scaling": "torch"}, "1"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)(images())


def test_refuses_several_inputs():
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        make(backbone=two_inputs())


def test_refuses_features_of_unknown_size():
    inputs = keras.Input((None, None, None))
    with pytest.raises(ValueError, match="known size F"):
        make(backbone=keras.Model(inputs, keras.layers.ReLU()(inputs)))
