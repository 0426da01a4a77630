import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.model import batch as batches


def images(count=4, size=6, channels=3, dtype="uint8"):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, channels)).astype(dtype)


LABELS = np.arange(4)


# --- unpack ----------------------------------------------------------------


@pytest.mark.parametrize("tensor", [np.asarray, tf.constant])
def test_unpack_gives_one_form(tensor):
    x, y = tensor(images()), tensor(LABELS)
    assert batches.unpack(x) == {"image": x}
    assert batches.unpack(x, y) == {"image": x, "label": y}
    assert batches.unpack({"image": x}) == {"image": x}
    assert batches.unpack({"image": x, "label": y}) == {"image": x, "label": y}
    assert batches.unpack({"image": x}, y) == {"image": x, "label": y}
    views = {"view_1": x, "view_2": x}
    assert batches.unpack(views) == views
    assert batches.unpack(views, y) == {**views, "label": y}
    assert batches.unpack({**views, "label": y}) == {**views, "label": y}


def test_unpack_leaves_other_keys_of_a_dataset_out():
    batch = {"image": images(), "label": LABELS, "id": LABELS}
    assert set(batches.unpack(batch)) == {"image", "label"}


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
        batches.unpack({key: images() for key in keys})
    assert f"with the keys {sorted(keys)}" in str(error.value)


@pytest.mark.parametrize("kind", [list, tuple])
def test_unpack_rejects_arrays_side_by_side(kind):
    with pytest.raises(ValueError, match="Received 2 arrays") as error:
        batches.unpack(kind([images(), images()]))
    assert "'view_1', 'view_2'" in str(error.value)


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 6), (1, 4, 6, 6, 3)])
@pytest.mark.parametrize("key", ["image", "view_1", "view_2"])
def test_unpack_rejects_other_ranks(key, shape):
    x = np.zeros(shape)
    batch = {"image": x}
    if key != "image":
        batch = {"view_1": images(), "view_2": images(), key: x}
    with pytest.raises(ValueError, match=r"\(B, H, W, C\)") as error:
        batches.unpack(batch)
    assert f"Received: {key}.shape={shape}" in str(error.value)


@pytest.mark.parametrize("shape", [(3, 6, 6, 3), (4, 6, 6, 1)])
def test_unpack_rejects_views_of_other_images(shape):
    batch = {"view_1": images(), "view_2": np.zeros(shape)}
    with pytest.raises(ValueError, match="as many images and chan") as error:
        batches.unpack(batch)
    assert f"view_1.shape=(4, 6, 6, 3), view_2.shape={shape}" in str(
        error.value
    )


def test_unpack_takes_views_of_several_sizes():
    batch = {"view_1": images(), "view_2": np.zeros((4, 5, 3, 3))}
    assert set(batches.unpack(batch)) == {"view_1", "view_2"}


def test_unpack_takes_unknown_sizes():
    shape = (None, None, None, 3)
    views = {key: keras.KerasTensor(shape) for key in ("view_1", "view_2")}
    assert set(batches.unpack(views)) == {"view_1", "view_2"}
