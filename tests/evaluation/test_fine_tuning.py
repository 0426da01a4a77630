import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras.evaluation import (
    ImageClassifier,
    distill,
    extract_features,
    fine_tune,
    fine_tuning,
)
from simclr_keras.evaluation.labelled_images import copy_encoder

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 48)
IMAGES = 120 * np.eye(3)[LABELS][:, None, None] + RNG.integers(
    0, 136, (48, 4, 4, 3)
)
IMAGES = IMAGES.astype("uint8")
TRAIN, TEST = (IMAGES[:32], LABELS[:32]), (IMAGES[32:], LABELS[32:])


def make_encoder(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4, 4, 3)), *layers, keras.layers.Flatten()]
    )


@pytest.fixture
def model():
    encoder = make_encoder(
        keras.layers.Conv2D(6, 3, use_bias=False),
        keras.layers.BatchNormalization(momentum=0.5),
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        simclr_keras.ProjectionHead(5, num_layers=3),
        value_range=(0, 255),
    )
    model(IMAGES[:2])
    for variable in model.non_trainable_variables:
        if "float" in variable.dtype:  # Other statistics than those at first.
            variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return model


def by_hand(images, labels, kernel, epochs, rate):
    """Full batches of the paper's optimizer on softmax(x W + b), float64."""
    x = images.reshape(len(images), -1).astype("float64") / 255
    target = np.eye(3)[labels]
    weights = [kernel.astype("float64"), np.zeros(3)]
    velocity = [np.zeros_like(w) for w in weights]
    for step in range(epochs):
        logits = x @ weights[0] + weights[1]
        chance = np.exp(logits - logits.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        error = (chance - target) / len(x)
        gradients = [x.T @ error, error.sum(axis=0)]
        now = rate * (1 + np.cos(np.pi * step / epochs)) / 2
        for k, gradient in enumerate(gradients):
            velocity[k] = 0.9 * velocity[k] - now * gradient
            weights[k] = weights[k] + 0.9 * velocity[k] - now * gradient
    return weights


def test_equals_the_papers_optimizer_by_hand():
    tuned = fine_tune(
        make_encoder(), TRAIN, epochs=7, augmentation=None, learning_rate=0.8
    )
    fresh = keras.initializers.RandomNormal(stddev=0.01, seed=0)((48, 3))
    expected = by_hand(*TRAIN, np.array(fresh), 7, 0.8 * 32 / 256)
    for here, there in zip(tuned.model.get_weights(), expected):
        np.testing.assert_allclose(here, there, atol=2e-6)  # float32
    assert tuned.accuracy is None
    assert len(tuned.history["loss"]) == 7


def test_few_images_get_steps_enough(monkeypatch):
    monkeypatch.setattr(fine_tuning, "FEWEST_STEPS", 130)
    for batch_size, epochs in ((32, 130), (11, 60)):
        tuned = fine_tune(
            make_encoder(), TRAIN, batch_size=batch_size, augmentation=None
        )
        assert len(tuned.history["loss"]) == epochs


def test_a_copy_is_trained_and_the_model_stays(model):
    before = [w.copy() for w in model.get_weights()]
    tuned = fine_tune(model, TRAIN, TEST, epochs=30, learning_rate=0.4)
    for here, there in zip(model.get_weights(), before):
        np.testing.assert_array_equal(here, there)
    # All weights of the copy have moved, and what batch norm has seen.
    for here, there in zip(
        tuned.model.encoder.get_weights(), model.encoder.get_weights()
    ):
        assert not np.allclose(here, there, atol=1e-5)
    assert tuned.accuracy > 0.8
    names = tuned.model.name_classes(TEST[0], batch_size=5)
    assert tuned.accuracy == np.mean(names == TEST[1].astype(str))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head_layers", "output"),
    [(1, "relu_1"), (2, "relu_2"), (3, "projection")],
)
def test_from_a_layer_of_the_head(model, head_layers, output):
    tuned = fine_tune(
        model,
        TRAIN,
        epochs=1,
        learning_rate=1e-12,
        head_layers=head_layers,
        augmentation=None,
    ).model
    # What batch norm has seen moved in that epoch.
    tuned.encoder.set_weights(model.encoder.get_weights())
    kept = tuned.head.layers
    for copy, layer in zip(kept, model.projection_head.layers):
        copy.set_weights(layer.get_weights())
    h = tuned.encoder(IMAGES / 255, training=False)
    np.testing.assert_allclose(
        tuned.head(h, training=False),
        extract_features(model, IMAGES, output=output),
        atol=1e-5,
    )
    assert tuned.classifier.kernel.shape[0] == tuned.head.output_shape[-1]


@pytest.mark.slow
def test_one_seed_gives_one_classifier(model):
    tuned = [
        fine_tune(model, TRAIN, epochs=2, batch_size=10, seed=seed)
        for seed in (1, 1, 2)
    ]
    weights = [each.model.get_weights()[-2] for each in tuned]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.allclose(weights[0], weights[2])


def test_labels_are_any_integers_and_have_names(model):
    labels = np.array([40, -3, 7])[TRAIN[1]]
    tuned = fine_tune(
        model,
        (TRAIN[0], labels),
        (TRAIN[0], labels),
        epochs=60,
        learning_rate=0.4,
        augmentation=None,
        class_names=["b", "c", "a"],
    )
    assert tuned.accuracy > 0.9
    names = tuned.model.name_classes(TRAIN[0])
    right = names == np.array(["a", "b", "c"])[TRAIN[1]]
    assert right.mean() == tuned.accuracy


def test_a_saved_classifier_takes_images(model, tmp_path):
    tuned = fine_tune(model, TRAIN, epochs=1, head_layers=1).model
    tuned.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(
        loaded.predict(IMAGES, verbose=0), tuned.predict(IMAGES, verbose=0)
    )
    assert loaded.class_names == ["0", "1", "2"]


@pytest.mark.slow
def test_crops_have_the_size_of_the_encoders_images(model):
    large = np.repeat(np.repeat(IMAGES, 3, axis=1), 2, axis=2)
    tuned = fine_tune(model, (large[:32], TRAIN[1]), epochs=1)
    crop, flip = tuned.model.augmentation.layers
    assert (crop.height, crop.width) == (4, 4)
    assert crop.value_range == flip.value_range == (0, 255)
    assert tuned.model.predict(large[:5], verbose=0).shape == (5, 3)


@pytest.mark.slow
def test_the_range_of_images_of_an_encoder():
    for images, expected in ((IMAGES, (0, 255)), (IMAGES / 255.0, (0, 1))):
        tuned = fine_tune(make_encoder(), (images, LABELS), epochs=1)
        assert tuned.model.value_range == expected


@pytest.mark.slow
def test_lars_and_callbacks_and_subclassed_encoders():
    @keras.saving.register_keras_serializable(package="tests_of_fine_tuning")
    class Encoder(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(8)

        def call(self, images):
            return self.dense(keras.ops.reshape(images, (-1, 48)))

    encoder = Encoder()
    encoder(np.zeros((1, 4, 4, 3)))
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(
            stop.model, "stop_training", True
        )
    )
    tuned = fine_tune(
        encoder,
        TRAIN,
        epochs=9,
        optimizer=simclr_keras.LARS(0.005 * 32**0.5),
        callbacks=[stop],
    )
    assert len(tuned.history["loss"]) == 1
    assert isinstance(tuned.model.optimizer, simclr_keras.LARS)


@pytest.mark.slow
def test_under_replicas():
    alone = fine_tune(make_encoder(), TRAIN, epochs=2, augmentation=None)
    devices = [f"CPU:{i}" for i in range(len(tf.config.list_logical_devices()))]
    with tf.distribute.MirroredStrategy(devices).scope():
        tuned = fine_tune(make_encoder(), TRAIN, epochs=2, augmentation=None)
    for here, there in zip(
        tuned.model.get_weights(), alone.model.get_weights()
    ):
        np.testing.assert_allclose(here, there, atol=1e-5)


class WithoutConfig(keras.layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, images):
        return self.dense(keras.ops.reshape(images, (-1, 48)))


def without_config():
    layer = WithoutConfig(3)
    layer(np.zeros((1, 4, 4, 3)))
    return layer


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        (
            (without_config(), TRAIN),
            {},
            TypeError,
            "cannot be copied.*get_conf",
        ),
        ((WithoutConfig(3), TRAIN), {}, ValueError, "is not built"),
        ((make_encoder(), IMAGES), {}, TypeError, "a pair .*ndarray"),
        ((make_encoder(), (IMAGES[0], LABELS)), {}, ValueError, "N, H, W, C"),
        (
            (make_encoder(), TRAIN, (IMAGES, LABELS + 1)),
            {},
            ValueError,
            r"Received: \[3\], while `train` has \[0, 1, 2\]",
        ),
        ((make_encoder(), TRAIN), {"epochs": 0}, ValueError, "epochs=0"),
        (
            (make_encoder(), TRAIN),
            {"head_layers": 1},
            ValueError,
            "needs a SimCLRModel",
        ),
        (
            (make_encoder(), TRAIN),
            {"augmentation": "crop"},
            ValueError,
            "augmentation='crop'",
        ),
        (
            (make_encoder(), TRAIN),
            {"class_names": ["a", "b"]},
            ValueError,
            "2 names for 3 labels",
        ),
        (
            (make_encoder(), (IMAGES, np.zeros(48, int))),
            {},
            ValueError,
            "at least two classes",
        ),
    ],
)
def test_what_is_refused(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        fine_tune(*arguments, **keywords)


def test_more_layers_than_the_head_has(model):
    with pytest.raises(ValueError, match=r"from 0 to 3, .*head_layers=4"):
        fine_tune(model, TRAIN, head_layers=4)


def test_a_number_of_classes_names_them():
    assert ImageClassifier(make_encoder(), 3).class_names == ["0", "1", "2"]


# --- The copy ----------------------------------------------------------------
def test_a_copy_of_a_normalization_that_was_adapted():
    normalization = keras.layers.Normalization()
    normalization.adapt(IMAGES / 255)
    encoder = make_encoder(normalization)
    copy = copy_encoder(encoder, IMAGES.shape)
    np.testing.assert_array_equal(
        copy.predict(IMAGES / 255, verbose=0),
        encoder.predict(IMAGES / 255, verbose=0),
    )


@pytest.mark.parametrize("freeze", ["all", "first"])
@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_nothing_is_frozen_in_a_copy(kind, freeze):
    encoder = make_encoder(
        keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()
    )
    if kind == "functional":
        encoder = keras.Model(encoder.inputs, encoder.outputs)
    (encoder if freeze == "all" else encoder.layers[-3]).trainable = False
    before = len(encoder.trainable_variables)
    copy = copy_encoder(encoder, IMAGES.shape)
    assert len(copy.trainable_variables) == 4
    assert len(encoder.trainable_variables) == before < 4


class Doubled(keras.layers.Layer):
    """Of this file, not registered."""

    def call(self, x):
        return 2 * x


def test_layers_that_are_not_registered(tmp_path):
    encoder = make_encoder(Doubled())
    tuned = fine_tune(encoder, TRAIN, epochs=1).model
    # Also as the teacher of a student.
    distill(tuned, make_encoder(), IMAGES, epochs=1)


def test_a_model_with_representations_of_its_own_is_refused():
    class Constant(simclr_keras.SimCLRModel):
        def encode(self, images, training=None):
            return 0 * super().encode(images, training)

    model = Constant(make_encoder(), value_range=(0, 255))
    with pytest.raises(ValueError, match="Constant overrides `encode`"):
        fine_tune(model, TRAIN)


def test_a_diverged_classifier_has_no_accuracy():
    with pytest.raises(ValueError, match=r"has diverged\. Lower the learning"):
        fine_tune(
            make_encoder(keras.layers.Dense(3)),
            TRAIN,
            TEST,
            epochs=3,
            learning_rate=1e30,
        )


def test_checkpoints_save_it(tmp_path):
    checkpoints = simclr_keras.callbacks.Checkpoints(tmp_path)
    fine_tune(make_encoder(), TRAIN, epochs=2, callbacks=[checkpoints])
    assert checkpoints.positions()


def test_features_of_a_classifier_are_those_of_its_encoder(model):
    tuned = fine_tune(model, TRAIN, epochs=1).model
    np.testing.assert_allclose(
        extract_features(tuned, IMAGES),
        tuned.encoder.predict(IMAGES / 255, verbose=0),
        atol=1e-6,
    )


def test_a_classifier_looks_at_its_images():
    classifier = ImageClassifier(make_encoder(), 2)
    with pytest.warns(UserWarning, match=r"lie in \[0, 1\]"):
        classifier.name_classes(IMAGES / 255)
    with pytest.raises(ValueError, match="N, H, W, C"):
        classifier.name_classes(IMAGES[0])
    with pytest.raises(ValueError, match="do not go with value_range"):
        ImageClassifier(make_encoder(), 2, value_range=(0, 1))(IMAGES)
    with pytest.raises(TypeError, match="dtype bool"):
        fine_tune(make_encoder(), (IMAGES > 9, LABELS))
    flip = simclr_keras.augmentation.RandomHorizontalFlip(value_range=(0, 1))
    with pytest.raises(ValueError, match="must be that of the augmentation"):
        fine_tune(make_encoder(), TRAIN, augmentation=flip)


@pytest.mark.parametrize("names", ["ab", {0: "a", 1: "b"}, 3.0])
def test_names_are_a_sequence(names):
    with pytest.raises(TypeError, match="must be a sequence of strings"):
        ImageClassifier(make_encoder(), names)
    with pytest.raises(ValueError, match="a name of its own"):
        ImageClassifier(make_encoder(), ["a", "a"])


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"head_layers": 1.0}, TypeError, "`head_layers` must be an integer"),
        ({"head_layers": -1}, ValueError, "from 0 to 3.*head_layers=-1"),
        ({"learning_rate": 0}, ValueError, "learning_rate=0"),
        ({"epochs": True}, TypeError, "epochs=True"),
    ],
)
def test_numbers_out_of_range(keywords, error, message, model):
    with pytest.raises(error, match=message):
        fine_tune(model, TRAIN, **keywords)
