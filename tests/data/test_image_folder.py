import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_keras import data
from simclr_keras.data.decoding import crop_and_resize
from tests.data.pictures import picture


def save(path, image=None, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path, **kwargs)
    return path


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.fixture
def classes(tmp_path):
    """Twelve images of three sizes and four kinds in three class folders."""
    for c, name in enumerate(["ant", "bee", "cat"]):
        for i, extension in enumerate(["jpg", "PNG", "bmp", "gif"]):
            image = picture(20 + 8 * c, 30 + i, seed=10 * c + i)
            folder = tmp_path / name / ("deep" if i == 3 else "")
            save(folder / f"{i}.{extension}", image)
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "ant" / ".hidden.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.png").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("in_memory", [None, True, False])
def test_nested_folders_name_the_classes(classes, in_memory):
    source = data.load_image_folder(classes, 16, in_memory=in_memory)
    assert source.name == classes.name
    assert source.class_names == ("ant", "bee", "cat")
    assert source.image_shape == (16, 16, 3)
    assert source.train.num_images == 12
    assert source.value_range == (0, 255)
    images, labels = source.train.arrays()
    np.testing.assert_array_equal(labels, np.repeat([0, 1, 2], 4))
    np.testing.assert_array_equal(source.train.labels, labels)
    # The images themselves, in order: 1.PNG of the second class is at 5.
    pixels = np.array(Image.open(classes / "bee" / "1.PNG"))
    np.testing.assert_array_equal(
        images[5], crop_and_resize(tf.constant(pixels), (16, 16))
    )


def test_images_in_memory_and_in_files_train_alike(classes):
    def epochs(in_memory):
        train = data.load_image_folder(classes, 16, in_memory=in_memory).train
        dataset = data.training_dataset(train, 5, seed=2, with_labels=True)
        return list(dataset.repeat(3).as_numpy_iterator())

    for memory, files in zip(epochs(True), epochs(False), strict=True):
        np.testing.assert_array_equal(memory[0], files[0])
        np.testing.assert_array_equal(memory[1], files[1])


def test_flat_folder_has_no_labels(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.jpeg")
    source = data.load_image_folder(tmp_path, (8, 12), channels=1)
    assert source.class_names is None
    assert not source.train.has_labels
    assert source.train.labels is None
    assert source.image_shape == (8, 12, 1)


def test_folders_without_classes(classes):
    save(classes / "beside.png")
    with pytest.raises(ValueError, match=r"1 images beside.*labels=None"):
        data.load_image_folder(classes, 8)
    source = data.load_image_folder(classes, 8, labels=None)
    assert source.train.num_images == 13
    assert source.class_names is None


def test_wrong_extension_is_decoded_by_content(tmp_path):
    save(tmp_path / "png_in_truth.jpg", format="PNG")
    images, _ = data.load_image_folder(tmp_path, (24, 32)).train.arrays()
    np.testing.assert_array_equal(images[0], np.array(picture()))


@pytest.mark.parametrize("in_memory", [True, False])
def test_held_out_fraction_and_folder(classes, tmp_path_factory, in_memory):
    kwargs = {"in_memory": in_memory}
    source = data.load_image_folder(classes, 8, test_fraction=0.25, **kwargs)
    assert source.train.num_images == 9
    assert sorted(source.test.labels) == [0, 1, 2]

    other = tmp_path_factory.mktemp("val")
    save(other / "cat" / "a.png")
    save(other / "bee" / "b.png")
    source = data.load_image_folder(classes, 8, test_path=other, **kwargs)
    assert source.train.num_images == 12
    assert source.test.labels.tolist() == [1, 2]

    save(other / "dog" / "c.png")
    with pytest.raises(ValueError, match=r"classes of `path`.*'dog'"):
        data.load_image_folder(classes, 8, test_path=other, **kwargs)
    with pytest.raises(ValueError, match="mutually exclusive"):
        data.load_image_folder(
            classes, 8, test_path=other, test_fraction=0.5, **kwargs
        )


def test_images_are_not_held_out_of_themselves(classes, tmp_path):
    (tmp_path / "link").symlink_to(classes)
    (classes / ".hidden").mkdir()
    save(classes / ".hidden" / "a.png")
    for path, test_path in (
        (classes, classes),
        (classes, tmp_path / "link"),
        (classes, classes / "ant"),
        (classes / "ant", classes),
    ):
        with pytest.raises(ValueError, match="must hold other images"):
            data.load_image_folder(path, 8, test_path=test_path, labels=None)
    # What is hidden is not trained on.
    source = data.load_image_folder(
        classes, 8, test_path=classes / ".hidden", labels=None
    )
    assert source.test.num_images == 1


def test_links_are_followed_but_not_in_circles(classes, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked")
    os.symlink(classes / "ant", linked / "ant")
    os.symlink(linked, linked / "loop")
    with pytest.warns(UserWarning, match="1 files or folders .*loop"):
        source = data.load_image_folder(linked, 8)
    assert source.class_names == ("ant",)
    assert source.train.num_images == 4


def broken_jpeg(path):
    return truncate(save(path.with_suffix(".jpg")))


def broken_png(path):
    return truncate(save(path.with_suffix(".png")))


def broken_bmp(path):
    return truncate(save(path.with_suffix(".bmp")))


def broken_gif(path):
    return truncate(save(path.with_suffix(".gif")))


def not_ascii(path):
    return truncate(save(path.with_name("сломанный снимок №1.png")))


def empty(path):
    path.with_suffix(".jpg").touch()
    return path.with_suffix(".jpg")


def text(path):
    path.with_suffix(".png").write_text("This is not an image.")
    return path.with_suffix(".png")


def dangling_link(path):
    path.with_suffix(".png").symlink_to("nowhere")
    return path.with_suffix(".png")


BROKEN = [
    broken_jpeg,
    broken_png,
    broken_bmp,
    broken_gif,
    not_ascii,
    empty,
    text,
    dangling_link,
]


@pytest.mark.parametrize("make", BROKEN)
def test_unreadable_file_is_named_at_once_in_memory(classes, make):
    path = make(classes / "bee" / "broken")
    with pytest.raises(ValueError, match='on_error="skip"') as info:
        data.load_image_folder(classes, 8)
    assert str(path) in str(info.value)
    assert "{{" not in str(info.value)


@pytest.mark.parametrize(
    "make", [each for each in BROKEN if each not in (dangling_link, empty)]
)
def test_unreadable_file_is_named_when_met(classes, make):
    path = make(classes / "bee" / "broken")
    train = data.load_image_folder(classes, 8, in_memory=False).train
    assert train.num_images == 13
    with pytest.raises(
        tf.errors.InvalidArgumentError, match='on_error="skip"'
    ) as info:
        list(data.training_dataset(train, 13))
    assert str(path) in str(info.value)


@pytest.mark.parametrize(
    "in_memory", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_unreadable_files_are_skipped_counted_and_named(classes, in_memory):
    whole = data.load_image_folder(classes, 8, test_fraction=0.25)
    broken = [
        str(make(classes / "bee" / f"{make.__name__}")) for make in BROKEN
    ]
    with pytest.warns(UserWarning, match="Left out 8 of 20") as warnings:
        source = data.load_image_folder(
            classes,
            8,
            test_fraction=0.25,
            on_error="skip",
            in_memory=in_memory,
        )
    assert warnings[0].filename == __file__
    assert source.num_skipped == 8
    assert sorted(source.skipped) == sorted(broken)
    # What is left is exactly the set without those files.
    for part in ("train", "test"):
        got, expected = getattr(source, part), getattr(whole, part)
        for a, b in zip(got.arrays(), expected.arrays(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(list(data.training_dataset(source.train, 9))) == 1


def test_fit_stops_with_the_name_of_the_file(classes):
    import keras

    path = broken_jpeg(classes / "ant" / "broken")
    train = data.load_image_folder(classes, 8, in_memory=False).train
    model = keras.Sequential(
        [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    dataset = data.training_dataset(train, 13, with_labels=True)
    with pytest.raises(tf.errors.InvalidArgumentError) as info:
        model.fit(dataset, epochs=2, verbose=0)
    assert str(path) in str(info.value)


def test_nothing_readable(tmp_path):
    text(tmp_path / "a")
    with pytest.raises(ValueError, match=r"None of the 1 image files.*a\.png"):
        data.load_image_folder(tmp_path, 8, on_error="skip")


def test_missing_empty_and_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"existing folder.*nothing"):
        data.load_image_folder(tmp_path / "nothing", 8)
    with pytest.raises(FileNotFoundError, match=r"\.jpg.*has none"):
        data.load_image_folder(tmp_path, 8)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FileNotFoundError, match=r"\.jpg.*has none"):
        data.load_image_folder(tmp_path, 8)
    with pytest.raises(NotADirectoryError, match=r"notes\.txt"):
        data.load_image_folder(tmp_path / "notes.txt", 8)
    save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"`test_path`.*nothing"):
        data.load_image_folder(tmp_path, 8, test_path=tmp_path / "nothing")


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"image_size": 0}, ValueError, "image_size=0"),
        ({"image_size": (8, -1)}, ValueError, r"image_size=\(8, -1\)"),
        ({"image_size": 8.0}, TypeError, r"image_size=8\.0"),
        ({"image_size": (8, 8, 3)}, TypeError, r"image_size=\(8, 8, 3\)"),
        ({"channels": 0}, ValueError, "positive.*channels=0"),
        ({"channels": 1.5}, TypeError, "positive.*channels=1.5"),
        ({"dtype": "float32"}, ValueError, "uint16.*dtype='float32'"),
        ({"on_error": "ignore"}, ValueError, "on_error='ignore'"),
        ({"labels": "folder"}, ValueError, "labels='folder'"),
        ({"test_fraction": 1.0}, ValueError, r"test_fraction=1\.0"),
    ],
)
def test_errors(classes, kwargs, error, message):
    with pytest.raises(error, match=message):
        data.load_image_folder(classes, **{"image_size": 8, **kwargs})
