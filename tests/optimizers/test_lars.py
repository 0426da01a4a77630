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
    excluded=False,
):
    """The docstring's recursion in float64: w after each of the gradients."""
    w, v, path = np.array(w, "float64"), 0.0, []
    for step, gradient in enumerate(gradients):
        rate = learning_rate(step) if callable(learning_rate) else learning_rate
        g = np.array(gradient, "float64")
        trust = 1.0
        if not excluded:
            g = g + weight_decay * w
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
            start[i], [g[i] for g in gradients], excluded=is_excluded, **options
        )
        # float32, a few roundings a step
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
    # The scale has gone out of the gradients again: float16 rounds to 5e-4.
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
    # A step is as long as the rate says, so that the rate must go to 0.
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
    assert config["exclude"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("momentum", -0.1),
        ("momentum", 1.1),
        ("weight_decay", -1e-4),
        ("weight_decay", float("nan")),
        ("trust_coefficient", 0),
        ("exclude", "bias"),
    ],
)
def test_bad_arguments(name, value):
    checks.check_rejects(LARS, name, value)
