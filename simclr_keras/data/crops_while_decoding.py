"""Random crops of stored images, cut out while these are decoded."""

import tensorflow as tf

from simclr_keras.augmentation.contract import NO_LEADING_CROP, leading_key
from simclr_keras.data.view_keys import ViewKeys, check_backend
from simclr_keras.value_range import check_dtype


class CropsWhileDecoding:
    """Makes batches of crops out of records, see `training_dataset`.

    The draw is that of `RandomResizedCrop`, in two halves: `numbers` for a
    whole batch, which know nothing of the images, and the boxes that they
    stand for, as soon as the size of an image is known.

    Args:
        crop: As in `training_dataset`.
        images: `ImageSet`.

    Raises:
        RuntimeError, TypeError, ValueError: As `training_dataset`.
    """

    def __init__(self, crop, images):
        check_backend("`crop`")
        self._keys = ViewKeys("crop", crop)
        self._crops = []
        for augmentation in self._keys.augmentations:
            layer = augmentation.leading_crop()
            if layer is None:
                raise ValueError(f"{NO_LEADING_CROP} Received: crop={crop!r}.")
            check_dtype(images.dtype, augmentation.value_range)
            self._crops.append(layer)
        if not images.can_crop:
            raise ValueError(
                "`crop` needs images that are decoded whenever they are used, "
                f"so that it can be cut out of them. Received: {images!r}, "
                "which are not. Pass in_memory=False and no `cache_dir` to "
                "`load_image_folder` or `load_tfds`; leave `crop` out for "
                "arrays, whose crops are made in `fit`."
            )
        self._images = images

    def numbers(self, step, batch_size):
        """The random numbers of a step, float32 (B, V, 4).

        Args:
            step: int64 tensor ().
            batch_size: Integer B, counted over all replicas.
        """
        index = tf.range(batch_size)
        with self._keys.constant_state():
            views = [
                crop.numbers(index, leading_key(self._keys.key(view, step)))
                for view, crop in enumerate(self._crops)
            ]
        return tf.stack(views, axis=1)

    def load_records(
        self,
        records,
        batch_size,
        drop_remainder=False,
        with_labels=False,
        num_parallel_calls=None,
    ):
        """As `ImageSet.load_records`, of pairs (numbers, record)."""
        self._images.check_labels(with_labels)

        def load(numbers, record):
            boxes, label = self._images.load_boxes(
                record, lambda *size: self._draw(numbers, *size)
            )
            views = {
                f"crop_{view + 1}": self._resize(view, box)
                for view, box in enumerate(boxes)
            }
            return {**views, "label": label} if with_labels else views

        calls = num_parallel_calls or tf.data.AUTOTUNE
        dataset = records.map(load, calls).batch(batch_size, drop_remainder)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _draw(self, numbers, rows, columns):
        """The boxes of one image: int32 (V, 4), top, left, height, width."""
        first, *others = self._crops
        if all(crop is first for crop in others):
            drawn = [first.boxes(numbers, rows, columns)]
        else:
            drawn = [
                crop.boxes(numbers[view : view + 1], rows, columns)
                for view, crop in enumerate(self._crops)
            ]
        boxes = [
            tf.stack([box[k] for k in ("top", "left", "height", "width")], 1)
            for box in drawn
        ]
        return tf.cast(tf.concat(boxes, axis=0), tf.int32)

    def _resize(self, view, box):
        """What the crop makes of a box: float32 (height, width, C)."""
        crop = self._crops[view]
        size = (crop.height, crop.width)
        resized = tf.image.resize(box, size, crop.interpolation)
        value_range = self._keys.augmentations[view].value_range
        # One pass over the pixels; `tf.clip_by_value` makes two.
        return tf.raw_ops.ClipByValue(
            t=tf.cast(resized, tf.float32),
            clip_value_min=value_range[0],
            clip_value_max=value_range[1],
        )
