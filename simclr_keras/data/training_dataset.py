"""Shuffled batches for `fit`, which a resumed run continues exactly."""

import numpy as np
import tensorflow as tf

from simclr_keras.data.crops_while_decoding import CropsWhileDecoding
from simclr_keras.data.image_set import ImageSet, check_parallel_calls


def training_dataset(
    images,
    batch_size,
    *,
    shuffle=True,
    seed=0,
    initial_epoch=0,
    initial_step=0,
    with_labels=False,
    crop=None,
    num_parallel_calls=None,
    input_context=None,
):
    """Batches of images for `fit`, in a new order each epoch.

    One pass over the dataset is one epoch, as in `fit`, and the next pass is
    the next epoch. The order in epoch e depends only on (`seed`, e), so a
    dataset with `initial_epoch=e` continues exactly where an interrupted run
    stopped; pass the same `initial_epoch` to `fit`. `dataset.repeat()` goes
    through the epochs without a pause between them: `fit` then needs
    `steps_per_epoch=images.steps_per_epoch(batch_size)`.

    Every pass counts as an epoch, even one that takes only the first batch. To
    look at a batch, create the dataset a second time. With several replicas,
    `fit` of a model other than `SimCLRModel` takes such a look.

    Images in memory or in files come in an order drawn uniformly from all
    orders. Records that can only be read in sequence (`load_tfds` of a large
    set) are shuffled by file and then within a buffer.

    An epoch has `images.steps_per_epoch(batch_size)` batches. All of them are
    full, because the number of negatives in the loss is part of the method and
    XLA needs static shapes. The images that are left out differ from epoch to
    epoch.

    With `crop`, the random crops are cut out of the stored images, of whatever
    size, while they are decoded. Each image is decoded once a step, of a JPEG
    only the part that the crops show. View v of image i in step s is the box
    that the augmentation's crop would cut out of the whole image in `fit`,
    resized by the same arithmetic; the rest of the augmentation follows in
    `fit`, on the device. Without `crop`, views are cut out of what `load_...`
    has made of the image by its `image_size`: they have less detail, and never
    show what lies outside of its central box. TensorFlow's error about a file
    that cannot be decoded does not name it here; `load_image_folder(...,
    on_error="skip")` finds such files beforehand.

    Args:
        images: An `ImageSet`, such as `ImageData.train`.
        batch_size: Integer from 1 to the number of images, counted over all
            replicas.
        shuffle: Boolean; False keeps the stored order in every epoch.
        seed: Integer.
        initial_epoch: Integer, the epoch of the first pass. Defaults to 0.
        initial_step: Integer, how many batches of the first pass are not read,
            because `callbacks.Checkpoints` passes over them: its `step`. In
            their place stand batches of zeros, of NaN for floats. Defaults to
            0.
        with_labels: Boolean, whether to return (images, labels) instead of
            images.
        crop: The augmentation of the `SimCLRModel` that the dataset is for, a
            layer or a list with one for each view, which must begin with a
            `RandomResizedCrop`: `SimCLRAugmentation`, or a `keras.Sequential`.
            The images must be decoded whenever they are used, as files and
            TFDS with `in_memory=False` are. None gives images. Defaults to
            None.
        num_parallel_calls: Integer, the number of images to decode in
            parallel. None lets `tf.data` decide.
        input_context: `tf.distribute.InputContext`, from
            `strategy.distribute_datasets_from_function`. The dataset then has
            this worker's share of each batch, a batch of `batch_size // R` for
            each of its replicas in turn, and the worker decodes no other
            images. None gives whole batches, which `fit` splits after every
            worker has decoded all of them. Defaults to None.

    Returns:
        A `tf.data.Dataset` of images (B, H, W, C), values as stored, or of
        (images, labels (B,) int64), with the steps of one epoch as its
        cardinality. Batches are prefetched. With `crop`, of dictionaries with
        `"crop_1"`, `"crop_2"`, ..., float32 tensors (B, height, width, C) in
        the augmentation's `value_range`, and `"label"` if there are labels.

    Raises:
        RuntimeError: If there is a `crop` and Keras does not run on TensorFlow.
        TypeError: If `images` is not an `ImageSet`, `batch_size`, `seed`,
            `initial_epoch` or `initial_step` is not an integer, or `crop` is
            not a layer.
        ValueError: If the batch is larger than the set, or not a multiple of
            the replicas of an `input_context`; if labels are requested where
            there are none; if `initial_epoch` is negative, or `initial_step`
            not one of an epoch's; or if `crop` does not begin with a
            `RandomResizedCrop`, or the images are in memory or cannot be in
            its `value_range`.

    Example:
        data = simclr_keras.data.load_digits()
        dataset = simclr_keras.data.training_dataset(data.train, 256, seed=1)
        model.fit(dataset, epochs=100)

    Crops of whole photos:
        data = simclr_keras.data.load_image_folder(
            "photos", image_size=256, in_memory=False
        )
        augmentation = simclr_keras.SimCLRAugmentation(224, 224, seed=1)
        model = simclr_keras.SimCLRModel(encoder, augmentation=augmentation)
        dataset = simclr_keras.data.training_dataset(
            data.train, 256, crop=augmentation
        )
        model.fit(dataset, epochs=100)

    With several workers:
        dataset = strategy.distribute_datasets_from_function(
            lambda context: simclr_keras.data.training_dataset(
                data.train, 256, seed=1, input_context=context
            )
        )
    """
    if not isinstance(images, ImageSet):
        raise TypeError(
            "`images` must be an `ImageSet`. Received: "
            f"images of type {type(images)}. Pass the images to train on, "
            "`data.train`; for arrays, use `from_arrays(...).train`."
        )
    steps_per_epoch = images.steps_per_epoch(batch_size)
    for name, value in (
        ("seed", seed),
        ("initial_epoch", initial_epoch),
        ("initial_step", initial_step),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(
                f"`{name}` must be an integer. Received: {name}={value!r} of "
                f"type {type(value)}."
            )
    if not -(2**63) <= seed < 2**63:
        raise ValueError(
            f"`seed` must be an integer of 64 bits. Received: seed={seed}."
        )
    if not 0 <= initial_epoch <= 2**40:  # Its steps are counted in 64 bits.
        raise ValueError(
            "`initial_epoch` must be at least 0, and at most 2**40. Received: "
            f"initial_epoch={initial_epoch}."
        )
    check_parallel_calls(num_parallel_calls)
    if not 0 <= initial_step <= steps_per_epoch:
        raise ValueError(
            f"`initial_step` must be from 0 to {steps_per_epoch}, the steps of "
            f"an epoch. Received: initial_step={initial_step}."
        )

    crops = None if crop is None else CropsWhileDecoding(crop, images)
    num_global = int(batch_size)

    def steps_done(epoch):
        return tf.where(
            epoch == initial_epoch, tf.cast(initial_step, "int64"), 0
        )

    def one_epoch(epoch):
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        records = images.records(epoch_seed if shuffle else None)
        records = records.take(steps_per_epoch * num_global)
        done = steps_done(epoch)
        records = records.skip(done * num_global)
        if crops is None:
            return records
        steps = tf.data.Dataset.range(
            epoch * steps_per_epoch + done, (epoch + 1) * steps_per_epoch
        )
        # Of all images, not of a worker's share: they are few numbers.
        numbers = steps.map(lambda step: crops.numbers(step, num_global))
        return tf.data.Dataset.zip((numbers.unbatch(), records))

    records = count_passes(initial_epoch).flat_map(one_epoch)
    replicas_here = 1
    if input_context is not None:
        replicas_here = (
            input_context.num_replicas_in_sync
            // input_context.num_input_pipelines
        )
        records = _own_share(records, batch_size, input_context)
        batch_size = input_context.get_per_replica_batch_size(batch_size)
    load_records = images.load_records if crops is None else crops.load_records
    dataset = load_records(
        records,
        batch_size,
        drop_remainder=True,
        with_labels=with_labels,
        num_parallel_calls=num_parallel_calls,
    )
    if initial_step:
        blank = tf.data.Dataset.from_tensors(
            tf.nest.map_structure(_blank, dataset.element_spec)
        )
        blanks = count_passes(initial_epoch).flat_map(
            lambda epoch: blank.repeat(steps_done(epoch) * replicas_here)
        )
        dataset = blanks.concatenate(dataset)

    options = tf.data.Options()
    options.deterministic = True
    # Without a context, each batch is split between the workers: there are no
    # files to split by, and all of them have the same order.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.apply(
        tf.data.experimental.assert_cardinality(steps_per_epoch * replicas_here)
    ).with_options(options)


def _blank(spec):
    """A batch that nobody is to see."""
    value = float("nan") if spec.dtype.is_floating else 0
    return tf.fill(spec.shape, tf.cast(value, spec.dtype))


def count_passes(first):
    """A dataset of one number, which is one larger in each pass over it.

    Passes that start at the same time may get the same number.

    Args:
        first: Integer, the number in the first pass.

    Returns:
        A `tf.data.Dataset` of one int64 scalar.
    """
    # `tf.data` runs on the host. A table and not a variable, because a variable
    # that is created in the scope of a strategy has a copy on each device.
    with tf.device("/cpu:0"):
        key = tf.constant(0, tf.int64)
        table = tf.lookup.experimental.MutableHashTable(
            tf.int64,
            tf.int64,
            default_value=tf.constant(first, tf.int64),
            experimental_is_anonymous=True,
        )

    def next_number(_):
        number = table.lookup(key)
        table.insert(key, number + 1)
        return number

    return tf.data.Dataset.range(1).map(next_number)


def _own_share(records, batch_size, input_context):
    """The records of each batch that belong to one input pipeline.

    A batch is cut into consecutive parts, one per pipeline, so that the index
    of an image in the batch does not depend on the number of pipelines.
    """
    if input_context.num_input_pipelines == 1:
        return records
    share = batch_size // input_context.num_input_pipelines

    def is_own(position, _):
        pipeline = position % batch_size // share
        return pipeline == input_context.input_pipeline_id

    return records.enumerate().filter(is_own).map(lambda _, record: record)
