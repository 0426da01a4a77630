"""Data sets of TensorFlow Datasets (TFDS), by name."""

import difflib
import functools
import os

import numpy as np
import tensorflow as tf

from simclr_keras.data.arrays import VALUE_RANGES, ArrayImageSet, keep_in_memory
from simclr_keras.data.cached_images import cache_images, not_both
from simclr_keras.data.decoding import (
    check_image_size,
    crop_and_resize,
    decode_boxes,
)
from simclr_keras.data.image_set import ImageData, ImageSet
from simclr_keras.optional_imports import import_optional


def load_tfds(
    name,
    data_dir=None,
    *,
    train_split="train",
    test_split="test",
    image_size=None,
    image_key="image",
    label_key="label",
    download=True,
    in_memory=None,
    cache_dir=None,
    shuffle_buffer=10_000,
):
    """A data set of TensorFlow Datasets (TFDS).

    If it is prepared in `data_dir` already, nothing is downloaded and the
    network is not used.

    Args:
        name: String as in `tfds.load`: "cifar10", "cifar10:3.0.2",
            "imagenette/160px-v2". Without a version, the newest one that is
            prepared.
        data_dir: Path of the folder that holds, or will hold, prepared data
            sets. None is TFDS's own, `~/tensorflow_datasets`.
        train_split: String, the images to train on, such as "train",
            "train[:90%]" or "train+unlabelled".
        test_split: String, the held-out images, or None.
        image_size: Integer or pair (height, width), in pixels: crop each image
            to the largest central box of this aspect and resize it. None keeps
            the images as they are; they must then all have the same size.
        image_key: String, the feature with the image.
        label_key: String, the feature with the class. None, or a data set
            without "label", gives images without labels.
        download: Boolean, whether to download and prepare a data set that is
            not yet prepared. Without a network, TFDS gives up only after some
            minutes; False fails at once.
        in_memory: Boolean, whether to keep the decoded images in memory. None
            is True for each split that takes at most 1 GiB, if there is no
            `cache_dir`.
        cache_dir: Path of a folder for the decoded and resized images, in
            place of memory: one file for each split, uncompressed, which is
            written here on the first call and found by later runs. They are
            then shuffled as a whole. Defaults to None.
        shuffle_buffer: Positive integer. Images that are not kept in memory
            are read file by file, in a random order of the files, and drawn
            from a buffer of this many encoded images.

    Returns:
        An `ImageData` of uint8 or uint16 images (N, H, W, C).

    Raises:
        ImportError: If tensorflow-datasets is not installed.
        FileNotFoundError: If `data_dir` does not exist, or the data set is not
            prepared and `download` is False.
        OSError: If the disk of `cache_dir` has too little space.
        RuntimeError: If it is not prepared and the download fails.
        ValueError: If TFDS does not know the data set, there is no such split
            or feature, the images differ in size and `image_size` is None, or
            `in_memory` and `cache_dir` are given together.

    Example:
        data = simclr_keras.data.load_tfds("cifar10", data_dir="data/tfds")
        dataset = simclr_keras.data.training_dataset(data.train, 512)
    """
    tfds = import_optional(
        "tensorflow_datasets", "tensorflow-datasets", "datasets", "`load_tfds`"
    )
    if shuffle_buffer < 1:
        raise ValueError(
            "`shuffle_buffer` must be at least 1. Received: "
            f"shuffle_buffer={shuffle_buffer!r}."
        )
    if image_size is not None:
        image_size = check_image_size(image_size)
    in_memory = not_both(in_memory, cache_dir)
    builder = _prepared_builder(tfds, name, data_dir, download)
    features = dict(builder.info.features.items())

    image_feature = features.get(image_key)
    if not isinstance(image_feature, tfds.features.Image):
        raise ValueError(
            f"`image_key` must name an image feature of {name!r}. Received: "
            f"image_key={image_key!r}; its features are {list(features)}."
        )
    dtype = str(np.dtype(image_feature.np_dtype))
    if dtype not in VALUE_RANGES:
        raise ValueError(
            f"The images of {name!r} must be uint8 or uint16. Received: "
            f"{dtype}. Read them with `tfds.load` and use `from_arrays`."
        )
    height, width, channels = image_feature.shape
    image_shape = (*(image_size or (height, width)), channels)
    if None in image_shape:
        raise ValueError(
            f"The images of {name!r} differ in size, so `image_size` is "
            f"required. Received: image_size={image_size}, images of shape "
            f"{image_feature.shape}."
        )
    if label_key == "label" and label_key not in features:
        label_key = None
    if label_key is not None:
        label_feature = features.get(label_key)
        if not isinstance(label_feature, tfds.features.ClassLabel):
            raise ValueError(
                f"`label_key` must name a class label of {name!r}, or be None. "
                f"Received: label_key={label_key!r}; its features are "
                f"{list(features)}."
            )

    def open_split(argument, split):
        try:
            num_images = builder.info.splits[split].num_examples
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"`{argument}` must be a split of {name!r}. Received: "
                f"{argument}={split!r}; it has {list(builder.info.splits)}. "
                'A part of a split can be held out, as in "train[:90%]" and '
                '"train[90%:]"; test_split=None holds out nothing.'
            ) from error
        records = RecordImageSet(
            builder,
            split,
            num_images,
            image_shape,
            dtype,
            image_key,
            label_key,
            resize=image_size is not None,
            shuffle_buffer=shuffle_buffer,
        )
        if keep_in_memory(records, in_memory):
            return ArrayImageSet(*records.arrays())
        if cache_dir is not None:
            return cache_images(records, cache_dir)
        return records

    train = open_split("train_split", train_split)
    test = None
    if test_split is not None:
        test = open_split("test_split", test_split)
    class_names = None
    if label_key is not None:
        class_names = tuple(map(str, features[label_key].names))
    return ImageData(
        name=builder.info.full_name,
        train=train,
        test=test,
        value_range=VALUE_RANGES[dtype],
        class_names=class_names,
    )


class RecordImageSet(ImageSet):
    """Images that TFDS has prepared on disk, decoded whenever they are used.

    Args:
        builder: A `tfds.core.DatasetBuilder` whose data set is prepared.
        split: String.
        num_images: Integer, N.
        image_shape: Tuple of integers (H, W, C), the shape of each image.
        dtype: String, "uint8" or "uint16".
        image_key: String, the feature with the image.
        label_key: String, the feature with the class, or None.
        resize: Boolean, whether to crop and resize each image to (H, W).
        shuffle_buffer: Positive integer, the number of encoded images in the
            shuffle buffer.
    """

    can_crop = True

    def __init__(
        self,
        builder,
        split,
        num_images,
        image_shape,
        dtype,
        image_key,
        label_key,
        resize,
        shuffle_buffer,
    ):
        super().__init__(num_images, image_shape, dtype, label_key is not None)
        self._builder = builder
        self._split = split
        self._image_key = image_key
        self._label_key = label_key
        self._resize = resize
        self._shuffle_buffer = shuffle_buffer

    def fingerprint(self, contents=False):
        return {
            # The version stands for the images, and for the labels.
            "name": self._builder.info.full_name,
            "split": self._split,
            "num_images": self.num_images,
            "image_shape": list(self.image_shape),
            "dtype": self.dtype,
        }

    def origin(self):
        return f"{self._image_key} of {self._builder.data_path}"

    @functools.cached_property
    def labels(self):
        if not self.has_labels:
            return None
        records = self.records().batch(1024)
        return np.concatenate([r[self._label_key].numpy() for r in records])

    def records(self, seed=None):
        import tensorflow_datasets as tfds  # installed, since `builder` is here

        keys = [self._image_key, self._label_key][: 1 + self.has_labels]
        shuffle_seed = None
        if seed is not None:
            shuffle_seed = tf.random.stateless_uniform(
                (), seed, 0, 2**31 - 1, dtype=tf.int64, alg="philox"
            )
            # `Dataset.shuffle` also depends on the global seed, but the order
            # must follow from `seed` alone. This sets the seed of the graph
            # that is being traced for one epoch, and no other.
            if not tf.executing_eagerly():
                tf.random.set_seed(1)
        records = self._builder.as_dataset(
            split=self._split,
            shuffle_files=seed is not None,
            decoders=tfds.decode.PartialDecoding(
                dict.fromkeys(keys, True),
                decoders={self._image_key: tfds.decode.SkipDecoding()},
            ),
            read_config=tfds.ReadConfig(
                shuffle_seed=shuffle_seed,
                try_autocache=False,
                # Shuffle also a data set that has an order of its own.
                enable_ordering_guard=False,
            ),
        )
        if seed is None:
            return records
        buffer_size = min(self._shuffle_buffer, self.num_images)
        return records.shuffle(buffer_size, seed=shuffle_seed)

    def load(self, record):
        feature = self._builder.info.features[self._image_key]
        image = feature.decode_example(record[self._image_key])
        if self._resize:
            image = crop_and_resize(image, self.image_shape[:2])
        label = record[self._label_key] if self.has_labels else 0
        return tf.ensure_shape(image, self.image_shape), label

    def load_boxes(self, record, draw):
        feature = self._builder.info.features[self._image_key]
        channels = self.image_shape[-1]

        def decode_window(data, window):
            return tf.io.decode_and_crop_jpeg(data, window, channels)

        boxes = decode_boxes(
            record[self._image_key],
            draw,
            feature.decode_example,
            decode_window if self.dtype == "uint8" else None,
        )
        return boxes, record[self._label_key] if self.has_labels else 0


def _prepared_builder(tfds, name, data_dir, download):
    """The builder of a data set on disk, which is downloaded if necessary."""
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
        # TFDS would make it, and look for the data set on the network.
        if "://" not in data_dir and not os.path.isdir(data_dir):
            raise FileNotFoundError(
                "`data_dir` must be an existing folder. Received: "
                f"data_dir={data_dir!r}. To download a data set to it, make it "
                "first."
            )
    where = data_dir or os.path.expanduser(
        os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    )
    base_name = name.split("/")[0].split(":")[0]
    advice = (
        f"Prepare it where there is a network, with `tfds build {name} "
        f"--data_dir={where}`, or set `data_dir` to the folder that holds "
        f"{base_name}/<version>/."
    )
    builder = error = None
    try:
        # If a version is given, even "*.*.*", TFDS looks for prepared files
        # first. Otherwise it takes the version in the code of the data set,
        # and would download that one even if another one is prepared.
        builder = tfds.builder(
            name if ":" in name else f"{name}:*.*.*", data_dir=data_dir
        )
    except (AssertionError, ValueError) as caught:
        error = caught
    if builder is not None and builder.is_prepared():
        return builder
    if not download:
        raise FileNotFoundError(
            f"The data set {name!r} is not prepared. Looked in: {where!r}. "
            f"Received: download=False. Pass download=True. {advice}"
        ) from error
    if isinstance(error, tfds.core.DatasetNotFoundError):
        known = tfds.list_builders(with_community_datasets=False)
        similar = difflib.get_close_matches(base_name, known)
        raise ValueError(
            "`name` must be a data set that TFDS knows, or one prepared in "
            f"`data_dir`. Received: name={name!r}, data_dir={where!r}. "
            f"Similar names: {similar}."
        )
    if error is not None:
        raise ValueError(
            "`name` must have a configuration and a version that TFDS knows. "
            f"Received: name={name!r}. {error}"
        ) from error
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise RuntimeError(
            f"The data set {name!r} is not prepared, and it could not be "
            f"downloaded and prepared ({type(error).__name__}: {error}). "
            f"Looked in: {where!r}. {advice}"
        ) from error
    return builder
