"""Images in the records of TensorFlow Datasets."""

import functools

import numpy as np
import tensorflow as tf

from simclr_keras.data.decoding import crop_and_resize
from simclr_keras.data.image_set import ImageSet


class RecordImageSet(ImageSet):
    """Images that TFDS has prepared on disk, decoded each time they are used.

    Args:
        builder: A `tfds.core.DatasetBuilder` whose data set is prepared.
        split: String.
        num_images: Integer, N.
        image_shape: Tuple of integers (H, W, C) to deliver.
        dtype: String, "uint8" or "uint16".
        image_key: String, the feature that holds the image.
        label_key: String, the feature that holds the class, or None.
        resize: Boolean, whether to cut and resize each image to (H, W).
        shuffle_buffer: Positive integer, encoded images to draw from.
    """

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

    @functools.cached_property
    def labels(self):
        if not self.has_labels:
            return None
        records = self.records().batch(1024)
        return np.concatenate([r[self._label_key].numpy() for r in records])

    def records(self, seed=None):
        import tensorflow_datasets as tfds  # `builder` is proof that it exists.

        keys = [self._image_key, self._label_key][: 1 + self.has_labels]
        shuffle_seed = None
        if seed is not None:
            shuffle_seed = tf.random.stateless_uniform(
                (), seed, 0, 2**31 - 1, dtype=tf.int64, alg="philox"
            )
            # `Dataset.shuffle` also follows the global seed, and the order is
            # promised to follow from `seed` alone. This sets the seed of the
            # graph that is being traced for one epoch, and of nothing else.
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
                # A data set that has an order of its own is shuffled too.
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
