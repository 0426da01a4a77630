"""Views of images, made in a `tf.data` pipeline."""

import sys

import numpy as np
import tensorflow as tf

from simclr_keras.data.image_set import check_parallel_calls
from simclr_keras.data.training_dataset import count_passes
from simclr_keras.data.view_keys import ViewKeys, check_backend
from simclr_keras.value_range import check_dtype


def augment(
    dataset,
    augmentation,
    *,
    initial_step=0,
    num_parallel_calls=None,
    input_context=None,
):
    """Turns batches of images into batches of views, on the host.

    The views are those that a `SimCLRModel` with the same augmentation makes
    in `fit`: view v of image i in step s depends only on the augmentation's
    seed and (v, i, s), in whatever order the batches are computed. Augment
    here if the host has cores to spare and the accelerator is the bottleneck,
    and train a `SimCLRModel(..., augmentation=None)` with the augmentation's
    `value_range`.

    The steps of a pass over the result follow on those of the pass before, so
    each epoch has other views. Every pass counts, even one that takes only the
    first batch. Each pass over a dataset without end begins at `initial_step`.

    Layers from elsewhere, such as Keras's own, also give the same views in
    every run, but not those that they would give in `fit`.

    Args:
        dataset: `tf.data.Dataset` of batches of images (B, H, W, C), of
            (images, labels), or of dictionaries with `"image"` and optionally
            `"label"`. Its cardinality must be known or infinite.
        augmentation: `keras.layers.Layer` for two views, or a list with a layer
            for each view, as in `SimCLRModel`.
        initial_step: Integer, the step of the first batch. A resumed run
            passes the number of steps that are done. Defaults to 0.
        num_parallel_calls: Integer, the number of batches to augment in
            parallel. None lets `tf.data` decide.
        input_context: `tf.distribute.InputContext`, if `dataset` has only one
            worker's share of each batch, as `training_dataset` with the same
            argument. Defaults to None.

    Returns:
        A `tf.data.Dataset` of dictionaries with `"view_1"`, `"view_2"`, ...,
        float tensors (B, H', W', C), and `"label"` if there are labels. It has
        the cardinality of `dataset`.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If `dataset` is not a `tf.data.Dataset`, `augmentation` is
            not a layer, or `initial_step` is not an integer.
        ValueError: If the elements of `dataset` are none of the above, its
            cardinality is unknown, its images cannot be in the augmentation's
            `value_range`, `augmentation` is a list of one or of layers that
            share a layer, or `initial_step` is negative.

    Example:
        data = simclr_keras.data.load_digits()
        augmentation = simclr_keras.SimCLRAugmentation(8, 8, seed=1)
        dataset = simclr_keras.data.augment(
            simclr_keras.data.training_dataset(data.train, 256), augmentation
        )
        model = simclr_keras.SimCLRModel(
            encoder, value_range=augmentation.value_range
        )
    """
    check_backend("`augment`")
    _check_dataset(dataset)
    if isinstance(initial_step, bool) or not isinstance(
        initial_step, (int, np.integer)
    ):
        raise TypeError(
            "`initial_step` must be an integer. Received: "
            f"initial_step={initial_step!r} of type {type(initial_step)}."
        )
    if initial_step < 0:
        raise ValueError(
            "`initial_step` must be at least 0. Received: "
            f"initial_step={initial_step}."
        )
    check_parallel_calls(num_parallel_calls)
    views = _Views(augmentation)
    images, _ = _take_apart(dataset.element_spec)
    for each in views.augmentations:
        if hasattr(each, "value_range"):
            check_dtype(images.dtype, each.value_range)
    cardinality = _known_cardinality(dataset)
    replicas_here, first_replica = 1, 0
    if input_context is not None:
        replicas_here = (
            input_context.num_replicas_in_sync
            // input_context.num_input_pipelines
        )
        first_replica = replicas_here * input_context.input_pipeline_id
        if cardinality > 0 and cardinality % replicas_here:
            raise ValueError(
                "`dataset` must have a batch for each replica of this worker "
                f"in every step. Received: {cardinality} batches for "
                f"{replicas_here} replicas."
            )

    def make_views(number, element):
        # In a step each replica of this worker takes one batch in turn.
        step, replica = number // replicas_here, number % replicas_here
        images, labels = _take_apart(element)
        batch_size = tf.shape(images)[0]
        replica = tf.cast(first_replica + replica, "int32")
        index = replica * batch_size + tf.range(batch_size)
        result = views(images, index, initial_step + step)
        return result if labels is None else {**result, "label": labels}

    options = tf.data.Options()
    # Workers must agree on the steps and on the places in a batch: each batch
    # is split between them, not the files.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    numbered = tf.data.Dataset.zip((_numbers(cardinality), dataset))
    return (
        numbered.map(
            make_views,
            num_parallel_calls or tf.data.AUTOTUNE,
            deterministic=True,
        )
        .prefetch(tf.data.AUTOTUNE)
        .apply(tf.data.experimental.assert_cardinality(cardinality))
        .with_options(options)
    )


class _Views:
    """Makes the views of a step, without variables.

    Args:
        augmentation: As in `augment`.
    """

    def __init__(self, augmentation):
        self.keys = ViewKeys("augmentation", augmentation)
        self.augmentations = self.keys.augmentations
        self.functions = {
            id(each): tf.function(each.apply, jit_compile=True, autograph=False)
            for each in self.augmentations
            if each.jit_compile and sys.platform != "darwin"
        }

    def __call__(self, images, index, step):
        with self.keys.constant_state():
            return {
                f"view_{view + 1}": self.make(view, images, index, step)
                for view in range(self.keys.num_views)
            }

    def make(self, view, images, index, step):
        """One view; its key is that of `SimCLRModel.augment`."""
        augmentation, key = self.augmentations[view], self.keys.key(view, step)
        # XLA makes it several times as fast, but compiles each size anew.
        compiled = self.functions.get(id(augmentation))
        if compiled is None or None in tuple(images.shape)[1:]:
            return augmentation.apply(images, index, key)
        shape = augmentation.compute_output_shape(tuple(images.shape))
        return tf.ensure_shape(compiled(images, index, key), shape)


def _numbers(cardinality):
    """The numbers of a dataset's elements, which go on from pass to pass."""
    if cardinality == tf.data.INFINITE_CARDINALITY:
        return tf.data.Dataset.range(tf.int64.max)

    def one_pass(number):
        first = number * cardinality
        return tf.data.Dataset.range(first, first + cardinality)

    return count_passes(0).flat_map(one_pass)


def _known_cardinality(dataset):
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            "`dataset` must have a known cardinality, so that each pass can "
            "continue the steps of the one before. Received: an unknown one. "
            "Pass dataset.apply(tf.data.experimental.assert_cardinality("
            "num_batches)), or dataset.repeat()."
        )
    return cardinality


def _take_apart(element):
    """(images, labels) of a batch; labels are None if there are none."""
    if isinstance(element, dict):
        return element.get("image"), element.get("label")
    if isinstance(element, tuple):
        return element if len(element) == 2 else (None, None)
    return element, None


def _check_dataset(dataset):
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset. Received: dataset of type "
            f"{type(dataset)}. For arrays, use tf.data.Dataset."
            "from_tensor_slices(images).batch(batch_size)."
        )
    spec = dataset.element_spec
    images, _ = _take_apart(spec)
    if not isinstance(images, tf.TensorSpec):
        raise ValueError(
            "`dataset` must have batches of images, of (images, labels), or of "
            'dictionaries with "image" and optionally "label". Received: '
            f"element_spec={spec}."
        )
    if images.shape.rank != 4:
        raise ValueError(
            "`dataset` must have batches of images (B, H, W, C). Received: "
            f"images of shape {images.shape}. Pass dataset.batch(batch_size) "
            "if they are not batched."
        )
