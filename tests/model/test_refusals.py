"""What is refused before the first step, as it can be known by then."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import ProjectionHead, SimCLRAugmentation, SimCLRModel
from simclr_keras.augmentation import RandomHorizontalFlip
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    VIEWS,
    dataset,
    fit,
    tiny_encoder,
    tiny_model,
)

SINGLE = "at least two images in a batch"


def refused(model, message, *data, **kwargs):
    """`fit` raises, and nothing is trained."""
    with pytest.raises(ValueError, match=message):
        fit(model, *data, **kwargs)
    assert int(model.optimizer.iterations) == 0


# --- Batches of a single image -----------------------------------------------
@pytest.mark.parametrize(
    "data",
    [
        (IMAGES[:1],),
        (IMAGES[:9],),
        ({"image": IMAGES[:9], "label": LABELS[:9]},),
        ({key: views[:9] for key, views in VIEWS.items()},),
    ],
)
def test_arrays_with_one_image_over(data):
    message = f"{SINGLE}.*which leaves one over"
    refused(tiny_model(), message, *data)
    with pytest.raises(ValueError, match=message):
        tiny_model().evaluate(*data, batch_size=8, verbose=0)


def test_the_argument_with_one_image_over_is_named():
    model = tiny_model()
    one_over = np.concatenate([IMAGES, IMAGES[:1]])
    refused(model, "17 images of `x`", one_over)
    refused(
        model,
        "17 images of `validation_data`",
        IMAGES,
        validation_data=one_over,
    )
    refused(
        model, "1 images of `validation_split`", IMAGES, validation_split=0.05
    )


def test_sizes_of_batches():
    for size, error in (("8", TypeError), (4.0, TypeError), (-4, ValueError)):
        message = f"`batch_size` must be .*Received: batch_size={size!r}"
        for method in (
            SimCLRModel.fit,
            SimCLRModel.evaluate,
            SimCLRModel.predict,
        ):
            with pytest.raises(error, match=message):
                method(tiny_model(), IMAGES, batch_size=size, verbose=0)
    message = "`validation_batch_size` must be a positive integer"
    refused(tiny_model(), message, IMAGES, validation_batch_size=0)
    tiny_model(compiling=EAGER).fit(
        *(IMAGES, None, np.int64(8)), verbose=0, steps_per_epoch=0
    )


def test_labels_that_nothing_uses_are_as_many():
    message = "as many labels as images"
    refused(tiny_model(), message, {"image": IMAGES, "label": LABELS[:9]})
    refused(tiny_model(), message, IMAGES, LABELS[:9])


def test_batches_of_one_image():
    with pytest.raises(ValueError, match=SINGLE):
        tiny_model(compiling=EAGER).train_on_batch(IMAGES[:1])
    always_one = tf.data.Dataset.from_tensor_slices(IMAGES).batch(
        1, drop_remainder=True
    )
    refused(tiny_model(), SINGLE, always_one)


def test_a_last_batch_of_one_image():
    # Which the step alone can tell.
    with pytest.raises(tf.errors.InvalidArgumentError, match=SINGLE):
        fit(tiny_model(), dataset(IMAGES[:9]))


def test_a_remainder_that_no_step_reaches():
    images = np.concatenate([IMAGES, IMAGES[:1]])  # 17
    model = tiny_model(compiling=EAGER)
    # Keras goes on in the second epoch where the first one ended.
    for epochs in ({"steps_per_epoch": 2, "epochs": 2}, {"epochs": 1}):
        refused(model, "leaves one over", images, **epochs)
    fit(model, images, epochs=1, steps_per_epoch=2)
    assert int(model.optimizer.iterations) == 2
    model.evaluate(images, batch_size=8, steps=2, verbose=0)


def test_an_empty_dataset():
    for images in (IMAGES, IMAGES.astype("float32")):
        empty = dataset(images).take(0)
        model = tiny_model(compiling=EAGER)
        refused(model, "empty", empty)
        with pytest.raises(ValueError, match="empty"):
            model.evaluate(empty, verbose=0)


# --- Labels and validation data ----------------------------------------------
def test_a_probe_without_labels():
    message = "num_classes=4 trains a linear probe"
    for images in (IMAGES, dataset(IMAGES)):
        refused(tiny_model(num_classes=NUM_CLASSES), message, images)


def test_validation_data_without_labels_for_the_probe():
    model = tiny_model(num_classes=NUM_CLASSES)
    for validation_data in (IMAGES, dataset(IMAGES), (IMAGES, None)):
        refused(
            model,
            "validation_data",
            IMAGES,
            LABELS,
            validation_data=validation_data,
        )


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"validation_data": (IMAGES[:9],)}, f"{SINGLE}.*9 images"),
        # 25 images: 16 to train on, and 9 in batches of 8.
        ({"validation_split": 0.36}, f"{SINGLE}.*9 images"),
        (
            {"validation_data": (IMAGES[:8] * np.float32(9),)},
            "Found values from",
        ),
        (
            {"validation_data": (IMAGES, LABELS, np.ones(16))},
            "takes no `sample_weight`",
        ),
    ],
)
def test_validation_data(validation, message):
    images = np.resize(IMAGES, (25, *IMAGES.shape[1:]))
    if "validation_data" in validation:
        images = images[:16]
    refused(tiny_model(), message, images, **validation)


def test_no_images():
    model = tiny_model(compiling=EAGER)
    for use in (model.fit, model.evaluate, model.predict):
        for x in (None, IMAGES[:0]):
            with pytest.raises(ValueError, match="needs images"):
                use(x, verbose=0)


def test_a_dataset_that_does_not_know_its_axes():
    unknown = tf.data.Dataset.from_generator(
        lambda: [IMAGES[:8]], output_types=tf.uint8
    )
    # Not one batch by one, but in a graph.
    with pytest.raises(ValueError, match="how many axes they have"):
        tiny_model().fit(unknown, verbose=0)
    tiny_model(compiling=EAGER).fit(unknown, verbose=0)


def test_an_evaluation_size_that_the_encoder_does_not_take():
    augmentation = SimCLRAugmentation(8, 8, evaluation_size=12)
    with pytest.raises(ValueError, match=r"\(8, 8, 3\).*=\(12, 12\)"):
        SimCLRModel(tiny_encoder(), ProjectionHead(4), augmentation)


def test_views_of_several_evaluation_sizes():
    augmentations = [
        SimCLRAugmentation(8, 8, evaluation_size=size) for size in (None, 12)
    ]
    with pytest.raises(ValueError, match=r"first view.*None, \(12, 12"):
        SimCLRModel(
            tiny_encoder((None, None, 3)), ProjectionHead(4), augmentations
        )


def test_an_encoder_of_many_outputs():
    class Two(keras.layers.Layer):
        def call(self, images):
            return {"a": images[:, 0, 0], "b": images[:, 1, 1]}

    model = tiny_model(encoder=Two(), compiling=EAGER)
    with pytest.raises(TypeError, match=r"one tensor \(B, F\).*dict"):
        fit(model, IMAGES)


# --- Subclasses that cannot be meant ------------------------------------------
class LossOfEachImage(SimCLRModel):
    def contrastive_loss(self, projections, labels, views, training):
        z_1, z_2 = projections
        return keras.ops.mean((z_1 - z_2) ** 2, axis=-1)


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_a_loss_that_is_not_a_scalar(micro_batch_size):
    model = tiny_model(
        cls=LossOfEachImage, compiling={"micro_batch_size": micro_batch_size}
    )
    refused(model, r"must return a scalar.*\(8,\).*global_mean", IMAGES)


@pytest.mark.parametrize("name", ["scale", "loss_tracker", "encode"])
def test_attributes_that_are_methods(name):
    with pytest.raises(AttributeError, match=f"`{name}`.*another name"):
        setattr(tiny_model(), name, 0.5)


@pytest.mark.parametrize("name", ["augmentation", "num_classes", "value_range"])
def test_attributes_of_which_the_steps_are_made(name):
    model = tiny_model()
    before = getattr(model, name)
    with pytest.raises(AttributeError, match=f"`{name}`.*Make another model"):
        setattr(model, name, 7)
    assert getattr(model, name) is before
    # What is so already may be said again, as subclasses do.
    setattr(model, name, list(before) if name == "value_range" else before)


class SaysItFirst(SimCLRModel):
    def __init__(self, encoder, num_classes, **kwargs):
        self.num_classes = num_classes
        super().__init__(encoder, num_classes=num_classes, **kwargs)
        self.num_classes = num_classes


def test_a_subclass_may_set_what_it_passes_on():
    model = tiny_model(cls=SaysItFirst, num_classes=3)
    assert model.num_classes == 3


def test_images_of_other_channels_than_before():
    model = tiny_model(compiling=EAGER)
    fit(model, IMAGES, epochs=1)
    with pytest.raises(ValueError, match=r"3 channels. Received images of 1"):
        fit(model, IMAGES[..., :1], epochs=1)


def test_other_attributes():
    model = tiny_model()
    model.scale_of_views = 0.5
    model.predictor = keras.layers.Dense(4)
    assert model.predictor in model.layers


@pytest.mark.parametrize("shape", [(16, 16, 3), (8, 8, 1)])
def test_an_encoder_of_other_images(shape):
    encoder = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
    model = tiny_model(encoder=encoder)
    refused(model, r"takes images of shape \(.*\(8, 8, 3\)", IMAGES)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_model_that_is_not_compiled(method):
    model = SimCLRModel(tiny_encoder(), augmentation=RandomHorizontalFlip())
    with pytest.raises(ValueError, match=r"call `compile\(\)`"):
        getattr(model, method)(IMAGES)


def test_nan_is_counted():
    images = IMAGES.astype("float32")
    images[3, 2, 1, 0] = np.nan
    refused(tiny_model(), r"Found 1 NaN, and values from \d.* to \d", images)


def test_jit_compile_of_replicas():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = tiny_model(compiling={"jit_compile": True})
    with pytest.raises(ValueError, match="`jit_compile=True` does not work"):
        fit(model, IMAGES)
