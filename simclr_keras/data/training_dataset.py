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
    epochs=None,
    with_labels=False,
    num_parallel_calls=None,
    input_context=None,
):
    """Batches of images for `fit`, in a new order each epoch.

    The order in epoch e follows from (`seed`, e) alone, so a dataset made with
    `initial_epoch=e` goes on exactly where an interrupted run stopped. Give
    `fit` the same `initial_epoch`, and `steps_per_epoch` as below.

    Images in memory or in files are put in an order drawn uniformly from all
    orders. Records that can only be read in sequence (`load_tfds` of a large
    set) are shuffled by file and then within a buffer.

    An epoch has `images.steps_per_epoch(batch_size)` batches, all of them full:
    the number of negatives in the loss is part of the method, and static shapes
    are what XLA wants. Which images are left over differs from epoch to epoch.

    Args:
        images: An `ImageSet`, such as `ImageData.train`.
        batch_size: Integer from 1 to the number of images; images over all
            replicas.
        shuffle: Boolean; False delivers every epoch in stored order.
        seed: Integer.
        initial_epoch: Integer, the first epoch to deliver. Defaults to 0.
        epochs: Integer, the epoch to stop before, as in `fit`; None goes on
            for ever.
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
        (images, labels (B,) int64); batches are prepared ahead of their use.

    Raises:
        TypeError: If `images` is not an `ImageSet`, or a number no integer.
        ValueError: If the batch is larger than the set, or no multiple of the
            replicas of an `input_context`; if labels are asked for where there
            are none; or if the epochs are out of order.

    Example:
        data = simclr_keras.data.load_digits()
        dataset = simclr_keras.data.training_dataset(data.train, 256, seed=1)
        steps_per_epoch = data.train.steps_per_epoch(256)

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
        if not isinstance(value, (int, np.integer)):
            raise TypeError(
                f"`{name}` must be an integer. Received: {name}={value!r} of "
                f"type {type(value)}."
            )
    if initial_epoch < 0 or (epochs is not None and epochs <= initial_epoch):
        raise ValueError(
            "`initial_epoch` must be at least 0 and less than `epochs`. "
            f"Received: initial_epoch={initial_epoch}, epochs={epochs}."
        )

    def one_epoch(epoch):
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        records = images.records(epoch_seed if shuffle else None)
        return records.take(steps_per_epoch * batch_size)

    # Only indices or undecoded bytes pass through the loop over epochs; what
    # costs time comes after it, so that no epoch waits for its first batch.
    last = tf.int64.max if epochs is None else epochs
    records = tf.data.Dataset.range(initial_epoch, last).flat_map(one_epoch)
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

    if epochs is None:
        cardinality = tf.data.INFINITE_CARDINALITY
    else:
        cardinality = (epochs - initial_epoch) * steps_per_epoch * replicas_here
    options = tf.data.Options()
    options.deterministic = True
    # Without a context, workers share out each batch: the records are too few
    # to share by file, and the order is one for all.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.apply(
        tf.data.experimental.assert_cardinality(cardinality)
    ).with_options(options)


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
