"""What a watch sees of values as they pass, and tells."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.model.value_watch import ValueWatch

IMAGES = np.full((2, 3, 3, 1), 100, "float32")
OUTSIDE = r"within value_range=\(0, 255\)"


def with_one(value):
    images = IMAGES.copy()
    images[1, 2, 1, 0] = value
    return images


def watched(*batches, num_classes=None, value_range=(0, 255), compiled=False):
    watch = ValueWatch(value_range, num_classes)
    look = tf.function(watch.look, jit_compile=True) if compiled else watch.look
    for batch in batches:
        look({key: tf.constant(value) for key, value in batch.items()})
    return watch


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "value", [256.0, -1.0, np.nan, np.inf, -np.inf, 255.03]
)
def test_images_outside_the_range(value, compiled):
    wrong = {"image": with_one(value)}
    watch = watched(wrong, {"image": IMAGES}, compiled=compiled)
    with pytest.raises(ValueError, match=OUTSIDE):
        watch.tell()


@pytest.mark.parametrize("key", ["view_1", "view_2", "view_3"])
def test_views_outside_the_range(key):
    views = dict.fromkeys(("view_1", "view_2", "view_3"), IMAGES)
    watch = watched({**views, key: with_one(np.nan)})
    with pytest.raises(ValueError, match=OUTSIDE):
        watch.tell()


def test_the_step_is_told_at_once():
    watch = ValueWatch((0, 255), 4)
    labels = np.array([0, 3])
    for images, classes, expected in (
        (IMAGES, labels, (False, False)),
        (with_one(-1.0), labels, (True, False)),
        (IMAGES, labels + 1, (False, True)),
        (IMAGES, labels - 1.0, (False, True)),
        (IMAGES, labels * np.nan, (False, True)),
    ):
        found = watch.look({"image": images, "label": classes})
        assert tuple(bool(each) for each in found) == expected


@pytest.mark.parametrize(
    ("value_range", "images"),
    [
        ((0, 255), IMAGES),
        ((0, 255), with_one(255.02)),  # 1e-4 of the range is rounding.
        ((-1, 1), IMAGES / 255),
        ((0, 1), IMAGES / 255),
        ((0, 255), (IMAGES / 100).astype("int32")),  # Dark, but integers.
    ],
)
def test_nothing_is_told_of_what_is_right(value_range, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        watched({"image": images}, value_range=value_range).tell()


def test_nothing_is_looked_at_that_the_dtype_guarantees():
    watch = ValueWatch((0, 255))
    images = keras.KerasTensor((None, 4, 4, 3), "uint8")  # has no values
    assert watch.look({"image": images}) == (None, None)


def test_floats_in_0_to_1_are_told_once():
    watch = watched({"image": IMAGES / 255})
    with pytest.warns(UserWarning, match="all but black"):
        watch.tell()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        watch.tell()
        # Of a dark batch among others nothing is told.
        watched({"image": IMAGES / 255}, {"image": IMAGES}).tell()


def test_labels_that_are_not_classes():
    batch = {"image": IMAGES, "label": np.array([0, 4])}
    with pytest.raises(ValueError, match="num_classes=4"):
        watched(batch, num_classes=4).tell()
    watched(batch).tell()  # Without a probe they do not matter.
    one_hot = {"image": IMAGES, "label": np.eye(4)[:2]}
    watched(one_hot, num_classes=4).tell()


def test_runs_are_told_of_one_by_one():
    watch = ValueWatch((0, 255))
    with pytest.raises(RuntimeError), watch.run():  # noqa: PT012
        watch.look({"image": with_one(np.nan)})
        raise RuntimeError
    watch.tell()
    with watch.run():
        watch.look({"image": with_one(np.nan)})
        with watch.run():  # of a callback
            watch.look({"image": IMAGES})
            watch.tell()
        with pytest.raises(ValueError, match=OUTSIDE):
            watch.tell()


@pytest.mark.parametrize("compiled", [False, True])
def test_zero_projections_are_told_once(compiled):
    watch = ValueWatch((0, 255))
    look = watch.look_at_projections
    look = tf.function(look, jit_compile=True) if compiled else look
    look(tf.constant([[0.0, 1e-30], [1.0, 0.0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        watch.tell()
        look(tf.constant([[1.0, 0.0], [0.0, -0.0]]))
        with pytest.warns(UserWarning, match="exactly zero"):
            watch.tell()
        watch.tell()


@pytest.mark.parametrize("arguments", [{}, {"micro_batch_size": 2}])
def test_fit_tells_of_zero_projections(arguments):
    import simclr_keras

    model = simclr_keras.SimCLRModel(
        keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)]),
        keras.Sequential([keras.layers.Dense(4, use_bias=False)]),
        augmentation=keras.layers.Identity(),
    )
    model.compile("sgd", simclr_keras.NTXentLoss(), **arguments)
    black = np.zeros((4, 8, 8, 3), "uint8")
    with pytest.warns(UserWarning, match="projections are exactly zero") as w:
        model.fit(black, batch_size=4, verbose=0)
    told = [each for each in w if "exactly zero" in str(each.message)]
    assert [each.filename for each in told] == [__file__]
