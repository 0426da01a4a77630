"""Shuffled batches for `fit`, the same ones after a resume."""

import numpy as np
import tensorflow as tf

from simclr_keras.data.image_set import ImageSet


def training_dataset(
    images,
    batch_size,
    *,
    shuffle=True,
    seed=0,
    initial_epoch=0,
    with_labels=False,
    num_parallel_calls=None,
    input_context=None,
):
    """Batches of images for `fit`, in a new order each epoch.

    A pass over the dataset is an epoch, as `fit` counts them, and each further
    pass is the next epoch. The order in epoch e follows from (`seed`, e) alone,
    so a dataset made with `initial_epoch=e` continues exactly where an
    interrupted run stopped; give `fit` the same `initial_epoch`.
    `dataset.repeat()` streams from epoch to epoch and needs `steps_per_epoch`
    in `fit`; the images of the next epoch are then read ahead, too, while the
    last ones of this epoch are used.

    Every pass counts, also one that is left early: a look at the first batch
    takes an epoch. Look at another dataset, or make the dataset again.

    Images in memory or in files are put in an order drawn uniformly from all
    orders. Records that can only be read in sequence (`load_tfds` of a large
    set) are shuffled by file and then within a buffer.

    An epoch has `images.steps_per_epoch(batch_size)` batches, all of them full:
    the number of negatives in the loss is part of the method, and XLA wants
    static shapes. Which images are left out differs from epoch to epoch.

    Args:
        images: An `ImageSet`, such as `ImageData.train`.
        batch_size: Integer from 1 to the number of images; images over all
            replicas.
        shuffle: Boolean; False delivers every epoch in stored order.
        seed: Integer.
        initial_epoch: Integer, the epoch of the first pass. Defaults to 0.
        with_labels: Boolean, deliver (images, labels) instead of images.
        num_parallel_calls: Integer, how many images are decoded at a time.
            None lets `tf.data` decide.
        input_context: `tf.distribute.InputContext`, from
            `strategy.distribute_datasets_from_function`: the dataset then
            holds this worker's share of each batch, a batch of
            `batch_size // R` for each of its replicas in turn, and the worker
            decodes no other images. None is whole batches, which `fit` shares
            out after every worker has decoded them all. Defaults to None.

    Returns:
        A `tf.data.Dataset` of images (B, H, W, C), values as stored, or of
        (images, labels (B,) int64). Its cardinality is the number of steps in
        an epoch. Batches are prepared ahead of their use.

    Raises:
        TypeError: If `images` is not an `ImageSet`, or `batch_size`, `seed` or
            `initial_epoch` is not an integer.
        ValueError: If the batch is larger than the set, or not a multiple of
            the replicas of an `input_context`; if labels are asked for where
            there are none; or if `initial_epoch` is negative.

    Example:
        data = simclr_keras.data.load_digits()
        dataset = simclr_keras.data.training_dataset(data.train, 256, seed=1)
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
            f"images of type {type(images)}. Pass the part to train on, "
            "`data.train`; arrays become one with `from_arrays(...)`."
        )
    steps_per_epoch = images.steps_per_epoch(batch_size)
    for name, value in (("seed", seed), ("initial_epoch", initial_epoch)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(
                f"`{name}` must be an integer. Received: {name}={value!r} of "
                f"type {type(value)}."
            )
    if initial_epoch < 0:
        raise ValueError(
            "`initial_epoch` must be at least 0. Received: "
            f"initial_epoch={initial_epoch}."
        )

    def one_epoch(epoch):
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        records = images.records(epoch_seed if shuffle else None)
        return records.take(steps_per_epoch * batch_size)

    records = count_passes(initial_epoch).flat_map(one_epoch)
    replicas_here = 1
    if input_context is not None:
        replicas_here = (
            input_context.num_replicas_in_sync
            // input_context.num_input_pipelines
        )
        records = _own_share(records, batch_size, input_context)
        batch_size = input_context.get_per_replica_batch_size(batch_size)
    dataset = images.load_records(
        records,
        batch_size,
        drop_remainder=True,
        with_labels=with_labels,
        num_parallel_calls=num_parallel_calls,
    )

    options = tf.data.Options()
    options.deterministic = True
    # Without a context, workers share out each batch: the records are too few
    # to share by file, and the order is one for all.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.apply(
        tf.data.experimental.assert_cardinality(steps_per_epoch * replicas_here)
    ).with_options(options)


def count_passes(first):
    """A dataset of one number, which is one larger in each pass over it.

    Passes that run at the same time may get the same number.

    Args:
        first: Integer, the number in the first pass.

    Returns:
        A `tf.data.Dataset` of one int64 scalar.
    """
    # On the host, where `tf.data` works. A table and not a variable, as a
    # variable that is created in a strategy's scope has a copy on each device.
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
    """The records that one input pipeline has of every batch.

    A batch is cut into as many runs of neighbours as there are pipelines, so
    that an image has the same index in it however many there are.
    """
    if input_context.num_input_pipelines == 1:
        return records
    share = batch_size // input_context.num_input_pipelines

    def is_own(position, _):
        pipeline = position % batch_size // share
        return pipeline == input_context.input_pipeline_id

    return records.enumerate().filter(is_own).map(lambda _, record: record)
