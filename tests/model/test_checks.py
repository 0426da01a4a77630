import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.model import checks
from simclr_keras.value_range import warn_of_scaled_images
from tests.model.test_batch import LABELS, images


def test_check_negatives():
    checks.check_negatives({"image": images(2)})
    checks.check_negatives({"image": keras.KerasTensor((None, 6, 6, 3))})
    for batch in (
        {"image": images(1)},
        {"view_1": images(1), "view_2": images(1)},
    ):
        with pytest.raises(ValueError, match=r"two images .* larger"):
            checks.check_negatives(batch)


@pytest.mark.parametrize(
    ("value_range", "values"),
    [
        ((0, 255), images()),
        ((0, 255), images(dtype="float32")),
        ((0, 255), images(dtype="float16")),
        ((0, 255), images(channels=1).astype("float64")),
        ((0, 65535), images(dtype="uint16") * 257),
        ((0, 1), images(dtype="float32") / 255),
        ((-1, 1), images(dtype="float32") / 127.5 - 1),
        # 1e-4 of the range is rounding.
        ((0, 255), np.full((2, 6, 6, 3), 255.02, "float32")),
        ((0, 1), np.full((2, 6, 6, 3), -0.00009, "float32")),
    ],
)
def test_images_in_their_range(value_range, values):
    assert not checks.check_arrays({"image": values}, value_range)
    assert not checks.check_arrays({"image": tf.constant(values)}, value_range)


@pytest.mark.parametrize("key", ["image", "view_1", "view_2"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (256.0, "Found values from 0.0 to 256.0."),
        (-1.0, "Found values from -1.0 to 254.0."),
        (np.nan, "Found 1 NaN, and values from"),
        (np.inf, "Found values from 0.0 to inf."),
    ],
)
def test_images_outside_their_range(key, value, found):
    batch = {"image": images(dtype="float32")}
    if key != "image":
        batch = {k: images(dtype="float32") for k in ("view_1", "view_2")}
    for values in batch.values():
        values[0, 0, 0, 0] = 0
        values[values == 255] = 254
    batch[key][1, 2, 3, 0] = value
    with pytest.raises(ValueError, match="with `value_range`") as error:
        checks.check_arrays(batch, (0, 255))
    assert "numbers within value_range=(0, 255)" in str(error.value)
    assert found in str(error.value)


def test_pixels_where_fractions_are_due():
    with pytest.raises(ValueError, match=r"value_range=\(0, 1\)"):
        checks.check_arrays({"image": images()}, (0, 1))


def test_integers_outside_their_range():
    with pytest.raises(ValueError, match=r"from .* to 65535"):
        checks.check_arrays(
            {"image": images(dtype="uint16") * 257 // 65535 * 65535},
            (0, 255),
        )


@pytest.mark.parametrize("value_range", [(0, 255), (0, 65535), (-128, 127)])
def test_floats_in_0_to_1_are_told_of(value_range):
    values = images(dtype="float32") / 255
    assert checks.check_arrays({"image": values}, value_range)
    message = r"floats that lie in \[0, 1\], but value_range is .*\(0, 1\)"
    with pytest.warns(UserWarning, match=message) as caught:
        warn_of_scaled_images(value_range)
    assert str(value_range) in str(caught[0].message)


def test_integers_in_0_to_1_are_not_told_of():
    ones = np.ones((2, 6, 6, 3), "int32")
    assert not checks.check_arrays({"image": ones}, (0, 255))


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS[:, None],
        LABELS.astype("uint8"),
        LABELS.astype("float32"),
        np.eye(4, dtype="float32"),
    ],
)
def test_labels_of_the_probe(labels):
    checks.check_arrays({"image": images(), "label": labels}, (0, 255), 4)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (LABELS + 1, "Found labels from 1 to 4"),
        (LABELS - 1, "Found labels from -1 to 2"),
        (LABELS * np.nan, "Found labels from nan to nan"),
    ],
)
def test_labels_that_are_not_classes(labels, found):
    batch = {"image": images(), "label": labels}
    with pytest.raises(
        ValueError, match=r"integers in \[0, num_classes\)"
    ) as e:
        checks.check_arrays(batch, (0, 255), 4)
    assert "num_classes=4" in str(e.value)
    assert found in str(e.value)


@pytest.mark.parametrize(
    ("count", "batch_size", "steps"),
    [(5, 2, None), (1, 8, None), (33, 32, 2), (9, 8, 2)],
)
def test_a_remainder_of_one_image(count, batch_size, steps):
    message = (
        rf"two images.* Received {count} images of `x`, "
        rf"batch_size={batch_size}"
    )
    with pytest.raises(ValueError, match=message):
        checks.check_remainder(count, batch_size, num_steps=steps)


@pytest.mark.parametrize(
    ("count", "batch_size", "steps"),
    [(4, 2, None), (6, 4, None), (32, 32, None), (34, 32, None), (33, 32, 1)],
)
def test_other_remainders(count, batch_size, steps):
    checks.check_remainder(count, batch_size, num_steps=steps)


def test_a_remainder_that_leaves_a_replica_without_an_image():
    checks.check_remainder(12, 8, num_replicas=4)
    with pytest.raises(ValueError, match="4 replicas, which leaves 3 over"):
        checks.check_remainder(11, 8, num_replicas=4)
