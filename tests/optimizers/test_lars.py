import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import LARS, WarmupCosineDecay
from tests import checks


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def recursion(
    w,
    gradients,
    learning_rate=0.3,
    momentum=0.9,
    weight_decay=0.0,
    trust_coefficient=0.001,
    nesterov=False,
    has_decay=True,
    has_trust_ratio=True,
):
    """The docstring's recursion in float64: w after each of the gradients."""
    w, v, path = np.array(w, "float64"), 0.0, []
    for step, gradient in enumerate(gradients):
        rate = learning_rate(step) if callable(learning_rate) else learning_rate
        g = np.array(gradient, "float64")
        trust = 1.0
        if has_decay:
            g = g + weight_decay * w
        if has_trust_ratio:
            norm_w, norm_g = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
            if norm_w > 0 and norm_g > 0:
                trust = trust_coefficient * norm_w / norm_g
        v = momentum * v + rate * trust * g
        w = w - (momentum * v + rate * trust * g if nesterov else v)
        path.append(w)
    return path


def variables():
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=shape).astype("float32"), name=name)
        for shape, name in (((4, 3), "kernel"), ((3,), "bias"))
    ]


def random_gradients(count=5, seed=1):
    rng = np.random.default_rng(seed)
    return [
        [rng.normal(size=(4, 3)), rng.normal(size=(3,))] for _ in range(count)
    ]


def apply(optimizer, gradients, variables_):
    """Every variable after every step."""
    path = []
    for step in gradients:
        tensors = [tf.constant(g, "float32") for g in step]
        optimizer.apply(tensors, variables_)
        path.append([v.numpy() for v in variables_])
    return path


def assert_follows(path, start, gradients, excluded=(False, True), **options):
    for i, is_excluded in enumerate(excluded):
        expected = recursion(
            start[i],
            [g[i] for g in gradients],
            has_decay=not is_excluded,
            has_trust_ratio=not is_excluded,
            **options,
        )
        # float32, a few roundings per step
        np.testing.assert_allclose(
            [step[i] for step in path], expected, rtol=1e-5, atol=1e-6
        )


# --- The recursion ---------------------------------------------------------

OPTIONS = [
    {},
    {"momentum": 0.0},
    {"momentum": 1.0},
    {"weight_decay": 0.1},
    {"nesterov": True},
    {"nesterov": True, "weight_decay": 0.1, "momentum": 0.5},
    {"trust_coefficient": 0.02, "learning_rate": 1.5},
]


@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_first_five_steps(options, jit_compile):
    both, gradients = variables(), random_gradients()
    start = [v.numpy() for v in both]
    optimizer = LARS(**options)
    if jit_compile is None:
        path = apply(optimizer, gradients, both)
    else:
        optimizer.build(both)
        step = tf.function(
            lambda *g: optimizer.apply(g, both), jit_compile=jit_compile
        )
        path = []
        for g in gradients:
            step(*[tf.constant(a, "float32") for a in g])
            path.append([v.numpy() for v in both])
    assert_follows(path, start, gradients, **options)


def test_learning_rate_schedule():
    both, gradients = variables(), random_gradients()
    start = [v.numpy() for v in both]
    schedule = WarmupCosineDecay(2.0, total_steps=5, warmup_steps=2)
    path = apply(LARS(schedule), gradients, both)
    np.testing.assert_array_equal(path[0][0], start[0])  # a rate of 0
    assert_follows(
        path, start, gradients, learning_rate=lambda s: float(schedule(s))
    )


def test_learning_rate_may_be_a_callable_or_assigned():
    both, gradients = variables(), random_gradients()
    start = [v.numpy() for v in both]
    path = apply(LARS(lambda: 0.05), gradients, both)
    assert_follows(path, start, gradients, learning_rate=0.05)
    both, optimizer = variables(), LARS(1.0)
    optimizer.learning_rate = 0.05
    path = apply(optimizer, gradients, both)
    assert_follows(path, start, gradients, learning_rate=0.05)


def test_zero_gradient_moves_nothing():
    both = variables()
    start = [v.numpy() for v in both]
    zeros = [[np.zeros((4, 3)), np.zeros(3)]] * 2
    path = apply(LARS(), zeros, both)
    for one, other in zip(path[-1], start):
        np.testing.assert_array_equal(one, other)


def test_zero_gradient_with_decay_shrinks_the_weight():
    both = variables()
    start = [v.numpy() for v in both]
    zeros = [[np.zeros((4, 3)), np.zeros(3)]] * 2
    path = apply(LARS(weight_decay=0.1), zeros, both)
    assert_follows(path, start, zeros, weight_decay=0.1)
    assert np.linalg.norm(path[-1][0]) < np.linalg.norm(start[0])
    np.testing.assert_array_equal(path[-1][1], start[1])  # the bias


def test_zero_weight_leaves_zero():
    kernel = keras.Variable(np.zeros((4, 3), "float32"))
    gradients = [[g[0]] for g in random_gradients()]
    path = apply(LARS(0.3), gradients, [kernel])
    # A trust ratio of 1 in the first step.
    np.testing.assert_allclose(path[0][0], -0.3 * gradients[0][0], rtol=1e-6)
    assert_follows(path, [np.zeros((4, 3))], gradients, excluded=(False,))


def test_step_does_not_depend_on_the_length_of_the_gradient():
    paths = []
    for scale in (1e-12, 1.0, 1e12):
        both = variables()
        gradients = [[scale * g[0], 0 * g[1]] for g in random_gradients(1)]
        paths.append(apply(LARS(), gradients, both)[0][0])
    # float32
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-5)
    np.testing.assert_allclose(paths[2], paths[1], rtol=1e-5)


# --- Exclusions ------------------------------------------------------------


def layers_of_all_kinds():
    """Variables of a convolution, batch norm, dense and linear probe."""
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 2, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3, name="dense")(x)
    x = keras.layers.Dense(2, name="linear_probe")(x)
    return keras.Model(inputs, x).trainable_variables


def has_trust(optimizer, variables_):
    """Paths of the variables whose step does not follow the gradient's size."""
    for v in variables_:
        v.assign(keras.ops.ones_like(v))
    optimizer.apply([1e-3 * tf.ones(v.shape) for v in variables_], variables_)
    # A step with trust is 0.3 |w| long, one without 0.3 |g|, a thousandth.
    return {
        v.path
        for v in variables_
        if not np.allclose(v.numpy(), 1 - 0.3 * 1e-3, rtol=0, atol=1e-6)
    }


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (None, {"conv/kernel", "dense/kernel"}),
        (
            [],
            {
                "conv/kernel",
                "conv/bias",
                "norm/gamma",
                "norm/beta",
                "dense/kernel",
                "dense/bias",
                "linear_probe/kernel",
                "linear_probe/bias",
            },
        ),
        (
            ["bias$", "^norm/", "lin.*probe"],
            {"conv/kernel", "dense/kernel"},
        ),
        (
            ["conv"],
            {
                "norm/gamma",
                "norm/beta",
                "dense/kernel",
                "dense/bias",
                "linear_probe/kernel",
                "linear_probe/bias",
            },
        ),
    ],
)
def test_exclusions(exclude, expected):
    optimizer = LARS(0.3, trust_coefficient=1.0, exclude=exclude)
    assert has_trust(optimizer, layers_of_all_kinds()) == expected


def test_excluded_variables_take_no_decay():
    both = variables()
    start = [v.numpy() for v in both]
    gradients = random_gradients()
    options = {"weight_decay": 0.5}
    path = apply(LARS(exclude=["kernel"], **options), gradients, both)
    assert_follows(path, start, gradients, excluded=(True, False), **options)


# --- What a bias or a norm is ------------------------------------------------


@keras.saving.register_keras_serializable(package="tests")
class Tokens(keras.layers.Layer):
    """Prepends a class token, adds positions, scales: as a ViT's layers do."""

    def build(self, shape):
        self.positions = keras.layers.Embedding(
            shape[1] + 1, shape[2], name="position_embedding"
        )
        self.positions.build(())
        self.token = self.add_weight((1, 1, shape[-1]), name="class_token")
        self.scales = self.add_weight(
            (1, 1, shape[-1]), initializer="ones", name="layer_scale"
        )

    def call(self, x):
        token = keras.ops.repeat(self.token, keras.ops.shape(x)[0], axis=0)
        x = keras.ops.concatenate([token, x], axis=1)
        x = x + self.positions(keras.ops.arange(x.shape[1]))
        return x * self.scales

    def compute_output_shape(self, shape):
        return (shape[0], shape[1] + 1, shape[2])


def vision_transformer():
    """Patches (B, 4, 6) to classes, with every kind of bias and norm."""
    layers = keras.layers
    inputs = keras.Input((4, 6), name="patches")
    x = layers.EinsumDense(
        "btf,fhd->bthd", (4, 2, 4), bias_axes="hd", name="patching"
    )(inputs)
    x = Tokens(name="tokens")(layers.Reshape((4, 8))(x))
    y = layers.LayerNormalization(axis=(1, 2), name="first")(x)
    y = layers.MultiHeadAttention(2, 4, name="attention")(y, y)
    x = layers.Add()([x, y])
    x = layers.GroupNormalization(2, name="groups")(x)
    x = layers.RMSNormalization(name="second")(x)
    x = layers.SpectralNormalization(
        layers.Dense(8, name="mlp"), name="spectral_normalization"
    )(x)
    x = layers.GRU(8, name="pooling")(x)  # has a bias of rank 2
    x = layers.Embedding(3, 8, name="words")(inputs[:, 0, 0]) + x
    x = layers.BatchNormalization(name="last_norm")(x)
    outputs = layers.Dense(3, name="linear_probe")(x)
    return keras.Model(inputs, outputs)


# Its variables with a decay and a trust ratio.
WEIGHTS = {
    "patching/kernel",
    "attention/query/kernel",
    "attention/key/kernel",
    "attention/value/kernel",
    "attention/attention_output/kernel",
    "spectral_normalization/mlp/kernel",
    "pooling/gru_cell/kernel",
    "pooling/gru_cell/recurrent_kernel",
    "words/embeddings",
}
# Those without, in spite of their rank.
OF_HIGH_RANK = {
    "patching/bias",
    "tokens/class_token",
    "tokens/layer_scale",
    "tokens/position_embedding/embeddings",
    "first/gamma",
    "first/beta",
    "attention/query/bias",
    "attention/key/bias",
    "attention/value/bias",
    "pooling/gru_cell/bias",
    "linear_probe/kernel",
}


def follow(lars, variables_, steps=3):
    """Steps of an optimizer and the gradients that they were given."""
    rng = np.random.default_rng(0)
    for v in variables_:
        v.assign(rng.normal(size=v.shape))
    start = {v.path: v.numpy() for v in variables_}
    gradients = [
        {v.path: rng.normal(size=v.shape) for v in variables_}
        for _ in range(steps)
    ]
    path = apply(lars, [list(g.values()) for g in gradients], variables_)
    path = [dict(zip(start, values, strict=True)) for values in path]
    return start, gradients, path


OPTIONS_OF_ALL = {"weight_decay": 0.3, "trust_coefficient": 0.02}


def assert_masks(lars, variables_, decayed, adapted):
    """Those paths, and no others, have decay and have a trust ratio."""
    start, gradients, steps = follow(lars, variables_)
    assert (decayed | adapted) <= set(start)
    for path in start:
        expected = recursion(
            start[path],
            [g[path] for g in gradients],
            has_decay=path in decayed,
            has_trust_ratio=path in adapted,
            **OPTIONS_OF_ALL,
        )
        # float32, a few roundings per step
        np.testing.assert_allclose(
            [step[path] for step in steps],
            expected,
            rtol=1e-5,
            atol=1e-6,
            err_msg=path,
        )
    paths = [v.path for v in variables_]
    assert lars.has_decay == [p in decayed for p in paths]
    assert lars.has_trust_ratio == [p in adapted for p in paths]


def test_biases_and_norms_are_left_out_whatever_their_rank():
    model = vision_transformer()
    temperature = keras.Variable(1.0, name="log_temperature")
    variables_ = [*model.trainable_variables, temperature]
    high = {v.path for v in variables_ if len(v.shape) > 1}
    assert high == WEIGHTS | OF_HIGH_RANK
    assert_masks(LARS(**OPTIONS_OF_ALL), variables_, WEIGHTS, WEIGHTS)


def test_first_step_of_an_attention_bias_that_starts_at_0():
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    attention.build((None, 5, 8), (None, 5, 8))
    lars = LARS(0.3, weight_decay=0.1)
    ones = [tf.ones(v.shape) for v in attention.trainable_variables]
    for step in (1, 2):
        before = {v.path: v.numpy() for v in attention.trainable_variables}
        lars.apply(ones, attention.trainable_variables)
        for v in attention.trainable_variables:
            moved = before[v.path] - v.numpy()
            if v.name == "bias":  # momentum alone, in the second step too
                expected = 0.3 * (1 if step == 1 else 1.9)
                np.testing.assert_allclose(moved, expected, rtol=1e-6)
            elif step == 1:  # its length depends on the rate alone
                length = 0.3 * 0.001 * np.linalg.norm(before[v.path])
                # float32, differences of weights a thousand times as large
                np.testing.assert_allclose(
                    np.linalg.norm(moved), length, rtol=1e-3
                )


@pytest.mark.parametrize("name", ["scale:0", "my_norm/weight", "pos_embed"])
def test_names_of_others(name):
    variables_ = [tf.Variable(tf.ones((2, 3)), name=name)]
    lars = LARS()
    lars.build(variables_)
    assert lars.has_decay == lars.has_trust_ratio == [False]


@pytest.mark.parametrize(
    "path",
    ["upscale/kernel", "bias_net/kernel", "denormalize/w", "norm/kernel"],
)
def test_names_that_only_look_like_those_of_biases_and_norms(path):
    lars = LARS()
    lars.build([tf.Variable(tf.ones((2, 3)), name=path)])
    assert lars.has_decay == lars.has_trust_ratio == [True]


ALL = WEIGHTS | OF_HIGH_RANK


@pytest.mark.parametrize(
    ("arguments", "decayed", "adapted"),
    [
        ({"exclude_from_decay": []}, "all", WEIGHTS),
        ({"exclude_from_trust_ratio": []}, WEIGHTS, "all"),
        ({"exclude": [], "exclude_from_decay": ["."]}, set(), "all"),
        (
            {"exclude": ["/"], "exclude_from_trust_ratio": ["kernel|bias"]},
            set(),
            {p for p in ALL if "kernel" not in p and "bias" not in p},
        ),
        (
            {
                "exclude_from_decay": ["."],
                "exclude_from_trust_ratio": ["words"],
            },
            set(),
            ALL - {"words/embeddings"},
        ),
    ],
)
def test_decay_and_trust_ratio_have_masks_of_their_own(
    arguments, decayed, adapted
):
    variables_ = [
        v for v in vision_transformer().trainable_variables if len(v.shape) > 1
    ]
    assert_masks(
        LARS(**arguments, **OPTIONS_OF_ALL),
        variables_,
        ALL if decayed == "all" else decayed,
        ALL if adapted == "all" else adapted,
    )


def test_exclude_from_weight_decay_of_keras():
    model = vision_transformer()
    listed = model.get_layer("attention").trainable_variables[0]
    lars = LARS(**OPTIONS_OF_ALL)
    lars.exclude_from_weight_decay(var_names=["^words/"])  # is replaced
    lars.exclude_from_weight_decay([listed], ["^pooling/", "mlp"])
    decayed = {p for p in WEIGHTS if not p.startswith("pooling")}
    decayed -= {"attention/query/kernel", "spectral_normalization/mlp/kernel"}

    copy = LARS.from_config(checks.jsonable(lars.get_config()))
    assert copy.get_config() == lars.get_config()
    for one in (lars, copy):
        assert_masks(one, model.trainable_variables, decayed, WEIGHTS)
    with pytest.raises(ValueError, match="before the optimizer is built"):
        lars.exclude_from_weight_decay(var_names=["bias"])


def test_exclude_from_weight_decay_tells_variables_of_one_path_apart():
    twins = [keras.Variable(np.ones((2, 2)), name="kernel") for _ in range(2)]
    lars = LARS()
    lars.exclude_from_weight_decay(twins)
    lars.build(twins)
    assert lars.has_decay == [False, False]
    lars = LARS()
    lars.exclude_from_weight_decay(twins[:1])
    with pytest.raises(ValueError, match=r"path 'kernel'.*different names"):
        lars.build(twins)


@pytest.mark.parametrize(
    "name",
    [
        "exclude",
        "exclude_from_decay",
        "exclude_from_trust_ratio",
        "exclude_from_weight_decay",
    ],
)
def test_an_expression_that_excludes_nothing_warns(name):
    lars = LARS()
    if name == "exclude_from_weight_decay":
        lars.exclude_from_weight_decay(var_names=["kernel", "gama"])
    else:
        lars = LARS(**{name: ["kernel", "gama"]})
    with pytest.warns(UserWarning, match=f"`{name}` of LARS.*'gama'") as caught:
        lars.build(variables())
    assert len(caught) == 1
    assert "['kernel', 'bias']" in str(caught[0].message)


@pytest.mark.slow
def test_a_vision_transformer_resumes_as_it_was(tmp_path):
    def fit(model, epochs=1):
        rng = np.random.default_rng(0)
        x = np.abs(rng.normal(size=(8, 4, 6))).astype("float32").clip(0, 2)
        y = rng.integers(0, 3, 8)
        model.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)

    model = vision_transformer()
    lars = LARS(
        0.1,
        weight_decay=0.1,
        trust_coefficient=0.1,
        exclude_from_trust_ratio=["bias$", "gamma$", "beta$"],
    )
    lars.exclude_from_weight_decay(
        model.get_layer("attention").trainable_variables[:1]
    )
    model.compile(
        lars, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    fit(model)
    loaded = checks.save_and_load(model, tmp_path)
    assert loaded.optimizer.has_decay == lars.has_decay
    assert loaded.optimizer.has_trust_ratio == lars.has_trust_ratio
    for one in (model, loaded):
        fit(one, epochs=2)
    for a, b in zip(
        [*model.weights, *lars.variables],
        [*loaded.weights, *loaded.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


# --- As a Keras optimizer --------------------------------------------------


def data(count=64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 8)).astype("float32")
    return x, (x @ rng.normal(size=(8, 3))).argmax(axis=1)


def classifier(optimizer, **kwargs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, dtype="float32"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **kwargs)
    return model


def train(model, epochs=1, batch_size=16):
    history = model.fit(
        *data(),
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    )
    return np.array(history.history["loss"])


def optimizer(learning_rate=0.1):
    # A trust coefficient for fifty steps; the default is for thousands.
    return LARS(learning_rate, weight_decay=1e-4, trust_coefficient=0.1)


def test_supervised_fit_and_resuming(tmp_path):
    schedule = WarmupCosineDecay(0.5, total_steps=48, warmup_steps=4)
    model = classifier(optimizer(schedule))
    losses = train(model, epochs=10)
    assert losses[-1] < 0.5 * losses[0]

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is LARS
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert int(loaded.optimizer.iterations) == 40
    for one, other in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert np.abs(model.optimizer.velocities[0].numpy()).max() > 1e-3
    # The velocities and the step count are those of the original.
    np.testing.assert_array_equal(train(loaded, 2), train(model, 2))
    for one, other in zip(model.weights, loaded.weights):
        np.testing.assert_array_equal(one, other)


def test_jit_compile_equals_plain():
    losses = []
    for jit_compile in (False, True):
        model = classifier(optimizer(), jit_compile=jit_compile)
        losses.append(train(model, epochs=3))
    # float32 in another order of operations, over 12 steps.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_mixed_float16_scales_the_loss():
    with checks.dtype_policy("mixed_float16"):
        model = classifier(optimizer())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert type(model.optimizer.inner_optimizer) is LARS
    losses = train(model, epochs=3)
    assert {v.dtype for v in model.weights} == {"float32"}
    # The gradients are unscaled again. float16 rounds to 5e-4.
    plain = train(classifier(optimizer()), epochs=3)
    np.testing.assert_allclose(losses, plain, rtol=0.01)


def test_gradient_accumulation():
    both, gradients = variables(), random_gradients(4)
    start = [v.numpy() for v in both]
    optimizer = LARS(weight_decay=0.1, gradient_accumulation_steps=2)
    path = apply(optimizer, gradients, both)
    np.testing.assert_array_equal(path[0][0], start[0])
    means = [
        [(a + b) / 2 for a, b in zip(*gradients[i : i + 2])] for i in (0, 2)
    ]
    assert_follows(path[1::2], start, means, weight_decay=0.1)


def test_clipnorm():
    both, gradients = variables(), random_gradients()
    start = [v.numpy() for v in both]
    path = apply(LARS(clipnorm=0.5), gradients, both)
    clipped = [
        [g * min(1, 0.5 / np.linalg.norm(g)) for g in step]
        for step in gradients
    ]
    assert_follows(path, start, clipped)


def test_quadratic_converges():
    # (w - target)^T A (w - target) / 2 with a condition number of 10
    target = tf.constant([[1.0, -2.0, 3.0]])
    curvature = tf.constant([[1.0, 3.0, 10.0]])
    w = keras.Variable(np.ones((1, 3), "float32"))
    # The length of a step depends on the rate alone, so it must go to 0.
    lars = LARS(WarmupCosineDecay(20.0, total_steps=500))
    lars.build([w])

    @tf.function
    def step():
        lars.apply([curvature * (w.value - target)], [w])

    for _ in range(500):
        step()
    np.testing.assert_allclose(w.numpy(), target, atol=1e-2)


# --- Configuration and errors ----------------------------------------------


def test_configuration():
    arguments = {
        "learning_rate": 0.5,  # exact in float32
        "momentum": 0.8,
        "weight_decay": 1e-4,
        "trust_coefficient": 0.01,
        "nesterov": True,
        "exclude": ["bias", "norm"],
        "exclude_from_decay": [],
        "exclude_from_trust_ratio": ["^encoder/"],
        "name": "a_name",
    }
    options = {"clipnorm": 2.0, "gradient_accumulation_steps": 4}
    lars = LARS(**arguments, **options)
    attributes = set(arguments) - {"learning_rate"}  # a variable
    checks.check_config(lars, arguments, attributes=attributes)
    assert float(lars.learning_rate) == 0.5
    again = LARS.from_config(lars.get_config()).get_config()
    for name, value in options.items():
        assert again[name] == value


def test_configuration_holds_the_schedule():
    lars = LARS(WarmupCosineDecay(4.8, 100, 10))
    config = checks.jsonable(keras.optimizers.serialize(lars))
    copy = keras.optimizers.deserialize(config)
    assert copy.get_config() == lars.get_config()


def test_defaults():
    config = LARS().get_config()
    assert config["momentum"] == 0.9
    assert config["weight_decay"] == 0
    assert config["trust_coefficient"] == 0.001
    assert config["nesterov"] is False
    for name in ("", "_from_decay", "_from_trust_ratio"):
        assert config[f"exclude{name}"] is None


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("learning_rate", -0.1, ValueError),
        ("learning_rate", float("nan"), ValueError),
        ("learning_rate", float("inf"), ValueError),
        ("momentum", -0.1, ValueError),
        ("momentum", 1.1, ValueError),
        ("momentum", "0.9", TypeError),
        ("weight_decay", -1e-4, ValueError),
        ("weight_decay", float("nan"), ValueError),
        ("weight_decay", float("inf"), ValueError),
        ("weight_decay", None, TypeError),
        ("trust_coefficient", 0, ValueError),
        ("trust_coefficient", None, TypeError),
        *(
            (name, value, error)
            for name in (
                "exclude",
                "exclude_from_decay",
                "exclude_from_trust_ratio",
            )
            for value, error in (
                ("bias", ValueError),
                (["bias", "(norm"], ValueError),
                (3, TypeError),
                (["bias", 3], TypeError),
            )
        ),
    ],
)
def test_bad_arguments(name, value, error):
    checks.check_rejects(LARS, name, value, error)


@pytest.mark.parametrize(
    ("names", "error"),
    [("bias", ValueError), (["(norm"], ValueError), ([None], TypeError)],
)
def test_bad_names_for_exclude_from_weight_decay(names, error):
    def exclude(var_names):
        LARS().exclude_from_weight_decay(var_names=var_names)

    checks.check_rejects(exclude, "var_names", names, error)


def test_a_learning_rate_of_an_integer():
    assert float(LARS(1).learning_rate) == 1.0


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("learning_rate", "0.1", TypeError),
        ("learning_rate", None, TypeError),
        ("learning_rate", 1e300, ValueError),
        ("nesterov", "no", TypeError),
    ],
)
def test_arguments_that_keras_would_not_name(name, value, error):
    checks.check_rejects(LARS, name, value, error)


@pytest.mark.parametrize("variables", [3, "kernel", [1, 2]])
def test_what_are_no_variables_to_exclude(variables):
    with pytest.raises(TypeError, match="`var_list` must be"):
        LARS().exclude_from_weight_decay(variables)


def test_numbers_of_numpy_become_pythons():
    optimizer = LARS(
        np.float32(0.5),
        momentum=np.float32(0.5),
        weight_decay=np.float64(1e-4),
        trust_coefficient=np.float32(0.25),
    )
    config = optimizer.get_config()
    for name in ("momentum", "weight_decay", "trust_coefficient"):
        assert type(config[name]) is float, name
    with pytest.raises(TypeError, match="`momentum` must"):
        LARS(momentum=True)
