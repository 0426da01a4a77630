import keras
import numpy as np
import pytest

from simclr_keras.evaluation import ImageClassifier, distill, fine_tune
from tests.evaluation.test_fine_tuning import (
    IMAGES,
    LABELS,
    TEST,
    TRAIN,
    make_encoder,
)


@pytest.fixture(scope="module")
def teacher():
    return fine_tune(
        make_encoder(), TRAIN, epochs=40, learning_rate=0.4, augmentation=None
    ).model


def by_hand(images, teacher, kernel, temperature, labels, weight, rate, steps):
    """Full batches of gradient descent on the paper's loss, float64."""
    x = images.reshape(len(images), -1).astype("float64") / 255
    kernel, bias = kernel.astype("float64"), np.zeros(3)

    def softmax(logits):
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    target = softmax(teacher.astype("float64") / temperature)
    is_labelled = labels >= 0
    one_hot = np.eye(3)[labels] * is_labelled[:, None]
    for _ in range(steps):
        logits = x @ kernel + bias
        # The gradients of both cross entropies with respect to the logits.
        soft = (softmax(logits / temperature) - target) / temperature
        hard = softmax(logits) * is_labelled[:, None] - one_hot
        error = ((1 - weight) * soft + weight * hard) / len(x)
        kernel, bias = kernel - rate * x.T @ error, bias - rate * error.sum(0)
    return kernel, bias


@pytest.mark.parametrize(
    ("temperature", "weight"), [(1.0, 0.0), (4.0, 0.0), (2.0, 0.3)]
)
def test_equals_the_papers_loss_by_hand(teacher, temperature, weight):
    labels = np.where(np.arange(48) % 3, LABELS, -1)
    result = distill(
        teacher,
        make_encoder(),
        IMAGES,
        temperature=temperature,
        labels=labels,
        label_weight=weight,
        epochs=6,
        optimizer=keras.optimizers.SGD(0.3),
        augmentation=None,
        seed=5,
    )
    fresh = keras.initializers.RandomNormal(stddev=0.01, seed=5)((48, 3))
    expected = by_hand(
        IMAGES,
        teacher.predict(IMAGES, verbose=0),
        np.array(fresh),
        temperature,
        labels,
        weight,
        0.3,
        6,
    )
    for here, there in zip(result.model.get_weights(), expected):
        np.testing.assert_allclose(here, there, atol=2e-6)  # float32


def test_a_student_learns_without_labels(teacher, tmp_path):
    before = [w.copy() for w in teacher.get_weights()]
    student = make_encoder(
        keras.layers.Conv2D(3, 3, use_bias=False),
        keras.layers.BatchNormalization(momentum=0.5),
    )
    theirs = [w.copy() for w in student.get_weights()]
    result = distill(
        teacher, student, TRAIN[0], TEST, epochs=60, learning_rate=0.4
    )
    for model, weights in ((teacher, before), (student, theirs)):
        for here, there in zip(model.get_weights(), weights):
            np.testing.assert_array_equal(here, there)
    assert teacher.trainable
    assert student.trainable
    assert result.accuracy > 0.8
    assert len(result.history["loss"]) == 60
    assert result.model.class_names == teacher.class_names
    result.model.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(
        loaded.name_classes(IMAGES), result.model.name_classes(IMAGES)
    )


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"teacher": make_encoder()}, TypeError, "an ImageClassifier.*Sequent"),
        ({"temperature": 0}, ValueError, "temperature=0"),
        ({"label_weight": 0.5}, ValueError, "label_weight=0.5, labels=None"),
        ({"label_weight": 2, "labels": LABELS}, ValueError, "label_weight=2"),
        ({"labels": LABELS + 1}, ValueError, "from -1 to 2.* from 1 to 3"),
        ({"labels": LABELS[:3]}, ValueError, "one label for each of the 48"),
        ({"test": (IMAGES, LABELS - 1)}, ValueError, "from 0 to 2.*from -1"),
        ({"images": IMAGES[0]}, ValueError, "N, H, W, C"),
        (
            {"images": IMAGES.astype("float32") * 2},
            ValueError,
            "Received: values from 0.0 to 510",
        ),
    ],
)
def test_what_is_refused(keywords, error, message):
    arguments = {
        "teacher": ImageClassifier(make_encoder(), 3),
        "student": make_encoder(),
        "images": IMAGES,
        **keywords,
    }
    with pytest.raises(error, match=message):
        distill(**arguments)


def test_regularizers_of_the_student_are_part_of_the_loss(teacher):
    student = make_encoder(keras.layers.Dense(3, kernel_regularizer="l2"))
    plain = make_encoder(keras.layers.Dense(3))
    losses = [
        distill(teacher, each, IMAGES, epochs=1, augmentation=None).history
        for each in (student, plain)
    ]
    kernel = student.get_weights()[0]
    difference = losses[0]["loss"][0] - losses[1]["loss"][0]
    # The loss of the first step, with Keras's l2 of 0.01.
    assert difference == pytest.approx(0.01 * np.sum(kernel**2), rel=1e-3)
