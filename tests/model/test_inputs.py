import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.model import inputs


def images(count=4, size=6, channels=3, dtype="uint8"):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, channels)).astype(dtype)


LABELS = np.arange(4)


# --- unpack ----------------------------------------------------------------


@pytest.mark.parametrize("tensor", [np.asarray, tf.constant])
def test_unpack_gives_one_form(tensor):
    x, y = tensor(images()), tensor(LABELS)
    assert inputs.unpack(x) == {"image": x}
    assert inputs.unpack(x, y) == {"image": x, "label": y}
    assert inputs.unpack({"image": x}) == {"image": x}
    assert inputs.unpack({"image": x, "label": y}) == {"image": x, "label": y}
    assert inputs.unpack({"image": x}, y) == {"image": x, "label": y}
    views = {"view_1": x, "view_2": x}
    assert inputs.unpack(views) == views
    assert inputs.unpack(views, y) == {**views, "label": y}
    assert inputs.unpack({**views, "label": y}) == {**views, "label": y}


def test_unpack_leaves_other_keys_of_a_dataset_out():
    batch = {"image": images(), "label": LABELS, "id": LABELS}
    assert set(inputs.unpack(batch)) == {"image", "label"}


@pytest.mark.parametrize(
    "keys",
    [
        ("picture",),
        ("label",),
        ("view_1",),
        ("view_2", "label"),
        ("image", "view_1"),
        ("image", "view_1", "view_2"),
        (),
    ],
)
def test_unpack_rejects_other_keys(keys):
    with pytest.raises(ValueError, match="A batch must be images;") as error:
        inputs.unpack({key: images() for key in keys})
    assert f"with the keys {sorted(keys)}" in str(error.value)


@pytest.mark.parametrize("kind", [list, tuple])
def test_unpack_rejects_arrays_side_by_side(kind):
    with pytest.raises(ValueError, match="Received 2 arrays") as error:
        inputs.unpack(kind([images(), images()]))
    assert "'view_1' and 'view_2'" in str(error.value)


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 6), (1, 4, 6, 6, 3)])
@pytest.mark.parametrize("key", ["image", "view_1", "view_2"])
def test_unpack_rejects_other_ranks(key, shape):
    x = np.zeros(shape)
    batch = {"image": x}
    if key != "image":
        batch = {"view_1": images(), "view_2": images(), key: x}
    with pytest.raises(ValueError, match=r"\(B, H, W, C\)") as error:
        inputs.unpack(batch)
    assert f"Received: {key}.shape={shape}" in str(error.value)


@pytest.mark.parametrize(
    "shape", [(3, 6, 6, 3), (4, 5, 6, 3), (4, 6, 5, 3), (4, 6, 6, 1)]
)
def test_unpack_rejects_views_of_two_shapes(shape):
    batch = {"view_1": images(), "view_2": np.zeros(shape)}
    with pytest.raises(ValueError, match="views must have the same") as error:
        inputs.unpack(batch)
    assert f"view_1.shape=(4, 6, 6, 3), view_2.shape={shape}" in str(
        error.value
    )


def test_unpack_takes_unknown_sizes():
    shape = (None, None, None, 3)
    views = {key: keras.KerasTensor(shape) for key in ("view_1", "view_2")}
    assert set(inputs.unpack(views)) == {"view_1", "view_2"}


def test_check_negatives():
    inputs.check_negatives({"image": images(2)})
    inputs.check_negatives({"image": keras.KerasTensor((None, 6, 6, 3))})
    for batch in (
        {"image": images(1)},
        {"view_1": images(1), "view_2": images(1)},
    ):
        with pytest.raises(ValueError, match=r"two images .* larger"):
            inputs.check_negatives(batch)


# --- check_values ----------------------------------------------------------


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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs.check_values({"image": values}, value_range)
        inputs.check_values({"image": tf.constant(values)}, value_range)


@pytest.mark.parametrize("key", ["image", "view_1", "view_2"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (256.0, "Found values from 0.0 to 256.0 and 0 that"),
        (-1.0, "Found values from -1.0 to 254.0 and 0 that"),
        (np.nan, "Found values from 0.0 to 254.0 and 1 that are not finite"),
        (np.inf, "Found values from 0.0 to 254.0 and 1 that are not finite"),
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
        inputs.check_values(batch, (0, 255))
    assert "numbers within value_range=(0, 255)" in str(error.value)
    assert found in str(error.value)


def test_pixels_where_fractions_are_due():
    with pytest.raises(ValueError, match=r"value_range=\(0, 1\)"):
        inputs.check_values({"image": images()}, (0, 1))


def test_integers_outside_their_range():
    with pytest.raises(ValueError, match=r"from .* to 65535"):
        inputs.check_values(
            {"image": images(dtype="uint16") * 257 // 65535 * 65535},
            (0, 255),
        )


@pytest.mark.parametrize("value_range", [(0, 255), (0, 65535), (-128, 127)])
def test_floats_in_0_to_1_are_warned_of(value_range):
    values = images(dtype="float32") / 255
    message = r"floats that lie in \[0, 1\], but value_range is .*\(0, 1\)"
    with pytest.warns(UserWarning, match=message) as caught:
        inputs.check_values({"image": values}, value_range)
    assert str(value_range) in str(caught[0].message)


def test_integers_in_0_to_1_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs.check_values({"image": np.ones((2, 6, 6, 3), "uint8")}, (0, 255))


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
    inputs.check_values({"image": images(), "label": labels}, (0, 255), 4)


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
        inputs.check_values(batch, (0, 255), 4)
    assert "num_classes=4" in str(e.value)
    assert found in str(e.value)
    inputs.check_values(batch, (0, 255))  # without a probe they do not matter


# --- check_first -----------------------------------------------------------

OUTSIDE = np.full((4, 6, 6, 3), 300.0, "float32")


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def dataset(*values, batch_size=2):
    return tf.data.Dataset.from_tensor_slices(*values).batch(batch_size)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (OUTSIDE, None),
        (tf.constant(OUTSIDE), None),
        (OUTSIDE, LABELS),
        ({"image": OUTSIDE}, None),
        ({"view_1": images(), "view_2": OUTSIDE}, LABELS),
        (dataset(OUTSIDE), None),
        (dataset((OUTSIDE, LABELS)), None),
        (dataset({"image": OUTSIDE, "label": LABELS}), None),
        (Batches(OUTSIDE), None),
        (Batches((OUTSIDE, LABELS)), None),
        (Batches({"image": OUTSIDE}), None),
    ],
)
def test_check_first_looks_at_what_fit_is_given(x, y):
    with pytest.raises(ValueError, match=r"from 300\.0 to 300\.0"):
        inputs.check_first(x, y, 2, (0, 255))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (images(), LABELS),
        ({"image": images(), "label": LABELS}, None),
        (dataset((images(dtype="float32"), LABELS)), None),
        (Batches((images(), LABELS)), None),
    ],
)
def test_check_first_looks_at_labels(x, y):
    inputs.check_first(x, y, 4, (0, 255))
    inputs.check_first(x, y, 4, (0, 255), 4)
    with pytest.raises(ValueError, match="Found labels from 0 to"):
        inputs.check_first(x, y, 4, (0, 255), 1)


def test_check_first_leaves_a_generator_whole():
    generator = iter([images(), images()])
    inputs.check_first(generator, None, None, (0, 255))
    assert len(list(generator)) == 2


def test_check_first_leaves_datasets_of_integers_alone():
    def fail(x):
        raise AssertionError("the data set was read")

    unread = dataset(images()).map(
        lambda x: tf.ensure_shape(
            tf.py_function(fail, [x], tf.uint8), (None, 6, 6, 3)
        )
    )
    inputs.check_first(unread, None, None, (0, 255))


@pytest.mark.parametrize(
    ("count", "batch_size", "shown"),
    [(5, 2, 2), (1, 8, 8), (33, None, 32), (9, 8, 8)],
)
def test_arrays_that_leave_one_image_over(count, batch_size, shown):
    message = f"Received {count} images and batch_size={shown}"
    for x in (images(count), {"image": images(count)}):
        with pytest.raises(ValueError, match="at least two images") as error:
            inputs.check_first(x, None, batch_size, (0, 255))
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("count", "batch_size"), [(4, 2), (6, 4), (32, None), (34, None)]
)
def test_arrays_that_leave_none_over(count, batch_size):
    inputs.check_first(images(count), None, batch_size, (0, 255))


def test_validation_split_counts_the_images_that_are_left():
    inputs.check_first(images(33), None, 32, (0, 255), validation_split=0.5)
    with pytest.raises(ValueError, match=r"Received 33 images and batch_size"):
        inputs.check_first(images(66), None, 32, (0, 255), validation_split=0.5)
