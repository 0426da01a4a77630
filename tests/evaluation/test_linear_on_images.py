import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras.augmentation import RandomResizedCrop
from simclr_keras.evaluation import (
    extract_features,
    fine_tune,
    linear_evaluation,
    linear_evaluation_on_images,
)
from simclr_keras.evaluation.subsets import validation_split
from tests.evaluation.test_fine_tuning import (
    IMAGES,
    TEST,
    TRAIN,
    by_hand,
    make_encoder,
)


def test_equals_the_papers_optimizer_by_hand():
    result = linear_evaluation_on_images(
        make_encoder(), TRAIN, epochs=7, augmentation=None, learning_rates=[0.8]
    )
    expected = by_hand(*TRAIN, np.zeros((48, 3)), 7, 0.8 * 32 / 256)
    for here, there in zip(result.model.get_weights(), expected):
        np.testing.assert_allclose(here, there, atol=2e-6)  # float32
    assert (result.accuracy, result.validation_accuracy) == (None, {})


def test_rates_side_by_side_are_each_as_if_alone():
    keywords = {"epochs": 5, "batch_size": 9, "augmentation": None}
    rates = (0.01, 1.0, 30.0)
    together = linear_evaluation_on_images(
        make_encoder(), TRAIN, TEST, learning_rates=rates, **keywords
    )
    found = together.validation_accuracy
    is_held_out = validation_split(TRAIN[1], 0.1, 0)
    train = tuple(part[~is_held_out] for part in TRAIN)
    held_out = tuple(part[is_held_out] for part in TRAIN)
    alone = {
        rate: linear_evaluation_on_images(
            make_encoder(), train, held_out, learning_rates=[rate], **keywords
        )
        for rate in rates
    }
    assert found == {rate: each.accuracy for rate, each in alone.items()}
    best = together.learning_rate
    assert best == max(rates, key=found.get)
    for here, there in zip(
        together.model.get_weights(), alone[best].model.get_weights()
    ):
        np.testing.assert_allclose(here, there, atol=1e-5)  # float32
    assert together.accuracy > 0.8


@pytest.mark.parametrize(
    "is_composed", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_without_augmentation_images_are_those_that_the_model_evaluates(
    is_composed,
):
    crop = RandomResizedCrop(3, 3)
    encoder = keras.Sequential([keras.Input((3, 3, 3)), keras.layers.Flatten()])
    model = simclr_keras.SimCLRModel(
        encoder,
        augmentation=keras.Sequential([crop]) if is_composed else crop,
    )
    keywords = {"epochs": 3, "augmentation": None, "value_range": (0, 255)}
    found = linear_evaluation_on_images(model, TRAIN, TEST, **keywords)
    smaller = [
        (np.asarray(crop.evaluation()(images)), labels)
        for images, labels in (TRAIN, TEST)
    ]
    expected = linear_evaluation_on_images(encoder, *smaller, **keywords)
    for here, there in zip(
        found.model.get_weights(), expected.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(here, there, atol=1e-6)  # float32
    assert found.accuracy == expected.accuracy
    tuned = fine_tune(model, TRAIN, TEST, **keywords)
    expected = fine_tune(encoder, *smaller, **keywords)
    for here, there in zip(
        tuned.model.get_weights(), expected.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(here, there, atol=1e-6)  # float32


def test_a_frozen_encoder_does_not_move():
    encoder = make_encoder(
        keras.layers.Conv2D(6, 3),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.Dropout(0.5, seed=1),
    )
    encoder.layers[1].moving_mean.assign(np.linspace(-1, 1, 6))
    before = [w.copy() for w in encoder.get_weights()]
    result = linear_evaluation_on_images(
        encoder, TRAIN, TEST, epochs=20, learning_rates=(0.3, 3.0)
    )
    for weights in (encoder, result.model.encoder):
        for here, there in zip(weights.get_weights(), before):
            np.testing.assert_array_equal(here, there)
    assert encoder.trainable
    assert result.accuracy > 0.8
    # Without augmentation and in inference mode throughout: a convex problem,
    # which L-BFGS solves as well.
    features = [
        extract_features(encoder, images / np.float32(255))
        for images in (TRAIN[0], TEST[0])
    ]
    other = linear_evaluation(features[0], TRAIN[1], features[1], TEST[1])
    assert abs(other.accuracy - result.accuracy) < 0.2


def test_dropout_of_the_encoder_is_off():
    encoder = make_encoder(keras.layers.Dropout(0.9, seed=1))
    with_it, without = (
        linear_evaluation_on_images(
            each, TRAIN, epochs=3, augmentation=None
        ).model.get_weights()
        for each in (encoder, make_encoder())
    )
    for here, there in zip(with_it[-2:], without[-2:]):
        np.testing.assert_array_equal(here, there)


def test_a_saved_classifier_takes_images(tmp_path):
    result = linear_evaluation_on_images(
        make_encoder(), TRAIN, TEST, epochs=2, class_names=["a", "b", "c"]
    )
    result.model.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(
        loaded.name_classes(IMAGES), result.model.name_classes(IMAGES)
    )


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"learning_rates": ()}, r"learning_rates=\(\)"),
        ({"learning_rates": (0.1, 0)}, "all positive"),
        (
            {"learning_rates": (0.1, 1), "validation_fraction": 1e-9},
            "which is none; raise it",
        ),
        ({"validation_fraction": 1.0}, "both excluded"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"value_range": (0, 1)}, r"do not go with value_range=\(0, 1\)"),
    ],
)
def test_what_is_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        linear_evaluation_on_images(make_encoder(), TRAIN, **keywords)


def test_a_loaded_classifier_is_frozen_still(tmp_path):
    encoder = make_encoder(keras.layers.Dense(3), keras.layers.Dropout(0.5))
    model = linear_evaluation_on_images(
        encoder, TRAIN, epochs=1, augmentation=None
    ).model
    model.save(tmp_path / "linear.keras")
    loaded = keras.saving.load_model(tmp_path / "linear.keras")
    assert len(loaded.trainable_variables) == 2
    outputs = [
        keras.ops.convert_to_numpy(loaded(IMAGES, training=training))
        for training in (True, False)
    ]
    np.testing.assert_array_equal(*outputs)
