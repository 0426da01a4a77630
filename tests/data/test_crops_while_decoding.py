"""Crops of stored images are those of `RandomResizedCrop` of whole ones.

Tolerances, in levels of 0 to 255: `EXACT` is float32 rounding, since both ways
resize the same pixels; that a JPEG is decoded in part changes nothing, which
`test_part_of_a_jpeg_is_that_of_the_whole` shows. `PILLOW` is the rounding of
Pillow, which resizes in two passes over whole levels.
"""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import simclr_keras
from simclr_keras import augmentation, data
from simclr_keras.data.decoding import (
    decode_boxes,
    decode_jpeg_window,
    decode_photo,
)
from tests.data import memory_of_crops
from tests.data.pictures import picture

EXACT = 0.02
PILLOW = 2.0
BATCH_SIZE = 4
STEPS = 2  # in an epoch


def save(folder, kind, count=9, **options):
    """Images of many sizes, each in a folder of its own: its label."""
    sizes = [(20, 31), (33, 17), (1, 1), (64, 9), (5, 48), (40, 40)]
    for k in range(count):
        (folder / f"{k}").mkdir()
        height, width = sizes[k % len(sizes)]
        image = picture(height, width, seed=k)
        if kind == "mixed":
            suffix, mode = [
                ("jpg", "RGB"),
                ("png", "RGBA"),
                ("jpg", "L"),
                ("jpg", "CMYK"),
                ("png", "L"),
                ("bmp", "RGB"),
            ][k % 6]
        else:
            suffix, mode = kind, "RGB"
        image.convert(mode).save(folder / f"{k}" / f"image.{suffix}", **options)
    return folder


def folder_of(path, channels=3):
    return data.load_image_folder(
        path, image_size=8, channels=channels, in_memory=False
    ).train


def batches(images, crop, passes=1, **kwargs):
    """Batches of so many passes, as dictionaries of arrays."""
    dataset = data.training_dataset(
        images, BATCH_SIZE, seed=3, crop=crop, with_labels=True, **kwargs
    )
    return [
        batch for _ in range(passes) for batch in dataset.as_numpy_iterator()
    ]


def check(found, whole, layer, key, tolerance=EXACT):
    """Compares batches with the layer's crops of whole images."""
    for step, batch in enumerate(found):
        for view in range(2):
            for index, label in enumerate(batch["label"]):
                expected = layer.apply(
                    whole(label)[None], tf.constant([index]), key(step, view)
                )[0]
                np.testing.assert_allclose(
                    batch[f"crop_{view + 1}"][index], expected, atol=tolerance
                )


def file_of(path, label):
    return next((path / f"{label}").iterdir())


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("jpg", "png")),
        "mixed",
    ],
)
@pytest.mark.parametrize(
    "channels", [3, pytest.param(1, marks=pytest.mark.slow)]
)
def test_crops_of_files_are_those_of_whole_images(tmp_path, kind, channels):
    crop = augmentation.RandomResizedCrop(12, 10, seed=5)
    path = save(tmp_path, kind)
    found = batches(folder_of(path, channels), crop, passes=2)
    assert len(found) == 2 * STEPS
    assert found[0]["crop_1"].shape == (BATCH_SIZE, 12, 10, channels)
    assert found[0]["crop_1"].dtype == "float32"

    def whole(label):
        content = tf.io.read_file(str(file_of(path, label)))
        return decode_photo(content, channels)

    check(found, whole, crop, lambda step, view: crop.key(2 * step + view))


@pytest.mark.parametrize(
    "interpolation",
    [
        "bicubic",
        *(
            pytest.param(i, marks=pytest.mark.slow)
            for i in ("bilinear", "nearest")
        ),
    ],
)
def test_interpolation_is_that_of_the_layer(tmp_path, interpolation):
    crop = augmentation.RandomResizedCrop(
        13, 13, area_range=(0.5, 1), interpolation=interpolation, seed=5
    )
    path = save(tmp_path, "png")

    def whole(label):
        return np.array(Image.open(file_of(path, label)))

    found = batches(folder_of(path), crop)
    check(found, whole, crop, lambda step, view: crop.key(2 * step + view))


def test_crops_against_pillow(tmp_path):
    """Boxes are the layer's, cut and resized by another library."""
    crop = augmentation.RandomResizedCrop(80, 80, seed=5)
    path = save(tmp_path, "png")
    for step, batch in enumerate(batches(folder_of(path), crop)):
        for view in range(2):
            key = crop.key(2 * step + view)
            for index, label in enumerate(batch["label"]):
                image = Image.open(file_of(path, label))
                shape = (1, image.height, image.width, 3)
                box = crop.draw(shape, tf.constant([index]), key)
                top, left, height, width = (
                    int(box[k][0]) for k in ("top", "left", "height", "width")
                )
                part = image.crop((left, top, left + width, top + height))
                # Enlarged, as Pillow smooths what it makes smaller.
                expected = part.resize((80, 80), Image.Resampling.BICUBIC)
                np.testing.assert_allclose(
                    batch[f"crop_{view + 1}"][index], expected, atol=PILLOW
                )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_part_of_a_jpeg_is_that_of_the_whole(
    tmp_path, subsampling, progressive
):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (75, 99, 3)).astype("uint8")
    path = str(tmp_path / "image.jpg")
    Image.fromarray(noise).save(
        path, subsampling=subsampling, progressive=progressive
    )
    content = tf.io.read_file(path)
    whole = decode_photo(content, 3).numpy()
    for _ in range(40):
        low = rng.integers(0, (75, 99), (2, 2))
        high = rng.integers(low, (75, 99)) + 1
        drawn = tf.constant(np.hstack([low, high - low]), "int32")
        boxes = decode_boxes(
            content,
            lambda *_, drawn=drawn: drawn,
            decode=None,
            decode_window=functools.partial(decode_jpeg_window, channels=3),
        )
        for box, (top, left), (bottom, right) in zip(boxes, low, high):
            np.testing.assert_array_equal(box, whole[top:bottom, left:right])


def contexts(pipelines, replicas):
    return [
        tf.distribute.InputContext(pipelines, i, replicas)
        for i in range(pipelines)
    ]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Images, a crop, and batches of two passes over its crops of them."""
    images = folder_of(save(tmp_path_factory.mktemp("images"), "mixed"))
    crop = augmentation.RandomResizedCrop(6, 6, seed=5)
    return images, crop, batches(images, crop, passes=2)


# R = 1, 2 and 4 replicas, of one worker each or of fewer.
@pytest.mark.parametrize(
    ("pipelines", "replicas"),
    [
        (1, 1),
        *(pytest.param(*n, marks=pytest.mark.slow) for n in ((1, 2), (2, 2))),
        (2, 4),
    ],
)
def test_shares_are_those_of_the_whole_batch(mixed, pipelines, replicas):
    images, crop, whole = mixed
    here = replicas // pipelines
    shares = [
        batches(images, crop, passes=2, input_context=context)
        for context in contexts(pipelines, replicas)
    ]
    for step, batch in enumerate(whole):
        for name, expected in batch.items():
            parts = [
                share[step * here + k][name]
                for share in shares
                for k in range(here)
            ]
            np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_resumed_epochs_are_those_of_the_whole_run(mixed):
    images, crop, whole = mixed
    assert not np.array_equal(whole[0]["crop_1"], whole[0]["crop_2"])
    for calls in (1, 4):
        resumed = batches(
            images, crop, initial_epoch=1, num_parallel_calls=calls
        )
        keras.tree.map_structure(
            np.testing.assert_array_equal, resumed, whole[STEPS:]
        )


def small_model(views, run_eagerly=False):
    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)]),
        simclr_keras.ProjectionHead(4),
        augmentation=views,
    )
    model.compile(
        keras.optimizers.SGD(0.05),
        simclr_keras.NTXentLoss(),
        run_eagerly=run_eagerly,
    )
    return model


def compositions():
    crop = functools.partial(augmentation.RandomResizedCrop, 16, 16)
    simclr = functools.partial(simclr_keras.SimCLRAugmentation, 16, 16)
    return {
        "simclr": simclr(seed=2),
        "sequential": keras.Sequential(
            [crop(seed=2), augmentation.RandomGrayscale(0.5, seed=2)]
        ),
        "two layers": [simclr(seed=2), simclr(blur=False, seed=2)],
        "two crops": [simclr(seed=2), crop(seed=2, area_range=(0.5, 1))],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "simclr",
        pytest.param("sequential", marks=pytest.mark.slow),
        pytest.param("two crops", marks=pytest.mark.slow),
        pytest.param("two layers", marks=pytest.mark.slow),
    ],
)
def test_fit_is_that_of_whole_images(tmp_path, name):
    """Of images of one size the crop can be made in `fit` as well."""
    for k in range(9):
        picture(24, 24, seed=k).save(tmp_path / f"{k}.png")
    images = data.load_image_folder(
        tmp_path, image_size=24, in_memory=False
    ).train
    losses, weights, evaluated = [], [], []
    for is_cropped in (True, False):
        views = compositions()[name]
        # To trace and to compile takes seconds for each.
        model = small_model(views, run_eagerly=name != "simclr")
        dataset = data.training_dataset(
            images, BATCH_SIZE, crop=views if is_cropped else None
        )
        losses.append(model.fit(dataset, epochs=2, verbose=0).history["loss"])
        weights.append(model.get_weights())
        # Whole images serve evaluation, whatever the model was trained on.
        plain = data.training_dataset(images, BATCH_SIZE)
        evaluated.append(model.evaluate(plain, verbose=0))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(*evaluated, rtol=1e-3)
    for cropped, whole in zip(*weights):
        np.testing.assert_allclose(cropped, whole, rtol=1e-3, atol=1e-4)


def test_without_labels_and_with_static_shapes(tmp_path):
    images = folder_of(save(tmp_path, "jpg"))
    crop = augmentation.RandomResizedCrop(6, 7, seed=5)
    dataset = data.training_dataset(images, BATCH_SIZE, crop=crop)
    spec = tf.TensorSpec((BATCH_SIZE, 6, 7, 3), tf.float32)
    assert dataset.element_spec == {"crop_1": spec, "crop_2": spec}
    assert dataset.cardinality() == STEPS


def test_unreadable_file_stops_the_training(tmp_path):
    path = save(tmp_path, "jpg")
    file_of(path, 4).write_bytes(b"\xff\xd8\xffno image")
    crop = augmentation.RandomResizedCrop(6, 6, seed=5)
    with pytest.raises(tf.errors.InvalidArgumentError):
        batches(folder_of(path), crop, passes=9)


CROP = augmentation.RandomResizedCrop(6, 6)


@pytest.mark.parametrize(
    ("crop", "error", "message"),
    [
        ("crop", TypeError, "must be a keras.layers.Layer.*'crop'"),
        ([CROP], ValueError, "`crop` must be .*a list of 1"),
        (
            augmentation.RandomGrayscale(0.5),
            ValueError,
            "must begin with a RandomResizedCrop.*RandomGrayscale",
        ),
        (
            keras.Sequential([augmentation.RandomGrayscale(0.5), CROP]),
            ValueError,
            "must begin with a RandomResizedCrop.*Sequential",
        ),
        (
            augmentation.RandomResizedCrop(6, 6, value_range=(0, 1)),
            ValueError,
            "uint8 images",
        ),
    ],
)
def test_refuses_other_augmentations(tmp_path, crop, error, message):
    images = folder_of(save(tmp_path, "png", count=4))
    with pytest.raises(error, match=message):
        data.training_dataset(images, 4, crop=crop)


def test_refuses_images_in_memory():
    images = data.load_digits().train
    with pytest.raises(ValueError, match=r"ArrayImageSet.*in_memory=False"):
        data.training_dataset(images, 4, crop=CROP)


def test_refuses_a_subclass_that_draws_otherwise():
    class LeftHalf(augmentation.RandomResizedCrop):
        def parameters(self, shape, uniform):
            return {**super().parameters(shape, uniform), "left": 0.0}

    assert LeftHalf(6, 6).leading_crop() is None


def test_model_refuses_crops_that_it_cannot_finish():
    crops = {f"crop_{k}": np.zeros((4, 6, 6, 3), "float32") for k in (1, 2)}
    without = small_model([augmentation.RandomGrayscale(0.5) for _ in "ab"])
    with pytest.raises(ValueError, match="must begin with a RandomResizedCrop"):
        without.train_on_batch(crops)
    with pytest.raises(ValueError, match="a crop for each view"):
        small_model([CROP, CROP, CROP]).train_on_batch(crops)

    class Own(simclr_keras.SimCLRModel):
        def make_views(self, images, training=True):
            return images, images

    model = Own(keras.layers.Flatten(), augmentation=CROP)
    model.compile("sgd")
    with pytest.raises(ValueError, match="`make_views`, which Own overrides"):
        model.train_on_batch(crops)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_photos(tmp_path):
    def megabytes(height, width):
        folder = tmp_path / f"{height}"
        folder.mkdir()
        photo = picture(48, 64).resize((width, height))
        for k in range(32):
            photo.save(folder / f"{k}.jpg")
        process = subprocess.run(
            [sys.executable, memory_of_crops.__file__, str(folder)],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(process.stdout)

    # A batch of the large ones is 1,150 MB. What each core has in hand grows:
    # one photo, and the buffers of the allocator.
    cores = len(os.sched_getaffinity(0))
    growth = megabytes(3000, 4000) - megabytes(300, 400)
    assert growth < 2 * 36 * (cores + 1)
