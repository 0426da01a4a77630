"""The base class: what it makes of the losses of views, and of labels."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simclr_keras.losses import ContrastiveLoss, LearnedTemperature

LABELS = np.array([0, 1, 0, 2, 1, 0])


@keras.saving.register_keras_serializable(package="tests")
class Alignment(ContrastiveLoss):
    """Without labels: the squared distance of partners."""

    def view_losses(self, z_i, z_j, labels=None):
        assert labels is None
        squares = ops.sum(ops.square(z_i - z_j), axis=-1) / self.temperature
        return ops.concatenate([squares, 2 * squares])


@keras.saving.register_keras_serializable(package="tests")
class Supervised(ContrastiveLoss):
    """With labels: the cross entropy of all views of one class."""

    uses_labels = True

    def view_losses(self, z_i, z_j, labels=None):
        self.given = labels
        z = ops.normalize(ops.concatenate([z_i, z_j]), axis=-1)
        labels = ops.concatenate([labels, labels])
        count = ops.shape(z)[0]
        others = 1 - ops.eye(count, dtype=z.dtype)
        logits = ops.matmul(z, ops.transpose(z)) / self.temperature
        log_p = logits - ops.log(
            ops.sum(ops.exp(logits) * others, axis=1, keepdims=True)
        )
        same = ops.cast(labels[:, None] == labels[None], z.dtype) * others
        return -ops.sum(same * log_p, axis=1) / ops.sum(same, axis=1)


def projections(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, 6, 4))


def supervised(z_i, z_j, labels, temperature):
    """Khosla et al., 2020, Equation 2, as loops."""
    z = np.concatenate([z_i, z_j])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels = np.concatenate([labels, labels])
    losses = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        total = sum(np.exp(z[i] @ z[k] / temperature) for k in others)
        losses.append(
            -np.mean(
                [
                    z[i] @ z[k] / temperature - np.log(total)
                    for k in others
                    if labels[k] == labels[i]
                ]
            )
        )
    return np.array(losses)


def test_reductions():
    z_i, z_j = projections()
    squares = ((z_i - z_j) ** 2).sum(axis=1) / 0.5
    expected = np.concatenate([squares, 2 * squares])
    for reduction, reduce in (
        ("sum_over_batch_size", np.mean),
        ("sum", np.sum),
        (None, lambda losses: losses),
    ):
        loss = Alignment(0.5, reduction=reduction, dtype="float64")
        np.testing.assert_allclose(loss(z_i, z_j), reduce(expected), rtol=1e-6)
    # Weights of rows, where Keras can apply them.
    weights = np.arange(12.0)
    loss = Alignment(0.5, reduction="sum", dtype="float64")
    np.testing.assert_allclose(
        loss(z_i, z_j, sample_weight=weights),
        (weights * expected).sum(),
        rtol=1e-6,
    )


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", None])
def test_labels(reduction):
    z_i, z_j = projections()
    expected = supervised(z_i, z_j, LABELS, 0.5)
    loss = Supervised(0.5, reduction=reduction, dtype="float64")
    np.testing.assert_allclose(
        loss(z_i, z_j, labels=LABELS),
        expected if reduction is None else expected.mean(),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:, None],
        LABELS.astype("uint8"),
        tf.constant(LABELS),
        list(LABELS),
    ],
)
def test_forms_of_labels(labels):
    loss = Supervised()
    assert float(loss(*projections(), labels=labels)) == pytest.approx(
        float(loss(*projections(), labels=LABELS))
    )
    assert loss.given.dtype == "int32"
    assert tuple(loss.given.shape) == (6,)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_labels_are_not_rounded(dtype):
    # Of as many classes as there are images, as float32 cannot count them.
    labels = 2**24 + LABELS
    loss = Supervised(0.5, dtype=dtype)
    loss(*projections(), labels=labels)
    np.testing.assert_array_equal(loss.given, labels)


def test_in_a_graph():
    z_i, z_j = projections()
    loss = Supervised(0.5)
    signature = [tf.TensorSpec((None, 4))] * 2 + [
        tf.TensorSpec((None,), "int64")
    ]
    compiled = tf.function(
        lambda a, b, labels: loss(a, b, labels=labels),
        input_signature=signature,
    )
    # float32
    np.testing.assert_allclose(
        compiled(z_i.astype("float32"), z_j.astype("float32"), LABELS),
        supervised(z_i, z_j, LABELS, 0.5).mean(),
        rtol=1e-5,
    )


def test_labels_that_are_missing():
    with pytest.raises(ValueError, match="Supervised needs labels") as error:
        Supervised()(*projections())
    assert "(images, labels)" in str(error.value)


def test_labels_that_are_not_asked_for():
    z_i, z_j = projections()
    assert float(Alignment()(z_i, z_j, labels=LABELS)) == float(
        Alignment()(z_i, z_j)
    )


def test_a_subclass_must_say_what_views_cost():
    with pytest.raises(NotImplementedError, match="must implement `view_los"):
        ContrastiveLoss()(*projections())


@pytest.mark.parametrize("temperature", [0.3, LearnedTemperature(0.3, 0.2)])
def test_configuration(temperature):
    loss = Alignment(temperature, reduction="sum", name="a", dtype="float64")
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is Alignment
    assert copy.get_config() == loss.get_config()
    assert float(copy.temperature) == pytest.approx(0.3)
    assert float(copy(*projections())) == float(loss(*projections()))


def test_variables_are_made_by_build():
    for temperature, is_trained in ((0.3, False), (LearnedTemperature(), True)):
        loss = Alignment(temperature)
        assert loss.variables == []
        loss.build()
        loss.build()
        (variable,) = loss.variables
        assert variable.trainable == is_trained
        assert variable.shape == ()


@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        (None, TypeError, "`z_i` must be an array of numbers"),
        ([["a", "b"]] * 6, TypeError, "`z_i` must be an array of numbers"),
        ([[1.0, 2.0], [3.0]], TypeError, "`z_i` must be an array of numbers"),
        (np.ones((6, 4), complex), TypeError, "complex"),
        (3.0, ValueError, r"z_i.shape=\(\)"),
    ],
)
def test_what_are_no_projections(z, error, message):
    for loss in (Alignment(), Supervised()):
        kwargs = {"labels": LABELS} if loss.uses_labels else {}
        with pytest.raises(error, match=message):
            loss(z, z, **kwargs)


def test_lists_with_labels_and_weights():
    z_i, z_j = (z.tolist() for z in projections())
    loss = Supervised(reduction="sum")
    weights = [1.0] * 12
    assert np.isfinite(
        loss(z_i, z_j, sample_weight=weights, labels=list(LABELS))
    )
    for wrong in ([1.0] * 5, np.ones((6, 2)), [1.0] * 6):
        with pytest.raises(ValueError, match="a weight for each view"):
            loss(z_i, z_j, sample_weight=wrong, labels=LABELS)
    with pytest.raises(TypeError, match="of which NumPy makes no array"):
        loss(z_i, z_j, labels=[[1, 2], [3]])


@pytest.mark.parametrize("temperature", [1e-320, 1e-40, 1e-9, 1e300])
def test_temperatures_that_float32_does_not_hold(temperature):
    with pytest.raises(ValueError, match="`temperature` must be a positive"):
        Alignment(temperature)
    loss = Alignment(0.5)
    with pytest.raises(ValueError, match="`temperature` must be a positive"):
        loss.temperature = temperature


def test_a_learned_temperature_is_set_to_a_number():
    loss = Alignment(LearnedTemperature(0.5))
    with pytest.raises(TypeError, match="`temperature` must be"):
        loss.temperature = "0.2"
