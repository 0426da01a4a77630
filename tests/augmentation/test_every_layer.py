"""What every public layer must do, whatever it draws."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simclr_keras import augmentation
from tests import checks

# float32 at values in [0, 1]: the parts of an augmentation have some ten
# roundings of 6e-8 each, the jitter scales the errors of what came before by
# up to 1.8 three times, and XLA groups sums in another way.
ATOL = 1e-5


@dataclasses.dataclass
class Case:
    """A public layer and how to make it.

    Attributes:
        cls: The class.
        options: Arguments with which it always does something to an image.
        config: Every argument of the constructor, none at its default.
        identity: Arguments that make it leave images as they are, or None.
        square: Whether it takes square images only.
        three_channels: Whether it takes RGB images only.
    """

    cls: type
    options: dict = dataclasses.field(default_factory=dict)
    config: dict = dataclasses.field(default_factory=dict)
    identity: dict | None = dataclasses.field(
        default_factory=lambda: {"probability": 0.0}
    )
    square: bool = False
    three_channels: bool = False

    def make(self, **kwargs):
        arguments = {"seed": 1, "value_range": (0, 1), **self.options, **kwargs}
        accepted = checks.constructor_arguments(self.cls)
        return self.cls(
            **{
                name: value
                for name, value in arguments.items()
                if name in accepted or name in kwargs
            }
        )

    def images(self, count=6, high=1.0, dtype="float32", channels=3):
        width = 14 if self.square else 11
        rng = np.random.default_rng(0)
        images = rng.random((count, 14, width, channels)) * high
        return images.astype(dtype)


RANGE_AND_SEED = {"value_range": (-1, 2), "seed": 5}
CASES = [
    Case(
        augmentation.RandomResizedCrop,
        {"height": 8, "width": 10},
        {
            "height": 8,
            "width": 10,
            "area_range": (0.2, 0.7),
            "aspect_ratio_range": (0.5, 1.5),
            "interpolation": "bilinear",
            **RANGE_AND_SEED,
        },
        identity=None,
    ),
    Case(
        augmentation.RandomHorizontalFlip,
        {"probability": 1.0},
        {"probability": 0.25, **RANGE_AND_SEED},
    ),
    Case(
        augmentation.RandomColorJitter,
        {"probability": 1.0},
        {
            "brightness": 0.1,
            "contrast": 0.2,
            "saturation": 0.3,
            "hue": 0.4,
            "probability": 0.5,
            "additive_brightness": True,
            **RANGE_AND_SEED,
        },
        three_channels=True,
    ),
    Case(
        augmentation.RandomGrayscale,
        {"probability": 1.0},
        {"probability": 0.25, **RANGE_AND_SEED},
        three_channels=True,
    ),
    Case(
        augmentation.RandomGaussianBlur,
        {"probability": 1.0, "sigma_range": (0.5, 2.0), "kernel_size": 5},
        {
            "sigma_range": (0.3, 1.5),
            "kernel_size": 7,
            "probability": 0.25,
            **RANGE_AND_SEED,
        },
    ),
    Case(
        augmentation.RandomGaussianNoise,
        {},
        {"stddev": 0.3, "probability": 0.25, **RANGE_AND_SEED},
    ),
    Case(
        augmentation.RandomCutout,
        {},
        {"size": 0.25, "fill": 0.5, "probability": 0.25, **RANGE_AND_SEED},
    ),
    Case(
        augmentation.RandomRotation,
        {},
        RANGE_AND_SEED,
        identity=None,
        square=True,
    ),
    Case(
        augmentation.RandomSobel,
        {},
        {"probability": 0.25, **RANGE_AND_SEED},
    ),
    Case(
        augmentation.SimCLRAugmentation,
        {"height": 20, "width": 18},  # 20 is the least that is blurred
        {
            "height": 8,
            "width": 10,
            "strength": 0.5,
            "blur": False,
            "flip": False,
            "area_range": (0.2, 0.7),
            "aspect_ratio_range": (0.5, 1.5),
            "interpolation": "bilinear",
            "jitter_probability": 0.1,
            "grayscale_probability": 0.3,
            "blur_probability": 0.6,
            "evaluation_size": (12, 14),
            **RANGE_AND_SEED,
        },
        identity=None,
    ),
    Case(
        augmentation.CenterCropAndResize,
        {"height": 8, "width": 10},
        {
            "height": 8,
            "width": 10,
            "crop_proportion": 0.5,
            "interpolation": "bilinear",
            "only_other_sizes": True,
            "value_range": (-1, 2),
        },
        identity=None,
    ),
]
RANDOM_CASES = [
    c for c in CASES if issubclass(c.cls, augmentation.RandomImageLayer)
]


def over(cases):
    return pytest.mark.parametrize(
        "case", cases, ids=lambda case: case.cls.__name__
    )


every_layer = over(CASES)
every_random_layer = over(RANDOM_CASES)


def test_no_public_layer_is_missing_here():
    public = {
        cls
        for cls in map(augmentation.__dict__.get, augmentation.__all__)
        if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)
    }
    public.remove(augmentation.RandomImageLayer)  # the abstract base
    assert {case.cls for case in CASES} == public


# Configuration and files.


@every_layer
def test_config(case):
    checks.check_config(case.cls(**case.config), case.config)


@every_layer
def test_an_object_made_of_a_config_does_the_same(case):
    images = case.images()
    config = checks.jsonable(case.make().get_config())
    again = case.cls.from_config(config)
    checks.assert_same(again(images), case.make()(images))


@every_layer
def test_examples_of_the_docstring(case):
    checks.check_examples(case.cls)


@every_layer
def test_keywords_of_the_base_class(case):
    layer = case.make(name="my_layer", trainable=False)
    assert layer.name == "my_layer"
    assert not layer.trainable
    assert type(layer).from_config(layer.get_config()).name == "my_layer"


@every_random_layer
def test_a_saved_layer_goes_on_with_the_next_draw(case, tmp_path):
    images = case.images()
    layer = case.make()
    for _ in range(3):
        layer(images)
    checks.check_saves_and_loads(layer, (images,), tmp_path, training=True)


def test_a_saved_center_crop_gives_the_same(tmp_path):
    case = CASES[-1]
    checks.check_saves_and_loads(case.make(), (case.images(),), tmp_path)


# Modes, precisions, shapes, dtypes.


@every_layer
def test_xla_equals_eager(case):
    checks.check_compiles(case.make, (case.images(),), ATOL, modes=("xla",))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16"])
@every_layer
def test_16_bits_are_those_of_the_result_alone(case, dtype):
    result = case.make(dtype=dtype)(case.images())
    expected = keras.ops.cast(case.make()(case.images()), result.dtype)
    assert keras.backend.standardize_dtype(result.dtype) == dtype.replace(
        "mixed_", ""
    )
    np.testing.assert_array_equal(result, expected)


@every_layer
def test_mixed_precision_policies_change_nothing(case):
    checks.check_policies(case.make, (case.images(),), atol=0, dtype="float32")


@every_layer
def test_graphs_that_do_not_know_the_shape(case):
    images = case.images()
    layer, expected = case.make(), case.make()
    spec = tf.TensorSpec([None, None, None, images.shape[-1]])
    graph = tf.function(lambda x: layer(x), input_signature=[spec])
    for batch in (images[:1], images[:, :12, :12]):
        checks.assert_same(graph(batch), expected(batch), ATOL)


def in_dataset(layer):
    """A layer as a function of (number, images) for `Dataset.map`."""
    if isinstance(layer, augmentation.CenterCropAndResize):
        return lambda number, images: layer(images)
    return lambda number, images: layer(images, key=layer.key(number))


@pytest.mark.parametrize("batched", [True, False])
@every_layer
@pytest.mark.slow
def test_tf_data_in_parallel_draws_as_calls_do(case, batched):
    images = case.images(8)
    layer, expected = case.make(), case.make()
    dataset = tf.data.Dataset.from_tensor_slices(images)
    if batched:
        dataset = dataset.batch(4)
        images = images[:4], images[4:]
    dataset = dataset.enumerate().map(in_dataset(layer), num_parallel_calls=4)
    for result, image in zip(dataset, images):
        checks.assert_same(result, expected(image), ATOL)


@every_random_layer
def test_tf_data_without_a_key_is_refused(case):
    layer, images = case.make(), case.images(2)
    dataset = tf.data.Dataset.from_tensor_slices(images)
    with pytest.raises(RuntimeError, match=r"simclr_keras\.data\.augment"):
        dataset.map(layer)
    nested = tf.data.Dataset.range(1).flat_map(
        lambda _: dataset.map(lambda x: layer(x, key=layer.key(0)))
    )
    assert len(list(nested)) == 2
    # Nothing is drawn, so nothing can go wrong.
    assert len(list(dataset.map(lambda x: layer(x, training=False)))) == 2


@every_layer
def test_an_unbatched_image_is_a_batch_of_one(case):
    images = case.images(1)
    checks.assert_same(case.make()(images[0]), case.make()(images)[0])


@every_layer
def test_output_shape(case):
    layer = case.make()
    for shape in ((None, None, None, 3), (5, 14, 14, 3), (14, 14, 3)):
        symbolic = keras.KerasTensor(shape, dtype="float32")
        assert layer(symbolic).shape == layer.compute_output_shape(shape)
        if None not in shape:
            assert layer(np.ones(shape)).shape == layer(symbolic).shape


DTYPES = {
    "uint8": 255,
    "uint16": 65535,
    "float16": 255,
    "float64": 255,
}


@every_layer
def test_dtypes(case):
    for dtype, high in DTYPES.items():
        images = case.images(high=high, dtype=dtype)
        result = case.make(value_range=(0, high))(images)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        scaled = (images.astype("float64") / high).astype("float32")
        expected = np.array(case.make()(scaled)) * high
        checks.assert_same(result, expected, ATOL * high, message=dtype)


@pytest.mark.parametrize("value_range", [(0, 255), (0, 1), (-1, 1)])
@every_layer
def test_value_range_is_kept(case, value_range):
    low, high = value_range
    rng = np.random.default_rng(0)
    images = case.images(32)
    # Black, white and noise, so that clips and overshoots are at work.
    images[::2] = rng.integers(0, 2, images[::2].shape)
    result = case.make(value_range=value_range)(low + images * (high - low))
    # float32: to [0, 1] and back costs two roundings.
    slack = 1e-6 * (high - low)
    assert np.min(result) >= low - slack
    assert np.max(result) <= high + slack


@pytest.mark.parametrize("channels", [1, 2, 5])
@every_layer
def test_channel_counts(case, channels):
    images = case.images(channels=channels)
    if case.three_channels:
        name = case.cls.__name__
        with pytest.raises(ValueError, match=rf"{name} needs.* {channels}\b"):
            case.make()(images)
    else:
        result = case.make()(images)
        assert result.shape[-1] == channels
        assert np.all(np.isfinite(result))


@every_layer
def test_a_single_row_of_numbers_is_no_image(case):
    with pytest.raises(ValueError, match=r"\(H, W, C\).*\(14, 3\)"):
        case.make()(np.ones((14, 3)))


@every_layer
def test_layers_are_usable_in_a_functional_model(case):
    inputs = keras.Input((14, 14, 3), dtype="uint8")
    model = keras.Model(inputs, case.make(value_range=(0, 255))(inputs))
    images = np.random.default_rng(0).integers(0, 256, (5, 14, 14, 3), "uint8")
    assert model(images, training=True).shape == (5, *model.output_shape[1:])


# Draws.


@every_random_layer
def test_not_training_is_identity(case):
    images = case.images()
    layer = case.make()
    checks.assert_same(layer(images, training=False), images)
    checks.assert_same(layer(images[0], training=False), images[0])
    whole_numbers = case.images(high=255, dtype="uint8")
    result = layer(whole_numbers, training=False)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    checks.assert_same(result, whole_numbers)
    # It does not cost a draw either.
    checks.assert_same(layer(images), case.make()(images))


@over([case for case in RANDOM_CASES if case.identity])
def test_probability_zero_is_identity(case):
    images = case.images()
    layer = case.make(**case.identity)
    checks.assert_same(layer(images), images, atol=1e-6)  # float32 rounding


@over([case for case in RANDOM_CASES if case.identity])
def test_probability_one_changes_every_image(case):
    images = case.images(200)
    difference = np.abs(np.array(case.make(probability=1.0)(images)) - images)
    assert np.all(difference.max(axis=(1, 2, 3)) > 1e-3)


@over([case for case in RANDOM_CASES if case.identity])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_rate(case, probability):
    count = 20_000
    layer = case.make(probability=probability)
    parameters = layer.draw((count, 1, 2, 1))
    applied = [v for k, v in parameters.items() if k.startswith("is_")]
    if not applied:  # the jitter, for which a factor of 1 changes nothing
        applied = [ops.not_equal(parameters["brightness"], 1)]
    rate = np.mean(applied[0])
    sigma = np.sqrt(probability * (1 - probability) / count)
    assert abs(rate - probability) < 4 * sigma


@every_random_layer
def test_seeds(case):
    images = case.images(16)
    layer, same, other = case.make(), case.make(), case.make(seed=2)
    for _ in range(2):
        checks.assert_same(same(images), layer(images))
    # Three draws: the next, the one after it, another seed's.
    shape = (64, 8, 8, 3)
    draws = [flat_draw(made, shape) for made in (layer, layer, other)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.any(draws[i] != draws[j])


def flat_draw(layer, shape, **kwargs):
    """All that a layer draws, a row an image, rates of one half."""
    parameters = {
        k: v for k, v in vars(layer).items() if k.endswith("probability")
    }
    for name in parameters:
        setattr(layer, name, 0.5)
    drawn = keras.tree.flatten(layer.draw(shape, **kwargs))
    for name, value in parameters.items():
        setattr(layer, name, value)
    rows = [np.reshape(np.array(x), (shape[0], -1)) for x in drawn]
    return np.concatenate([row.astype("float64") for row in rows], axis=1)


@every_random_layer
def test_without_a_seed_keras_decides(case):
    shape = (64, 8, 8, 3)
    draws = []
    for seed in (3, 3, 4):
        keras.utils.set_random_seed(seed)
        draws.append(flat_draw(case.make(seed=None), shape))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(draws[0] != draws[2])


@every_random_layer
def test_equal_images_of_a_batch_get_draws_of_their_own(case):
    images = np.repeat(case.images(1), 64, axis=0)
    layer = case.make()
    if hasattr(layer, "probability"):
        layer = case.make(probability=0.5)
    views = np.array(layer(images)).reshape(64, -1)
    assert len(np.unique(views.round(4), axis=0)) > 1
    rows = flat_draw(layer, images.shape)
    assert len(np.unique(rows, axis=0)) > 1


@every_random_layer
def test_a_cut_batch_gets_what_the_whole_one_gets(case):
    images = case.images()
    key = ops.array([3, 4], "int32")
    layer = case.make()
    whole = np.array(layer.apply(images, key=key))
    for a, b in ((0, 2), (2, 6)):
        index = ops.arange(a, b, dtype="int32")
        part = layer.apply(images[a:b], index=index, key=key)
        checks.assert_same(part, whole[a:b], ATOL)
    # With a key given, the layer's own draws have not moved on.
    checks.assert_same(layer(images), case.make()(images))
    # The call takes an index too.
    index = ops.arange(2, 5, dtype="int32")
    checks.assert_same(
        case.make()(images[2:5], index=index), case.make()(images)[2:5], ATOL
    )


@every_random_layer
def test_a_draw_can_be_replayed(case):
    images = case.images()
    layer = case.make()
    parameters = layer.draw(images.shape)
    replayed = layer.transform(ops.array(images), **parameters)
    checks.assert_same(replayed, case.make()(images), ATOL)


# Wrong arguments.


@pytest.mark.parametrize(
    "value", [(1, 0), (1, 1), (0, 1, 2), (0,), (0, float("nan")), 255]
)
@every_layer
def test_bad_value_range(case, value):
    checks.check_rejects(case.make, "value_range", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
@every_random_layer
def test_bad_probability(case, value):
    names = [
        name
        for name in checks.constructor_arguments(case.cls)
        if name.endswith("probability")
    ]
    for name in names:
        received = f"probability={value!r}"
        checks.check_rejects(case.make, name, value, received=received)


@pytest.mark.parametrize(
    "value",
    [("a", "b"), (0, float("inf")), (0, 1e-42), (-3e38, 3e38), "01", {0: 1}],
)
@every_layer
def test_what_is_no_range_of_numbers(case, value):
    checks.check_rejects(case.make, "value_range", value)


@pytest.mark.parametrize("seed", [True, 2**64])
@every_random_layer
def test_seeds_that_generators_do_not_hold(case, seed):
    checks.check_rejects(case.make, "seed", seed)


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (augmentation.RandomCutout, "size", "0.5"),
        (augmentation.RandomCutout, "fill", None),
        (augmentation.RandomGaussianNoise, "stddev", [0.1]),
        (augmentation.RandomGrayscale, "probability", "often"),
        (augmentation.RandomColorJitter, "hue", "0.1"),
        (augmentation.RandomColorJitter, "additive_brightness", "no"),
        (augmentation.SimCLRAugmentation, "strength", None),
        (augmentation.SimCLRAugmentation, "blur", "no"),
        (augmentation.CenterCropAndResize, "only_other_sizes", "no"),
        (augmentation.CenterCropAndResize, "crop_proportion", "1"),
    ],
)
def test_arguments_of_another_type(cls, name, value):
    (case,) = (case for case in CASES if case.cls is cls)
    checks.check_rejects(case.make, name, value, TypeError)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (augmentation.RandomGaussianNoise, {"stddev": np.float64(0.1)}),
        (augmentation.RandomCutout, {"fill": np.float64(0.5)}),
        (augmentation.RandomColorJitter, {"hue": np.float64(0.1)}),
        (augmentation.RandomResizedCrop, {"area_range": np.array([0.2, 0.5])}),
        (augmentation.RandomSobel, {"value_range": np.array([-1.0, 1.0])}),
    ],
)
def test_numbers_of_numpy(cls, options):
    (case,) = (case for case in CASES if case.cls is cls)
    layer = case.make(**options)
    views = layer(case.images())
    assert keras.backend.standardize_dtype(views.dtype) == "float32"
    json = checks.jsonable(layer.get_config())
    checks.assert_same(cls.from_config(json)(case.images()), views)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_strengths_beyond_float32(name):
    make = augmentation.RandomColorJitter
    checks.check_rejects(make, name, 1e308)
    views = make(**{name: 1e37}, probability=1.0, seed=1)(
        np.full((2, 4, 4, 3), 100, "uint8")
    )
    assert np.isfinite(views).all()


@pytest.mark.parametrize(
    ("images", "error"),
    [
        ([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], ValueError),
        (np.array([["a"]]), TypeError),
        (np.array([None]), TypeError),
        (np.zeros((2, 4, 4, 3), complex), TypeError),
        (np.zeros((0, 4, 4, 3)), ValueError),
        (np.zeros((2, 0, 4, 3)), ValueError),
        (np.zeros((2, 4, 4, 0)), ValueError),
        ("photo.jpg", TypeError),
        (None, TypeError),
        ([], TypeError),
    ],
    ids=str,
)
@every_layer
def test_what_are_no_images(case, images, error):
    with pytest.raises(error, match="Received: images"):
        case.make()(images)


def test_sobel_of_a_single_row():
    layer = augmentation.RandomSobel(value_range=(0, 1))
    with pytest.raises(ValueError, match="2x2 pixels"):
        layer(np.zeros((2, 1, 4, 3), "float32"))
