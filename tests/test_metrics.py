import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import metrics
from simclr_keras.metrics import (
    ContrastiveAccuracy,
    ContrastiveEntropy,
    compare,
)
from tests import checks


def projections(num_images=6, dim=4, seed=0, noise=0.7):
    rng = np.random.default_rng(seed)
    z_1 = rng.normal(size=(num_images, dim))
    return z_1, z_1 + noise * rng.normal(size=(num_images, dim))


def cosine(a, b):
    return sum(a * b) / math.sqrt(sum(a * a)) / math.sqrt(sum(b * b))


def accuracies(z_1, z_2):
    """1 where a first view's nearest second view is its own, by loops."""
    result = []
    for i in range(len(z_1)):
        similarities = [cosine(z_1[i], z) for z in z_2]
        result.append(similarities.index(max(similarities)) == i)
    return np.array(result, "float64")


def entropies(z_1, z_2, temperature):
    """Entropy of each first view's softmax over the second views, by loops."""
    result = []
    for i in range(len(z_1)):
        logits = [cosine(z_1[i], z) / temperature for z in z_2]
        total = sum(math.exp(logit) for logit in logits)
        p = [math.exp(logit) / total for logit in logits]
        result.append(-sum(q * math.log(q) for q in p))
    return np.array(result)


def value(metric, *batches, dtype="float32", **kwargs):
    for z_1, z_2 in batches:
        metric.update_state(
            tf.constant(z_1, dtype), tf.constant(z_2, dtype), **kwargs
        )
    return float(metric.result())


# Seeds whose accuracies differ, so that a constant answer cannot pass.
@pytest.mark.parametrize("seed", range(4))
def test_accuracy_equals_a_loop(seed):
    z_1, z_2 = projections(seed=seed)
    expected = accuracies(z_1, z_2).mean()
    # float32 of a multiple of 1/6
    assert value(ContrastiveAccuracy(), (z_1, z_2)) == pytest.approx(expected)


def test_accuracy_is_not_always_one():
    found = {accuracies(*projections(seed=seed)).mean() for seed in range(4)}
    assert len(found) > 1


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 2.0])
def test_entropy_equals_a_loop(temperature):
    z_1, z_2 = projections()
    expected = entropies(z_1, z_2, temperature).mean()
    # float32 cosines are right to 2e-7, which the temperature divides.
    assert value(ContrastiveEntropy(temperature), (z_1, z_2)) == pytest.approx(
        expected, abs=1e-6 / temperature
    )


def test_default_temperature_is_that_of_the_loss():
    z_1, z_2 = projections()
    assert value(ContrastiveEntropy(), (z_1, z_2)) == pytest.approx(
        entropies(z_1, z_2, 0.1).mean(), abs=1e-5
    )


def test_batches_count_by_their_images():
    batches = [projections(6, seed=0), projections(2, seed=1)]
    expected = np.concatenate([accuracies(*b) for b in batches]).mean()
    metric = ContrastiveAccuracy()
    assert value(metric, *batches) == pytest.approx(expected)
    metric.reset_state()
    assert float(metric.result()) == 0
    expected = np.concatenate([entropies(*b, 0.1) for b in batches]).mean()
    assert value(ContrastiveEntropy(), *batches) == pytest.approx(
        expected, abs=1e-5
    )


def test_sample_weight():
    z_1, z_2 = projections()
    weights = np.arange(6.0)
    result = value(ContrastiveEntropy(), (z_1, z_2), sample_weight=weights)
    expected = np.average(entropies(z_1, z_2, 0.1), weights=weights)
    assert result == pytest.approx(expected, abs=1e-5)  # float32


def test_limits():
    same = np.ones((8, 4))
    apart = np.eye(8)
    assert value(ContrastiveEntropy(0.1), (same, same)) == pytest.approx(
        math.log(8), abs=1e-6
    )
    assert value(ContrastiveEntropy(0.01), (apart, apart)) < 1e-6
    assert value(ContrastiveAccuracy(), (apart, apart)) == 1
    assert value(ContrastiveAccuracy(), (apart, apart[::-1])) == 0


@pytest.mark.parametrize("metric", [ContrastiveAccuracy, ContrastiveEntropy])
def test_length_of_a_projection_does_not_matter(metric):
    z_1, z_2 = projections()
    # float32
    assert value(metric(), (100 * z_1, 0.01 * z_2)) == pytest.approx(
        value(metric(), (z_1, z_2)), abs=1e-5
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    z_1, z_2 = [tf.cast(tf.constant(z), dtype) for z in projections()]
    expected = entropies(
        tf.cast(z_1, "float64").numpy(), tf.cast(z_2, "float64").numpy(), 0.1
    )
    metric = ContrastiveEntropy(0.1)
    metric.update_state(z_1, z_2)
    # Only the inputs are rounded: the rest is right to float32.
    assert float(metric.result()) == pytest.approx(expected.mean(), abs=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("metric", [ContrastiveAccuracy, ContrastiveEntropy])
def test_graph_and_xla_equal_eager(metric, jit_compile):
    compiled = metric()
    signature = [tf.TensorSpec((None, 4))] * 2
    tf.function(
        compiled.update_state,
        jit_compile=jit_compile,
        input_signature=signature,
    )(*[tf.constant(z, "float32") for z in projections()])
    # float32
    assert float(compiled.result()) == pytest.approx(
        value(metric(), projections()), abs=1e-5
    )


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        (ContrastiveAccuracy, {"name": "a_name", "dtype": "float64"}),
        (
            ContrastiveEntropy,
            {"temperature": 0.3, "name": "a_name", "dtype": "float64"},
        ),
    ],
)
def test_configuration(metric, arguments):
    original = metric(**arguments)
    checks.check_config(original, arguments)
    copy = keras.metrics.deserialize(keras.metrics.serialize(original))
    assert value(copy, projections()) == value(original, projections())


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature):
    checks.check_rejects(ContrastiveEntropy, "temperature", temperature)


@pytest.mark.parametrize("metric", [ContrastiveAccuracy, ContrastiveEntropy])
@pytest.mark.parametrize("shape", [(4, 7), (3, 8), (8,)])
def test_shapes_must_be_equal(metric, shape):
    with pytest.raises(ValueError, match="same shape") as error:
        value(metric(), (np.ones((4, 8)), np.ones(shape)))
    assert f"z_j.shape={shape}" in str(error.value)


def test_a_variable_would_be_reset_with_the_metric():
    with pytest.raises(TypeError, match="must be a positive number") as error:
        ContrastiveEntropy(keras.Variable(0.5))
    assert "follows the temperature of the loss" in str(error.value)


@pytest.mark.parametrize("wrap", [float, tf.constant, keras.Variable])
def test_temperature_of_one_batch(wrap):
    z_1, z_2 = (tf.constant(z, "float32") for z in projections())
    metric = ContrastiveEntropy(0.1)
    temperature = wrap(0.5)
    (values,) = compare(
        z_1, z_2, [lambda s, partner: metric.values(s, partner, temperature)]
    )
    metric.update_values(values)
    # float32
    assert float(metric.result()) == pytest.approx(
        entropies(*projections(), 0.5).mean(), abs=1e-5
    )


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("num_images", [6, 7, 23])
def test_blocks_of_rows_give_the_same(monkeypatch, num_images, mode):
    z_1, z_2 = projections(num_images)
    functions = [ContrastiveAccuracy().values, ContrastiveEntropy().values]
    # Three rows at a time: as many as divide the images, or not.
    monkeypatch.setattr(metrics, "_MOST_SIMILARITIES", 2 * num_images)
    shapes = []

    def shape(similarities, partner):
        shapes.append(tuple(similarities.shape))
        return functions[0](similarities, partner)

    signature = [tf.TensorSpec((None, 4), "float64")] * 2
    function = checks.MODES[mode](
        lambda a, b: compare(a, b, [shape, *functions])
    )
    if mode != "eager":
        function = tf.function(
            function, input_signature=signature, jit_compile=mode == "xla"
        )
    _, hits, entropy = function(tf.constant(z_1), tf.constant(z_2))
    np.testing.assert_array_equal(hits, accuracies(z_1, z_2))
    # The metric's float32 logits of up to 10.
    np.testing.assert_allclose(entropy, entropies(z_1, z_2, 0.1), atol=1e-5)
    if mode == "eager":
        assert max(shapes)[0] <= 3


@pytest.mark.parametrize("cls", [ContrastiveAccuracy, ContrastiveEntropy])
def test_what_cannot_be_compared(cls):
    z, metric = np.ones((4, 3)), cls()
    with pytest.raises(ValueError, match="at least one image"):
        metric.update_state(z[:0], z[:0])
    with pytest.raises(TypeError, match="`z_j` must be an array of numbers"):
        metric.update_state(z, z.astype(str))
    with pytest.raises(ValueError, match="a weight for each image"):
        metric.update_state(z, z, np.ones((2, 3)))
    with pytest.raises(TypeError, match="`sample_weight` must be an array"):
        metric.update_state(z, z, "heavy")


@pytest.mark.parametrize("temperature", ["0.1", None, [0.1]])
def test_an_entropy_at_no_temperature(temperature):
    checks.check_rejects(
        ContrastiveEntropy, "temperature", temperature, TypeError
    )
    checks.check_rejects(ContrastiveEntropy, "temperature", 1e-320)
