import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import simclr_keras
from simclr_keras import augmentation, callbacks, data
from simclr_keras.callbacks import RepresentationMap, ViewPreview

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), "uint8")
LABELS = np.arange(32) % 2


def make_model(views=None):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        simclr_keras.ProjectionHead(4),
        views or simclr_keras.SimCLRAugmentation(8, 8, seed=1),
    )
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=False)
    return model


def fit(model, *more, epochs=5):
    history = model.fit(
        IMAGES,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(more),
    ).history["loss"]
    return history, model.get_weights()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_pictures_in_a_folder(tmp_path):
    folder = tmp_path / "new" / "pictures"
    views = ViewPreview(IMAGES, folder, num_images=3)
    map_ = RepresentationMap(IMAGES, LABELS, folder=folder, every=2)
    fit(make_model(), views, map_)
    assert names(folder) == [
        "map-0002.png",
        "map-0004.png",
        "map-0005.png",
        "views-0000.png",
    ]
    for name in names(folder):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 100
            assert len(picture.convert("RGB").getcolors(2**24)) > 50


@pytest.mark.slow
def test_views_are_drawn_again_if_asked(tmp_path):
    fit(make_model(), ViewPreview(IMAGES, tmp_path, every=2))
    assert names(tmp_path) == [
        f"views-{epoch:04d}.png" for epoch in (0, 2, 4, 5)
    ]


@pytest.mark.parametrize(
    "views",
    [
        None,
        # Its draws follow from a generator of its own.
        keras.Sequential(
            [
                augmentation.RandomHorizontalFlip(seed=1),
                keras.layers.RandomBrightness(0.5, seed=1),
            ]
        ),
    ],
    ids=["ours", "with_a_keras_layer"],
)
@pytest.mark.slow
def test_training_goes_on_as_without(tmp_path, views):
    config = None if views is None else views.get_config()

    def again():
        if config is None:
            return None
        return keras.Sequential.from_config(config)

    expected = fit(make_model(again()))
    pictures = [
        ViewPreview(IMAGES, tmp_path, every=1),
        RepresentationMap(IMAGES, folder=tmp_path, every=1),
    ]
    found = fit(make_model(again()), *pictures)
    assert found[0] == expected[0]
    for ours, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_pictures_in_tensorboard(tmp_path):
    model = make_model()
    fit(
        model,
        ViewPreview(IMAGES, tensorboard_dir=tmp_path),
        RepresentationMap(IMAGES, tensorboard_dir=tmp_path, every=3),
    )
    found = []
    for path in tmp_path.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                width, height, png = value.tensor.string_val
                image = tf.io.decode_png(png)
                assert image.shape[:2] == (int(height), int(width))
                found.append((value.tag, event.step))
    assert sorted(found) == [("map", 3), ("map", 5), ("views", 0)]


def test_sets_of_data(tmp_path):
    images = data.from_arrays(IMAGES, LABELS).train
    map_ = RepresentationMap(images, class_names=["a", "b"], folder=tmp_path)
    np.testing.assert_array_equal(map_.labels, LABELS)
    fit(make_model(), map_, ViewPreview(images, tmp_path), epochs=1)
    assert names(tmp_path) == ["map-0001.png", "views-0000.png"]


def test_a_map_has_the_classes_of_its_points(tmp_path):
    map_ = RepresentationMap(
        IMAGES, LABELS, ["cat", "dog"], folder=tmp_path, num_images=20
    )
    map_.set_model(make_model())
    figure = map_.figure(7)
    (axis,) = figure.axes
    assert "after epoch 7 (20 images" in axis.get_title()
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == ["cat", "dog"]
    points = sum(len(each.get_offsets()) for each in axis.collections)
    assert points == 20


def test_no_map_of_what_is_not_finite(tmp_path):
    model = make_model()
    model.encoder.layers[0].kernel.assign(
        np.full(model.encoder.layers[0].kernel.shape, np.nan)
    )
    map_ = RepresentationMap(IMAGES, folder=tmp_path)
    map_.set_model(model)
    map_.write(1)
    assert not names(tmp_path)


def test_refuses(tmp_path):
    for make in (ViewPreview, RepresentationMap):
        with pytest.raises(ValueError, match="`tensorboard_dir` must be given"):
            make(IMAGES)
        with pytest.raises((TypeError, ValueError), match="`every`"):
            make(IMAGES, folder=tmp_path, every=0)
    with pytest.raises(ValueError, match="labels"):
        RepresentationMap(IMAGES, LABELS[:5], folder=tmp_path)
    model = simclr_keras.SimCLRModel(keras.layers.Flatten(), value_range=(0, 1))
    model.compile("sgd")
    views = np.zeros((4, 8, 8, 3), "float32")
    with pytest.raises(ValueError, match="has no augmentation"):
        model.fit(
            {"view_1": views, "view_2": views},
            callbacks=[callbacks.ViewPreview(IMAGES, tmp_path)],
            verbose=0,
        )
