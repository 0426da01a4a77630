import importlib
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import data

tfds = pytest.importorskip("tensorflow_datasets")


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Three shards of images of mixed sizes, gray ones, and their numbers."""

    VERSION = tfds.core.Version("1.0.0")
    ORDERED = False

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=self.ORDERED,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "gray": tfds.features.Image(shape=(4, 5, 1)),
                    "other": tfds.features.Image(shape=(4, 5, 1)),
                    "deep": tfds.features.Image(
                        shape=(4, 5, 1), dtype=np.uint16
                    ),
                    "depth": tfds.features.Image(
                        shape=(4, 5, 1), dtype=np.float32
                    ),
                    "kind": tfds.features.ClassLabel(names=["even", "odd"]),
                    "number": tfds.features.Scalar(np.int64),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(60)}

    def _generate_examples(self, count):
        for i in range(count):
            value = np.full((4, 5, 1), i)
            yield (
                i,
                {
                    "image": np.full((6 + i % 3, 8, 3), i, "uint8"),
                    "gray": value.astype("uint8"),
                    "other": (value + 1).astype("uint8"),
                    "deep": (1000 * value).astype("uint16"),
                    "depth": value.astype("float32"),
                    "kind": i % 2,
                    "number": i,
                },
            )


class OrderedImages(TinyImages):
    """The same, which TFDS keeps in an order of their own."""

    ORDERED = True


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    config = tfds.download.DownloadConfig(num_shards=3)
    TinyImages(data_dir=path).download_and_prepare(download_config=config)
    return path


def load(data_dir, **kwargs):
    kwargs = {"image_key": "gray", "test_split": None, **kwargs}
    return data.load_tfds("tiny_images", data_dir, **kwargs)


@pytest.fixture
def no_network(monkeypatch):
    """Neither a download nor what is known of one may be asked for."""

    def fail(*args, **kwargs):
        raise AssertionError("The data set is prepared: nothing to fetch.")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    monkeypatch.setattr(tfds.core.DatasetInfo, "initialize_from_bucket", fail)
    monkeypatch.setattr("socket.socket.connect", fail)


@pytest.mark.usefixtures("no_network")
def test_unlabelled_gray_images(data_dir):
    source = load(data_dir)
    assert source.name == "tiny_images/1.0.0"
    assert source.image_shape == (4, 5, 1)
    assert source.train.num_images == 60
    assert source.class_names is None
    assert source.test is None
    images, labels = source.train.arrays()
    assert labels is None
    assert sorted(images[:, 0, 0, 0]) == list(range(60))


@pytest.mark.parametrize("in_memory", [True, False])
def test_labels_stay_with_their_images(data_dir, in_memory):
    train = load(data_dir, label_key="kind", in_memory=in_memory).train
    images, labels = train.arrays()
    np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 2)
    np.testing.assert_array_equal(train.labels, labels)
    dataset = data.training_dataset(train, 16, with_labels=True)
    for images, labels in dataset.repeat(2):
        np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 2)
        assert images.shape == (16, 4, 5, 1)


def test_sixteen_bits(data_dir):
    source = load(data_dir, image_key="deep")
    assert source.value_range == (0, 65535)
    assert source.train.dtype == "uint16"
    images, _ = source.train.arrays()
    assert images.max() == 59000
    resized = load(data_dir, image_key="deep", image_size=3).train
    assert resized.dtype == "uint16"
    np.testing.assert_array_equal(resized.arrays()[0], images[:, :3, :3])


@pytest.mark.parametrize("in_memory", [True, False])
def test_mixed_sizes_are_resized(data_dir, in_memory):
    source = load(
        data_dir, image_key="image", image_size=6, in_memory=in_memory
    )
    assert source.image_shape == (6, 6, 3)
    images, _ = source.train.arrays()
    # Each is of one colour, which resizing leaves.
    assert np.all(images == images[:, :1, :1, :1])


def test_cached_on_disk(data_dir, tmp_path):
    def load_cached(**kwargs):
        return load(data_dir, cache_dir=tmp_path, label_key="kind", **kwargs)

    for kwargs in ({}, {"image_key": "image", "image_size": (4, 5)}):
        expected = load(data_dir, label_key="kind", **kwargs).train
        for _ in range(2):  # Written, and found again.
            train = load_cached(**kwargs).train
            for ours, theirs in zip(train.arrays(), expected.arrays()):
                np.testing.assert_array_equal(ours, theirs)
        assert train.labels is not None
    parts = load_cached(train_split="train[:75%]", test_split="train[75%:]")
    assert len(list(tmp_path.iterdir())) == 4
    images, labels = parts.test.arrays()
    np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 2)


def test_two_features_of_one_shape_have_caches_of_their_own(data_dir, tmp_path):
    gray = load(data_dir, cache_dir=tmp_path).train
    color = load(data_dir, cache_dir=tmp_path, image_key="other").train
    assert gray.arrays()[0].sum() != color.arrays()[0].sum()


def test_parts_of_a_split(data_dir):
    source = load(data_dir, train_split="train[:75%]", test_split="train[75%:]")
    parts = [source.train.arrays()[0], source.test.arrays()[0]]
    assert [len(part) for part in parts] == [45, 15]
    assert len(np.unique(np.concatenate(parts)[:, 0, 0, 0])) == 60


def streamed(data_dir, num_epochs=4, batch_size=12, **kwargs):
    train = load(data_dir, in_memory=False, shuffle_buffer=30).train
    dataset = data.training_dataset(train, batch_size, **kwargs)
    batches = dataset.repeat(num_epochs).as_numpy_iterator()
    return np.array([batch[:, 0, 0, 0] for batch in batches])


def test_workers_share_out_streamed_batches(data_dir):
    whole = streamed(data_dir, seed=5)
    shares = [
        streamed(
            data_dir, seed=5, input_context=tf.distribute.InputContext(2, i, 2)
        )
        for i in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), whole)


def test_streamed_order_follows_from_seed_and_epoch(data_dir):
    whole = streamed(data_dir, seed=5)
    epochs = whole.reshape(4, 60)
    for epoch in epochs:
        assert sorted(epoch) == list(range(60))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert not np.array_equal(whole, streamed(data_dir, seed=6))
    tf.random.set_seed(99)  # The global seed has no part in it.
    for epoch in range(4):
        np.testing.assert_array_equal(
            streamed(data_dir, 4 - epoch, seed=5, initial_epoch=epoch),
            whole[5 * epoch :],
        )


def test_streamed_epochs_keep_to_full_batches(data_dir):
    batches = streamed(data_dir, num_epochs=3, batch_size=25)
    assert batches.shape == (6, 25)
    for epoch in batches.reshape(3, 50):
        assert len(set(epoch)) == 50


def test_set_with_an_order_of_its_own_is_shuffled_too(tmp_path):
    OrderedImages(data_dir=tmp_path).download_and_prepare()
    train = data.load_tfds(
        "ordered_images",
        tmp_path,
        test_split=None,
        image_key="gray",
        in_memory=False,
    ).train
    stored = train.arrays()[0][:, 0, 0, 0]
    np.testing.assert_array_equal(stored, np.arange(60))
    (batch,) = data.training_dataset(train, 60)
    assert batch[:, 0, 0, 0].numpy().tolist() != list(range(60))


def test_global_seed_is_left_alone(data_dir):
    tf.random.set_seed(4)
    expected = tf.random.uniform(()).numpy()
    tf.random.set_seed(4)
    streamed(data_dir)
    assert tf.random.uniform(()).numpy() == expected


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"image_key": "picture"}, r"image_key='picture'.*'gray'"),
        ({"image_key": "number"}, r"image_key='number'"),
        ({"image_key": "depth"}, "uint8 or uint16.*float32.*from_arrays"),
        ({"image_key": "image"}, r"image_size=None.*\(None, None, 3\)"),
        ({"label_key": "number"}, "label_key='number'"),
        ({"label_key": "class"}, "label_key='class'"),
        ({"train_split": "nope"}, r"train_split='nope'; it has \['train'\]"),
        ({"test_split": "test"}, r"test_split='test'; .*test_split=None"),
        ({"shuffle_buffer": 0}, "shuffle_buffer=0"),
        ({"train_split": "train[:0%]"}, "at least one image"),
    ],
)
def test_errors(data_dir, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(data_dir, **kwargs)


def test_not_prepared_and_no_download_allowed(tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        data.load_tfds("mnist", tmp_path, download=False)
    for part in ("'mnist'", str(tmp_path), "download=True", "tfds build mnist"):
        assert part in str(info.value)


def test_not_prepared_and_no_network(tmp_path, monkeypatch):
    def fail(self, **kwargs):
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(RuntimeError) as info:
        data.load_tfds("mnist", tmp_path)
    for part in (
        "'mnist'",
        "ConnectionError: Network is unreachable",
        str(tmp_path),
        "tfds build mnist",
        "mnist/<version>/",
    ):
        assert part in str(info.value)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["tiny_images", "tiny_images:1.*.*"])
def test_prepared_version_is_kept_when_the_code_has_another(
    data_dir, monkeypatch, name
):
    monkeypatch.setattr(TinyImages, "VERSION", tfds.core.Version("2.0.0"))
    source = data.load_tfds(
        name, data_dir, test_split=None, image_key="gray", download=False
    )
    assert source.name == "tiny_images/1.0.0"


@pytest.mark.usefixtures("no_network")
def test_data_set_whose_code_is_unknown(data_dir, tmp_path):
    shutil.copytree(data_dir / "tiny_images", tmp_path / "images_of_others")
    source = data.load_tfds(
        "images_of_others", tmp_path, test_split=None, image_key="gray"
    )
    assert source.train.num_images == 60


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"name='cifar11'.*'cifar10'") as info:
        data.load_tfds("cifar11", tmp_path)
    assert len(str(info.value)) < 500


def test_unknown_version_and_configuration(tmp_path):
    with pytest.raises(ValueError, match=r"name='mnist:9\.9\.9'.*version"):
        data.load_tfds("mnist:9.9.9", tmp_path)
    with pytest.raises(ValueError, match=r"name='mnist/large'.*large"):
        data.load_tfds("mnist/large", tmp_path)


@pytest.fixture(scope="module")
def cifar10_dir():
    root = pathlib.Path(__file__).resolve().parents[2]
    shared = os.environ.get("SIMCLR_KERAS_TEST_DATA", root / "../shared/data")
    path = pathlib.Path(shared) / "tfds"
    if not (path / "cifar10").is_dir():
        pytest.skip(
            f"CIFAR-10 is not prepared in {path}; set SIMCLR_KERAS_TEST_DATA "
            "to a folder that holds tfds/cifar10."
        )
    return path


@pytest.mark.usefixtures("no_network")
def test_cifar10(cifar10_dir):
    source = data.load_tfds("cifar10", cifar10_dir, train_split="train[:500]")
    assert source.train.num_images == 500
    assert source.test.num_images == 10_000
    assert source.image_shape == (32, 32, 3)
    assert source.class_names[:3] == ("airplane", "automobile", "bird")
    images, labels = source.train.arrays()
    expected = tfds.load(
        "cifar10:3.0.2",
        split="train[:500]",
        data_dir=cifar10_dir,
        download=False,
    )
    for image, label, example in zip(images, labels, expected, strict=True):
        np.testing.assert_array_equal(image, example["image"])
        assert label == example["label"]


def test_cifar10_in_memory_and_streamed_are_the_same(cifar10_dir):
    def first(in_memory):
        train = data.load_tfds(
            "cifar10",
            cifar10_dir,
            train_split="test[:200]",
            test_split=None,
            in_memory=in_memory,
        ).train
        return next(iter(train.batches(64, with_labels=True)))

    for a, b in zip(first(True), first(False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_version_of_a_prepared_data_set(cifar10_dir):
    with pytest.raises(FileNotFoundError, match=r"cifar10:9\.9\.9"):
        data.load_tfds("cifar10:9.9.9", cifar10_dir, download=False)


def test_missing_package_names_the_extra(monkeypatch):
    def fail(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(
        ImportError, match=r"`load_tfds` needs tensorflow-d.*keras\[datasets\]"
    ):
        data.load_tfds("cifar10")
