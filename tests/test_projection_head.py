import itertools

import keras
import numpy as np
import pytest

from simclr_keras import ProjectionHead
from tests import checks


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def representations(batch=8, features=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, features)).astype("float32")


def built(features=6, **kwargs):
    """A head with weights of a size that shows in its output."""
    head = ProjectionHead(**kwargs)
    head.build((None, features))
    rng = np.random.default_rng(1)
    for variable in head.weights:
        if "moving_variance" in variable.path or "gamma" in variable.path:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
        else:
            variable.assign(rng.normal(size=variable.shape))
    return head


def forward(head, x, training):
    """The head by hand, in float64, and what each batch norm saw."""
    w = {v.path.split("/", 1)[-1]: v.numpy() for v in head.weights}
    w = {k: np.asarray(v, "float64") for k, v in w.items()}
    num_layers = sum(k.endswith("kernel") for k in w)
    x = np.asarray(x, "float64")
    statistics = []
    for i in range(1, num_layers + 1):
        x = x @ w[f"dense_{i}/kernel"]
        if f"batch_norm_{i}/gamma" not in w:
            continue
        if training:
            mean, variance = x.mean(axis=0), x.var(axis=0)
        else:
            mean = w[f"batch_norm_{i}/moving_mean"]
            variance = w[f"batch_norm_{i}/moving_variance"]
        statistics.append((x.mean(axis=0), x.var(axis=0)))
        x = w[f"batch_norm_{i}/gamma"] * (x - mean) / np.sqrt(variance + 1e-5)
        if i < num_layers:
            x = np.maximum(x + w[f"batch_norm_{i}/beta"], 0)
    return x, statistics


# --- Structure -------------------------------------------------------------


@pytest.mark.parametrize("features", [6, 32])
@pytest.mark.parametrize("hidden_dim", [None, 10])
@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_parameter_counts(num_layers, hidden_dim, features):
    head = ProjectionHead(16, num_layers=num_layers, hidden_dim=hidden_dim)
    head.build((None, features))
    hidden = hidden_dim or features
    widths = [features] + [hidden] * (num_layers - 1) + [16]
    dense = sum(a * b for a, b in itertools.pairwise(widths))
    # gamma of every batch norm, beta of all but the last, two moving ones
    scales = sum(widths[1:])
    centres = sum(widths[1:-1])
    trainable = sum(np.prod(v.shape) for v in head.trainable_variables)
    assert trainable == dense + scales + centres
    assert head.count_params() == dense + scales + centres + 2 * scales


@pytest.mark.parametrize(
    # ResNet-50's head: 2048^2 + 2048 * 128 + 2 * 2048 + 128 in the first
    # paper, another 2048^2 + 2 * 2048 in the second.
    ("num_layers", "count"),
    [(2, 4_460_672), (3, 8_659_072)],
)
def test_the_papers_heads_on_resnet50(num_layers, count):
    head = ProjectionHead(128, num_layers=num_layers)
    head.build((None, 2048))
    trainable = sum(np.prod(v.shape) for v in head.trainable_variables)
    assert trainable == count
    first = head.trainable_variables[0].numpy()
    # N(0, 0.01): 4 million draws give the deviation to 4e-6 and mean to 5e-6.
    assert first.std() == pytest.approx(0.01, rel=5e-3)
    assert first.mean() == pytest.approx(0, abs=5e-5)


def test_names_of_the_weights():
    head = ProjectionHead(4, name="head")
    head.build((None, 6))
    assert [v.path for v in head.trainable_variables] == [
        "head/dense_1/kernel",
        "head/batch_norm_1/gamma",
        "head/batch_norm_1/beta",
        "head/dense_2/kernel",
        "head/batch_norm_2/gamma",
    ]


@pytest.mark.parametrize(
    ("synchronized", "expected"), [(None, True), (True, True), (False, False)]
)
def test_synchronized(synchronized, expected):
    head = ProjectionHead(4, num_layers=3, synchronized=synchronized)
    head.build((None, 6))
    found = [
        layer.synchronized
        for layer in head.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert found == [expected] * 3


# --- Values ----------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("hidden_dim", [None, 10])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_equals_numpy(num_layers, hidden_dim, training):
    head = built(output_dim=5, num_layers=num_layers, hidden_dim=hidden_dim)
    x = representations()
    expected, _ = forward(head, x, training)
    # float32, three products of a few terms each.
    np.testing.assert_allclose(
        head(x, training=training), expected, rtol=1e-4, atol=1e-5
    )


def test_batch_norm_moves_its_statistics_by_a_tenth():
    head = built(output_dim=5)
    x = representations()
    norms = [
        layer
        for layer in head.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    before = [(n.moving_mean.numpy(), n.moving_variance.numpy()) for n in norms]
    _, statistics = forward(head, x, training=True)
    head(x, training=False)
    np.testing.assert_array_equal(norms[0].moving_mean, before[0][0])
    head(x, training=True)
    for norm, old, new in zip(norms, before, statistics):
        # float32
        np.testing.assert_allclose(
            norm.moving_mean, 0.9 * old[0] + 0.1 * new[0], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            norm.moving_variance, 0.9 * old[1] + 0.1 * new[1], rtol=1e-5
        )


def test_linear_is_one_matrix():
    head = built(output_dim=5, kind="linear", num_layers=3)
    (kernel,) = head.weights
    x = representations()
    # float32
    np.testing.assert_allclose(
        head(x, training=True), x @ kernel.numpy(), rtol=1e-5, atol=1e-6
    )


def test_none_is_the_representation():
    head = built(kind="none")
    assert head.weights == []
    x = representations()
    np.testing.assert_array_equal(head(x, training=True), x)
    assert head.compute_output_shape((None, 6)) == (None, 6)


@pytest.mark.parametrize("kind", ["nonlinear", "linear", "none"])
def test_shapes_of_any_batch(kind):
    head = ProjectionHead(5, kind=kind)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, head(inputs))
    width = 6 if kind == "none" else 5
    assert model.output_shape == (None, width)
    for batch in (1, 3):
        assert model(representations(batch)).shape == (batch, width)


@pytest.mark.parametrize("training", [False, True])
def test_graph_and_xla_equal_eager(training):
    checks.check_compiles(
        lambda: built(output_dim=5),
        (representations(),),
        atol=1e-5,  # float32
        training=training,
    )


@pytest.mark.parametrize("training", [False, True])
def test_mixed_precision(training):
    checks.check_policies(
        lambda: built(output_dim=5),
        (representations(),),
        # The output is about 1 and bfloat16 has 8 bits; a few roundings.
        atol=0.15,
        training=training,
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_output_is_of_the_policys_dtype(policy):
    head = ProjectionHead(5, dtype=policy)
    assert head(representations()).dtype == policy.removeprefix("mixed_")


# --- Saving and errors -----------------------------------------------------

ARGUMENTS = {
    "output_dim": 5,
    "num_layers": 3,
    "hidden_dim": 7,
    "kind": "linear",
    "synchronized": False,
}


def test_configuration():
    checks.check_config(ProjectionHead(**ARGUMENTS), ARGUMENTS)
    config = ProjectionHead(name="head", trainable=False).get_config()
    copy = ProjectionHead.from_config(config)
    assert copy.name == "head"
    assert not copy.trainable


def test_defaults_are_the_first_papers():
    config = ProjectionHead().get_config()
    assert config["output_dim"] == 128
    assert config["num_layers"] == 2
    assert config["hidden_dim"] is None
    assert config["kind"] == "nonlinear"


@pytest.mark.parametrize("kind", ["nonlinear", "linear", "none"])
def test_saves_and_loads(kind, tmp_path):
    head = built(**{**ARGUMENTS, "kind": kind})
    head(representations(), training=True)  # moves the statistics
    checks.check_saves_and_loads(head, (representations(),), tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_dim", 0),
        ("num_layers", -1),
        ("hidden_dim", 0),
        ("kind", "mlp"),
    ],
)
def test_bad_arguments(name, value):
    checks.check_rejects(ProjectionHead, name, value)


@pytest.mark.parametrize(
    ("name", "value"), [("output_dim", 1.5), ("num_layers", True)]
)
def test_what_is_no_integer(name, value):
    checks.check_rejects(ProjectionHead, name, value, TypeError)


@pytest.mark.parametrize("shape", [(2, 4, 4, 6), (6,)])
def test_input_must_be_representations(shape):
    with pytest.raises(ValueError, match=r"takes representations") as error:
        ProjectionHead()(np.ones(shape, "float32"))
    assert f"Received: input_shape={shape}" in str(error.value)


@pytest.mark.parametrize("kind", ["nonlinear", "linear", "none"])
def test_takes_what_it_was_built_on_alone(kind):
    head = ProjectionHead(3, kind=kind)
    head(representations(features=6))
    for wrong in (representations(features=5), np.ones((2, 3, 6), "float32")):
        with pytest.raises(ValueError, match="incompatible with the layer"):
            head(wrong)


def test_no_representations():
    with pytest.raises(ValueError, match="Received: input_shape=None"):
        ProjectionHead()(None)
    with pytest.raises(TypeError, match="tensor of numbers"):
        ProjectionHead()(np.array([["a"]]))


def test_a_kind_that_is_no_string():
    checks.check_rejects(ProjectionHead, "kind", ["linear"])
    with pytest.raises(ValueError, match="`kind` must be one of"):
        ProjectionHead(kind=np.array(["linear", "none"]))


def test_integers_of_numpy():
    head = ProjectionHead(np.int64(8), num_layers=np.int32(2))
    assert type(head.get_config()["output_dim"]) is int
