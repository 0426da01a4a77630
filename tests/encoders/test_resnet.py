import json
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras import encoders
from simclr_keras.encoders.selective_kernel import SelectiveKernelConv2D
from simclr_keras.encoders.squeeze_excitation import SqueezeExcitation

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "published_weights"
NARROW = 1 / 16
GROUP_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
ENDPOINTS = [
    "initial_conv",
    "initial_max_pool",
    "block_group1",
    "block_group2",
    "block_group3",
    "block_group4",
    "final_avg_pool",
]


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


def narrow_cifar(depth=18, size=32, **kwargs):
    return encoders.ResNet(
        depth,
        width_multiplier=NARROW,
        stem="cifar",
        input_shape=(size, size, 3),
        **kwargs,
    )


def shake(model, seed=0):
    """Assigns random values to all variables, to gammas of 0 too."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        value = rng.uniform(0.5, 1.5, variable.shape)
        if variable.name == "kernel":
            fan_in = np.prod(variable.shape[:-1])
            value = rng.normal(size=variable.shape) / np.sqrt(fan_in)
        variable.assign(value)


def batch_norms(model):
    layers = list(model.layers)
    for layer in model.layers:
        if isinstance(layer, SelectiveKernelConv2D):
            layers += [layer.conv_bn, layer.reduce_bn]
    return [
        layer
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


# --- The published network -------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18_cifar", "resnet50_sk"])
def test_equals_published_network(name):
    # That the weights are where they belong is shown in published_weights.
    encoder = simclr_keras.load_published_weights(FIXTURES / name).encoder
    expected = np.load(FIXTURES / name / "expected.npz")
    outputs = keras.Model(encoder.input, encoder.endpoints)(
        expected["images"].astype("float32") / 255, training=False
    )
    assert list(outputs) == ENDPOINTS
    # float32, 20 and 71 convolutions deep, values up to 0.8: sums in another
    # order differ by some 1e-6.
    for endpoint in ENDPOINTS[:-1]:
        np.testing.assert_allclose(
            np.mean(outputs[endpoint], axis=(1, 2)),
            expected[f"{endpoint}_mean"],
            rtol=1e-5,
            atol=1e-5,
            err_msg=endpoint,
        )
    np.testing.assert_allclose(
        outputs["final_avg_pool"],
        expected["representation"],
        rtol=1e-5,
        atol=1e-5,
    )


# --- Parts that the published weights do not reach -------------------------


def numpy_conv(x, kernel, strides=1):
    """Convolution padded by (k - 1) // 2, loops over taps, float64."""
    size = kernel.shape[0]
    pad = (size - 1) // 2
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return sum(
        x[:, i : i + height : strides, j : j + width : strides] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def numpy_batch_norm(x, layer):
    gamma, beta, mean, variance = (np.float64(w) for w in layer.get_weights())
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


@pytest.mark.parametrize("strides", [1, 2])
def test_selective_kernel_equals_numpy(strides):
    layer = SelectiveKernelConv2D(5, strides, sk_ratio=0.7, min_dim=2)
    x = images(2, 7, 6, 4)
    layer(x)
    shake(layer)
    conv, reduce, expand = (
        np.float64(part.kernel)
        for part in (layer.conv, layer.reduce, layer.expand)
    )
    assert reduce.shape == (1, 1, 5, 3)
    assert expand.shape == (1, 1, 3, 10)

    streams = numpy_batch_norm(
        numpy_conv(np.float64(x), conv, strides), layer.conv_bn
    )
    streams = np.maximum(streams, 0)
    streams = np.stack([streams[..., :5], streams[..., 5:]])
    pooled = streams.sum(0).mean((1, 2), keepdims=True)
    hidden = numpy_batch_norm(pooled @ reduce[0, 0], layer.reduce_bn)
    logits = np.maximum(hidden, 0) @ expand[0, 0]
    weights = np.exp(np.stack([logits[..., :5], logits[..., 5:]]))
    expected = (streams * weights / weights.sum(0)).sum(0)

    y = layer(x, training=False)
    assert layer.compute_output_shape(x.shape) == y.shape
    # float32 against float64, values of order 1.
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_squeeze_excitation_equals_numpy():
    layer = SqueezeExcitation(2)
    x = images(3, 4, 5, 6)
    layer(x)
    shake(layer)
    w_1, b_1, w_2, b_2 = (np.float64(w) for w in layer.get_weights())
    hidden = np.maximum(x.mean((1, 2), keepdims=True) @ w_1[0, 0] + b_1, 0)
    factor = 1 / (1 + np.exp(-(hidden @ w_2[0, 0] + b_2)))
    # float32 against float64, values of order 1.
    np.testing.assert_allclose(layer(x), x * factor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("depth", [18, 50])
def test_squeeze_excitation_comes_before_the_sum(depth):
    encoder = narrow_cifar(depth, se_ratio=0.5)
    last = 2 if depth == 18 else 3
    name = "block_group2_block2"
    branch, excited, shortcut, out = keras.Model(
        encoder.input,
        [
            encoder.get_layer(f"{name}_{role}").output
            for role in (f"bn{last}", "se")
        ]
        + [
            encoder.get_layer("block_group2_block1_out").output,
            encoder.get_layer(f"{name}_out").output,
        ],
    )(images(2, 32, 32, 3))
    layer = encoder.get_layer(f"{name}_se")
    # Half of the block's 8 filters, also where the branch ends in 32.
    assert layer.hidden_dim == 4
    np.testing.assert_array_equal(layer(branch), excited)
    np.testing.assert_array_equal(np.maximum(excited + shortcut, 0), out)
    # At least one hidden channel.
    encoder = narrow_cifar(depth, se_ratio=1e-3)
    assert encoder.get_layer("block_group1_block1_se").hidden_dim == 1


def test_selective_kernel_shortcut_pools_with_zeros_on_odd_sizes():
    encoder = encoders.ResNet(
        18, NARROW, sk_ratio=0.5, stem="cifar", input_shape=(7, 5, 3)
    )
    x, pooled = keras.Model(
        encoder.input,
        [
            encoder.get_layer("block_group1_block2_out").output,
            encoder.get_layer("block_group2_block1_shortcut_pool").output,
        ],
    )(images(2, 7, 5, 3))
    x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    expected = x.reshape(2, 4, 2, 3, 2, -1).mean((2, 4))
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    # A pool of stride 1 keeps the size.
    assert encoder.endpoints["block_group1"].shape[1:3] == (7, 5)


def test_basic_blocks_take_stem_and_shortcut_of_selective_kernels():
    encoder = encoders.ResNet18(width_multiplier=NARROW, sk_ratio=0.0625)
    names = {layer.name for layer in encoder.layers}
    assert {"stem_conv3", "block_group1_block1_shortcut_pool"} <= names
    assert not any(name.endswith("_sk") for name in names)


# --- Shapes and counts -----------------------------------------------------


def count_parameters(depth, stem_kernel=7, channels=3):
    """Trainable weights at width 1, from Table 1 of He et al.

    A convolution k x k from c to d channels has k k c d weights, and each is
    followed by a batch norm with 2 d.
    """

    def conv(k, c, d):
        return k * k * c * d + 2 * d

    total, c = conv(stem_kernel, channels, 64), 64
    for blocks, f in zip(GROUP_BLOCKS[depth], (64, 128, 256, 512), strict=True):
        out = f if depth < 50 else 4 * f
        total += conv(1, c, out)  # Projection, in every group's first block.
        for _ in range(blocks):
            if depth < 50:
                total += conv(3, c, f) + conv(3, f, f)
            else:
                total += conv(1, c, f) + conv(3, f, f) + conv(1, f, out)
            c = out
    return total


@pytest.mark.parametrize(
    ("depth", "published"),
    # He et al.'s networks in torchvision without their classifier, and the
    # projection in group 1 which basic blocks lack there: 64 * 64 + 2 * 64.
    [
        (18, 11_689_512 - 513_000 + 4_224),
        (50, 25_557_032 - 2_049_000),
        (101, 44_549_160 - 2_049_000),
    ],
)
def test_parameter_count(depth, published):
    encoder = encoders.ResNet(depth)
    count = sum(np.prod(v.shape) for v in encoder.trainable_variables)
    assert count == count_parameters(depth) == published
    # Two moving statistics for gamma and beta.
    gammas = sum(np.prod(layer.gamma.shape) for layer in batch_norms(encoder))
    assert encoder.count_params() == count + 2 * gammas
    assert encoder.output_shape == (None, 512 if depth == 18 else 2048)


def test_parameter_count_of_selective_kernels():
    # SimCLRv2's table gives 35 M for a ResNet-50 with selective kernels.
    assert round(encoders.ResNet50(sk_ratio=0.0625).count_params() / 1e6) == 35


def test_filters_follow_the_width():
    encoder = encoders.ResNet18(width_multiplier=0.3)
    widths = [encoder.endpoints[name].shape[-1] for name in ENDPOINTS]
    assert widths == [19, 19, 19, 38, 76, 153, 153]
    assert encoders.ResNet18(width_multiplier=1 / 64).output_shape == (None, 8)


@pytest.mark.parametrize(("depth", "sk_ratio"), [(18, 0.0), (50, 0.0625)])
@pytest.mark.parametrize(
    ("stem", "strides"),
    [
        ("imagenet", [2, 4, 4, 8, 16, 32]),
        ("cifar", [1, 1, 1, 2, 4, 8]),
    ],
)
def test_endpoints(stem, strides, depth, sk_ratio):
    encoder = encoders.ResNet(
        depth, NARROW, sk_ratio=sk_ratio, stem=stem, input_shape=(64, 96, 1)
    )
    assert list(encoder.endpoints) == ENDPOINTS
    assert type(encoder.endpoints) is dict
    shapes = [encoder.endpoints[name].shape for name in ENDPOINTS]
    for shape, stride in zip(shapes[:-1], strides, strict=True):
        assert shape[1:3] == (64 // stride, 96 // stride)
    groups = np.array([4, 8, 16, 32]) * (1 if depth == 18 else 4)
    assert [s[-1] for s in shapes] == [4, 4, *groups, groups[-1]]
    x = images(2, 64, 96, 1)
    outputs = keras.Model(encoder.input, encoder.endpoints)(x)
    for name, shape in zip(ENDPOINTS, shapes, strict=True):
        assert outputs[name].shape == (2, *shape[1:])
    np.testing.assert_array_equal(outputs["final_avg_pool"], encoder(x))


@pytest.mark.parametrize(
    ("depth", "sk_ratio", "stem"),
    [
        pytest.param(18, 0.0, "imagenet", marks=pytest.mark.slow),
        (18, 0.0, "cifar"),
        (50, 0.0625, "imagenet"),
    ],
)
def test_any_size_with_unknown_shape(depth, sk_ratio, stem):
    encoder = encoders.ResNet(depth, NARROW, sk_ratio=sk_ratio, stem=stem)
    for shape in [(1, 1, 1, 3), (3, 33, 20, 3)]:
        h = encoder(images(*shape))
        assert h.shape == (shape[0], 32 if depth == 18 else 128)
        assert np.isfinite(h).all()
    # Static and unknown sizes give the same numbers.
    fixed = encoders.ResNet(
        depth, NARROW, sk_ratio=sk_ratio, stem=stem, input_shape=(33, 20, 3)
    )
    fixed.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(fixed(images(3, 33, 20, 3)), h)


def test_layer_names_say_group_block_and_role():
    encoder = encoders.ResNet50(width_multiplier=NARROW, sk_ratio=0.0625)
    paths = [variable.path for variable in encoder.variables]
    assert len(set(paths)) == len(paths)
    assert {
        "stem_conv3/kernel",
        "block_group2_block1_shortcut_conv/kernel",
        "block_group3_block6_sk/reduce_bn/gamma",
        "block_group4_block3_conv3/kernel",
    } <= set(paths)
    # The same whatever was built before.
    again = encoders.ResNet50(width_multiplier=NARROW, sk_ratio=0.0625)
    assert [variable.path for variable in again.variables] == paths


@pytest.mark.parametrize(
    "depth",
    [
        18,
        50,
        *(pytest.param(d, marks=pytest.mark.slow) for d in (34, 101, 152, 200)),
    ],
)
def test_thin_constructors(depth):
    encoder = getattr(encoders, f"ResNet{depth}")(
        width_multiplier=1 / 32, stem="cifar", name="backbone"
    )
    assert isinstance(encoder, encoders.ResNet)
    assert encoder.depth == depth
    assert encoder.stem == "cifar"
    assert encoder.name == "backbone"
    convolutions = [
        layer
        for layer in encoder.layers
        if isinstance(layer, keras.layers.Conv2D)
        and "shortcut" not in layer.name
    ]
    assert len(convolutions) == depth - 1  # The classifier is the last one.


# --- Initial values --------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "sk_ratio", "last"), [(18, 0.0, 2), (50, 0.0, 3), (50, 0.1, 3)]
)
def test_blocks_start_as_their_shortcut(depth, sk_ratio, last):
    encoder = narrow_cifar(depth, sk_ratio=sk_ratio)
    x = images(2, 32, 32, 3)
    tested = 0
    for layer in encoder.layers:
        name = layer.name
        if not name.endswith("_add"):
            continue
        block = name.removesuffix("_add")
        shortcut = layer.input[1]
        assert not np.any(encoder.get_layer(f"{block}_bn{last}").gamma)
        if name.endswith("block1_add"):
            assert np.all(encoder.get_layer(f"{block}_shortcut_bn").gamma)
        out = encoder.get_layer(f"{block}_out").output
        a, b = keras.Model(encoder.input, [shortcut, out])(x, training=True)
        np.testing.assert_array_equal(np.maximum(a, 0), b)
        tested += 1
        if tested == 4:
            break
    zeros = [bn for bn in batch_norms(encoder) if not np.any(bn.gamma)]
    assert len(zeros) == sum(GROUP_BLOCKS[depth])


def test_convolutions_start_by_variance_scaling():
    encoder = encoders.ResNet18()
    kernel = np.asarray(
        encoder.get_layer("block_group4_block2_conv1").kernel, "float64"
    )
    # Variance 1 / fan_in. 2.4 M draws: the sample's is exact to 0.1 %.
    scaled = kernel * np.sqrt(3 * 3 * 512)
    np.testing.assert_allclose(scaled.var(), 1, atol=5e-3)
    # A normal cut at two of its own standard deviations, 0.8796 of what it
    # was: no value beyond 2 / 0.8796, and hardly any short of it.
    assert 2.25 < np.abs(scaled).max() <= 2 / 0.8796 + 1e-3
    # No two layers start alike.
    other = np.asarray(encoder.get_layer("block_group4_block2_conv2").kernel)
    assert not np.array_equal(kernel.astype("float32"), other)


# --- Configuration and saving ----------------------------------------------

ARGUMENTS = {
    "depth": 50,
    "width_multiplier": NARROW,
    "sk_ratio": 0.0625,
    "se_ratio": 0.25,
    "stem": "cifar",
    "input_shape": (16, 24, 2),
    "synchronized": False,
    "name": "encoder",
    "dtype": "float32",
}


@pytest.fixture(scope="module")
def encoder():
    encoder = encoders.ResNet(**ARGUMENTS)
    shake(encoder)
    return encoder


def test_config_holds_every_argument(encoder):
    config = encoder.get_config()
    for name, value in ARGUMENTS.items():
        if name == "dtype":
            assert config[name]["config"]["name"] == value
            continue
        assert config[name] == value
        attribute = "image_shape" if name == "input_shape" else name
        assert getattr(encoder, attribute) == value
    config = json.loads(json.dumps(config))
    again = encoders.ResNet.from_config(config)
    assert again.get_config() == encoder.get_config()
    # None stays None, so that a file saved on one backend loads on another.
    assert encoders.ResNet(18, NARROW).get_config()["synchronized"] is None


def test_keras_file_round_trip(encoder, tmp_path):
    x = images(2, 16, 24, 2)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    assert type(loaded) is encoders.ResNet
    assert loaded.get_config() == encoder.get_config()
    assert list(loaded.endpoints) == ENDPOINTS
    np.testing.assert_array_equal(loaded(x), encoder(x))


def test_frozen_stays_frozen():
    encoder = narrow_cifar()
    encoder.trainable = False
    again = encoders.ResNet.from_config(encoder.get_config())
    assert again.trainable_variables == []


def test_round_trip_inside_another_model(tmp_path):
    encoder = narrow_cifar()
    outputs = keras.layers.Dense(3)(encoder(encoder.input))
    model = keras.Model(encoder.input, outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_clone_model(encoder):
    clone = keras.models.clone_model(encoder)
    assert not {id(v) for v in clone.variables} & {
        id(v) for v in encoder.variables
    }
    clone.set_weights(encoder.get_weights())
    x = images(2, 16, 24, 2)
    np.testing.assert_array_equal(clone(x), encoder(x))


@pytest.mark.slow
def test_saved_model_export(tmp_path):
    encoder = narrow_cifar()
    encoder.export(tmp_path / "saved_model", verbose=False)
    x = images(2, 32, 32, 3)
    module = tf.saved_model.load(tmp_path / "saved_model")
    # float32, another order of sums after the graph's optimisation.
    np.testing.assert_allclose(
        module.serve(x), encoder(x), rtol=1e-5, atol=1e-5
    )


# --- Compilation, precision, replicas --------------------------------------


@pytest.mark.parametrize(
    ("part", "training"),
    [
        ("encoder", True),
        ("selective kernel", False),
        ("selective kernel", True),
    ],
)
def test_compiled_equals_plain(part, training):
    if part == "encoder":
        model = narrow_cifar(size=16, se_ratio=0.25)
    else:
        model = SelectiveKernelConv2D(4, strides=2)
    # Of different brightness: with equal noise, pooled features have a
    # deviation of 1/70 of their mean, and the variance of a synchronized batch
    # norm, E[x^2] - E[x]^2, then loses four digits however it is compiled.
    brightness = np.float32([0.1, 0.4, 0.7, 1.0])[:, None, None, None]
    x = tf.constant(images(4, 16, 16, 3) * brightness)
    model(x)
    shake(model)

    def run(x):
        return model(x, training=training)

    plain = tf.function(run)(x)
    compiled = tf.function(run, jit_compile=True)(x)
    # float32, relative to the largest value: XLA fuses and reorders sums.
    np.testing.assert_allclose(compiled, plain, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    reference = narrow_cifar(se_ratio=0.25)
    shake(reference)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        encoder = narrow_cifar(se_ratio=0.25)
    finally:
        keras.config.set_dtype_policy(before)
    encoder.set_weights(reference.get_weights())
    assert encoder.dtype_policy.name == policy
    assert {variable.dtype for variable in encoder.variables} == {"float32"}
    half = policy.removeprefix("mixed_")
    assert encoder.endpoints["block_group4"].dtype == half

    x = images(4, 32, 32, 3)
    h = encoder(x)
    assert h.dtype == tf.float32
    # 20 convolutions, each rounded to 8 or 11 bits, at random: four times
    # 2**-8 or 2**-11, relative to the largest value.
    tolerance = 4 * 2.0 ** (-8 if half == "bfloat16" else -11)
    np.testing.assert_allclose(
        h, reference(x), atol=tolerance * np.abs(h).max()
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(encoder(x, training=True))
    gradients = tape.gradient(loss, encoder.trainable_variables)
    assert all(np.isfinite(g).all() for g in gradients)

    # The policy is part of the configuration, as it is of every layer's.
    again = encoders.ResNet.from_config(encoder.get_config())
    assert again.dtype_policy.name == policy
    assert again.endpoints["block_group4"].dtype == half


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_selective_kernel_in_mixed_precision(policy):
    layer = SelectiveKernelConv2D(4, strides=2, dtype=policy)
    with tf.GradientTape() as tape:
        y = layer(images(4, 16, 16, 3), training=True)
        loss = tf.reduce_mean(tf.cast(y, "float32"))
    assert y.dtype == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in layer.variables} == {"float32"}
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.isfinite(gradient).all()


def test_batch_statistics_and_moving_averages():
    encoder = narrow_cifar()
    x = images(8, 32, 32, 3)
    conv = keras.Model(encoder.input, encoder.endpoints["initial_conv"])(x)
    encoder(x, training=True)
    bn = encoder.get_layer("stem_bn1")
    mean, variance = np.mean(conv, (0, 1, 2)), np.var(conv, (0, 1, 2))
    # float32, 8192 values.
    np.testing.assert_allclose(bn.moving_mean, 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(
        bn.moving_variance, 0.9 + 0.1 * variance, atol=1e-5
    )


@pytest.mark.parametrize(
    ("synchronized", "expected"), [(None, True), (True, True), (False, False)]
)
def test_synchronized_reaches_every_batch_norm(synchronized, expected):
    encoder = narrow_cifar(50, sk_ratio=0.0625, synchronized=synchronized)
    flags = [bn.synchronized for bn in batch_norms(encoder)]
    # Stem; each block's four, two of them in the selective kernel; shortcuts.
    assert len(flags) == 1 + 4 * 16 + 4
    assert flags == [expected] * len(flags)
    assert encoder.synchronized is synchronized


def test_synchronized_on_other_backends(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    encoder = narrow_cifar()
    assert not any(bn.synchronized for bn in batch_norms(encoder))
    with pytest.raises(ValueError, match="synchronized=True on the jax"):
        narrow_cifar(synchronized=True)


# --- Errors ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "received"),
    [
        ({"depth": 20}, ValueError, "depth=20"),
        ({"depth": "50"}, TypeError, "depth='50'"),
        ({"width_multiplier": 0}, ValueError, "width_multiplier=0"),
        ({"width_multiplier": -1.0}, ValueError, "width_multiplier=-1.0"),
        ({"width_multiplier": 0.01}, ValueError, "width_multiplier=0.01"),
        (
            {"width_multiplier": float("nan")},
            ValueError,
            "width_multiplier=nan",
        ),
        ({"width_multiplier": "2"}, TypeError, "width_multiplier='2'"),
        ({"sk_ratio": -0.1}, ValueError, "sk_ratio=-0.1"),
        ({"sk_ratio": 1.5}, ValueError, "sk_ratio=1.5"),
        ({"sk_ratio": None}, TypeError, "sk_ratio=None"),
        ({"se_ratio": -0.1}, ValueError, "se_ratio=-0.1"),
        ({"se_ratio": 2}, ValueError, "se_ratio=2"),
        ({"stem": "mnist"}, ValueError, "stem='mnist'"),
        ({"input_shape": (32, 32)}, ValueError, "input_shape=(32, 32)"),
        (
            {"input_shape": (None, 32, 32, 3)},
            ValueError,
            "input_shape=(None, 32, 32, 3)",
        ),
        (
            {"input_shape": (32, 32, None)},
            ValueError,
            "input_shape=(32, 32, None)",
        ),
        ({"input_shape": (0, 32, 3)}, ValueError, "input_shape=(0, 32, 3)"),
        ({"input_shape": 32}, TypeError, "input_shape=32"),
        ({"synchronized": "yes"}, TypeError, "synchronized='yes'"),
        ({"widht": 2}, TypeError, "['widht']"),
    ],
)
def test_wrong_arguments(arguments, error, received):
    with pytest.raises(error, match=re.escape(f"Received: {received}")):
        encoders.ResNet(**arguments)


@pytest.mark.parametrize(("depth", "narrow"), [(18, 1 / 16), (50, 1 / 32)])
def test_narrow_shortcuts_are_not_strided_convolutions(depth, narrow):
    """Of them oneDNN makes wrong gradients or crashes."""
    wide, narrow = (
        encoders.ResNet(
            depth, width_multiplier=width, stem="cifar", input_shape=(9, 9, 3)
        )
        for width in (1, narrow)
    )

    def strided(encoder):
        return [
            layer.input.shape[-1]
            for layer in encoder.layers
            if isinstance(layer, keras.layers.Conv2D)
            and layer.kernel_size == (1, 1)
            and layer.strides == (2, 2)
        ]

    assert len(strided(wide)) == 3
    assert all(channels >= 16 for channels in strided(narrow))
    assert len(strided(narrow)) < 3
    assert [w.path for w in narrow.weights] == [w.path for w in wide.weights]
    # The same pixels.
    layer = narrow.get_layer("block_group2_block1_shortcut_conv")
    x = images(2, 9, 9, layer.input.shape[-1])
    pixels = narrow.get_layer("block_group2_block1_shortcut_conv_subsample")(x)
    np.testing.assert_array_equal(pixels, x[:, ::2, ::2])
