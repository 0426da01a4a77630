"""A step on TensorFlow: replicas, loss scale, assertions, compiled views."""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from simclr_keras import distribution, keras_private
from simclr_keras.model import checks
from simclr_keras.model.batch import images_of, view_names
from simclr_keras.model.compiled_views import compiled
from simclr_keras.model.gradient_caching import CachesGradients
from simclr_keras.model.left_out import BeforeStep, leaves_out_steps


class TensorFlowStep(
    CachesGradients, keras_private.BuildsBeforeTensorFlowSteps
):
    """Steps of `tf.GradientTape`."""

    def train_step(self, data):
        with keras_private.forgets_custom_gradients():
            return self._train_step(data)

    def _train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        before = BeforeStep(self)
        if self.micro_batch_size is not None:
            loss, gradients = self.cached_gradients(x, y, sample_weight)
        else:
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, sample_weight=sample_weight)
                scaled_loss = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled_loss, self.trainable_variables)
        gradients = _await_all(self._share_overflow(gradients))
        loss = before.end(loss, self._weight(x))
        self.optimizer.apply(gradients, self.trainable_variables)
        return self._log(loss, x)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with keras_private.forgets_custom_gradients():
            loss = self.compute_loss(
                x, y, sample_weight=sample_weight, training=False
            )
        return self._log(loss, x)

    def predict_step(self, data):
        self.look_at_images(keras.utils.unpack_x_y_sample_weight(data)[0])
        return super().predict_step(data)

    def _log(self, loss, x):
        # The loss of a replica is its share of the global batch's.
        self.loss_tracker.update_state(
            loss * distribution.num_replicas(), sample_weight=self._weight(x)
        )
        logs = self.get_metrics_result()
        if distribution.is_multi_worker(self.distribute_strategy):
            # Keras takes the mean of logs over workers along the first axis.
            logs = {name: tf.reshape(v, (1,)) for name, v in logs.items()}
        return logs

    def _weight(self, x):
        """What the loss of a replica counts for in the mean of an epoch."""
        num_images = distribution.global_batch_size(
            ops.shape(keras.tree.flatten(x)[0])[0]
        )
        return num_images / distribution.num_replicas()

    def _share_overflow(self, gradients):
        """Makes what overflowed on one replica overflow on all.

        Keras leaves out a step of mixed_float16 whose gradients overflow, but
        looks at those of the first replica only (seen in Keras 3.15).
        """
        optimizer = self.optimizer
        if distribution.num_replicas() == 1 or not leaves_out_steps(optimizer):
            return gradients
        overflow = distribution.any_replica(
            ops.logical_not(optimizer.check_finite(gradients))
        )
        return [
            g if g is None else tf.where(overflow, tf.cast(np.nan, g.dtype), g)
            for g in gradients
        ]

    def before_steps(self, is_single_batch=False):
        """Checks what a strategy cannot do, before the first step."""
        strategy = self.distribute_strategy
        distribution.check_fit(
            strategy,
            self.optimizer,
            self.steps_per_execution,
            self.jit_compile,
        )
        if is_single_batch and distribution.num_replicas(strategy) > 1:
            raise ValueError(
                "`train_on_batch` and `test_on_batch` give every replica the "
                "whole batch, where SimCLR needs each image once. Received a "
                f"call with {distribution.num_replicas(strategy)} replicas; "
                "use `fit` or `evaluate`."
            )

    def has_replicas(self):
        """Whether several replicas train this model in step."""
        return distribution.num_replicas(self.distribute_strategy) > 1

    def one_share(self, batch):
        """What one replica of this process has of a batch."""
        return distribution.one_share(self.distribute_strategy, batch)

    def sync_state(self):
        """Brings variables up to date, which they always are here."""

    def apply_augmentation(self, augmentation, images, index, key):
        """`augmentation.apply`, by XLA where that is possible and pays."""
        # Every size of images is compiled anew, for seconds: only those whose
        # size is known, and so the same in every batch, are.
        is_compiled = (
            augmentation.jit_compile
            and self.may_compile
            and not tf.executing_eagerly()
            and None not in tuple(images.shape)[1:]
            and sys.platform != "darwin"
        )
        if not is_compiled:
            return augmentation.apply(images, index, key)
        # XLA makes these many small operations several times as fast on a CPU.
        # What it compiles is a function of its arguments: in a replica it must
        # not hold variables, which belong to one replica.
        if key is None:
            key = augmentation.next_key()
        apply = compiled(augmentation, self.compiled_augmentations)
        views = apply(images, index, key)
        shape = augmentation.compute_output_shape(tuple(images.shape))
        return tf.ensure_shape(views, shape)

    def checked(self, batch, outside, no_class):
        """Stops at a batch whose values are wrong, before it is used.

        XLA leaves assertions out.

        Args:
            batch: As `batch.unpack` gives it.
            outside, no_class: As `ValueWatch.look` gives them.

        Returns:
            The batch, to be used instead: in a graph, what is computed from it
            waits for the assertions, which would otherwise run beside the
            step and leave NaN in the weights.
        """
        assertions = []
        for is_wrong, message in (
            (outside, checks.out_of_range_message(self.value_range)),
            (no_class, checks.label_message(self.num_classes)),
        ):
            if is_wrong is not None:
                assertions.append(
                    tf.debugging.assert_equal(is_wrong, False, message)
                )
        images = images_of(batch)
        if images.shape[0] is None:
            # The same on every replica, so that all of them stop together.
            sizes = distribution.batch_sizes(tf.shape(images)[0])
            assertions += [
                tf.debugging.assert_greater(
                    tf.reduce_sum(sizes), 1, checks.SINGLE_IMAGE
                ),
                tf.debugging.assert_positive(
                    tf.reduce_min(sizes), checks.EMPTY_REPLICA
                ),
            ]
        for name in view_names(batch)[1:]:
            view = batch[name]
            if None in (view.shape[0], images.shape[0]):
                sizes = tf.shape(view)[0], tf.shape(images)[0]
                message = checks.OTHER_IMAGES
                assertions.append(tf.debugging.assert_equal(*sizes, message))
            if None in view.shape[1:3]:
                sizes = tf.shape(view)[1:3], tf.shape(images)[1:3]
                message = checks.UNKNOWN_SIZES
                assertions.append(tf.debugging.assert_equal(*sizes, message))
        # Eager assertions have raised already and are None.
        with tf.control_dependencies([a for a in assertions if a is not None]):
            return {key: tf.identity(value) for key, value in batch.items()}

    # --- Gradient caching ----------------------------------------------------
    def no_gradient(self):
        """A context in which nothing is kept for a gradient."""
        return contextlib.nullcontext()  # Outside of a tape.

    def value_and_gradients(self, function, variables, argument=None):
        """A value, and the gradients of another.

        Args:
            function: Function of `argument`, if there is one, that returns a
                pair: a scalar to differentiate, and a value.
            variables: List of variables.
            argument: Tensor.

        Returns:
            The value, the gradient with respect to the argument or None, and a
            list of those with respect to the variables.
        """
        arguments = [] if argument is None else [argument]
        with tf.GradientTape() as tape:
            for each in arguments:
                tape.watch(each)
            target, value = function(*arguments)
        gradients = tape.gradient(target, [*arguments, *variables])
        gradients = [
            gradient if gradient is None else tf.convert_to_tensor(gradient)
            for gradient in gradients
        ]
        of_argument = gradients.pop(0) if arguments else None
        return value, of_argument, gradients

    def collect(self, function, group):
        """What a function gives for each micro-batch, (n, V, D) in a list.

        Args:
            function: Function of a pair (start, size).
            group: As in `MicroBatches.groups`.
        """
        start, size, count = group
        if self._unrolls(count):
            parts = []
            for k in range(count):
                # One after the other, or all would be in memory at a time.
                with tf.control_dependencies(parts[-1:]):
                    parts.append(function((start + k * size, size)))
            return parts
        found = tf.TensorArray(keras.config.floatx(), count)

        def step(k, found):
            return k + 1, found.write(k, function((start + k * size, size)))

        _, found = tf.while_loop(
            lambda k, _: k < count, step, (0, found), parallel_iterations=1
        )
        if not isinstance(count, int):
            return [found.concat()]  # There may be none.
        parts = found.stack()
        return [tf.reshape(parts, (count * size, *parts.shape[2:]))]

    def repeat(self, function, group, sums):
        """Applies a function to its own result, for each micro-batch.

        Args:
            function: Function of a pair (start, size) and of a list of tensors
                that returns such a list.
            group: As in `collect`.
            sums: List of tensors, to begin with.
        """
        start, size, count = group
        if self._unrolls(count):
            for k in range(count):
                with tf.control_dependencies(sums):
                    sums = function((start + k * size, size), sums)
            return sums

        def step(k, sums):
            return k + 1, function((start + k * size, size), sums)

        return tf.while_loop(
            lambda k, _: k < count, step, (0, sums), parallel_iterations=1
        )[1]

    def _unrolls(self, count):
        """Whether micro-batches stand side by side in the graph, unrolled."""
        if isinstance(count, int) and count < 2:
            return True
        if distribution.num_replicas() == 1:
            return tf.executing_eagerly()
        if isinstance(count, int):
            return True  # Replicas cannot meet in a loop of the graph.
        raise ValueError(
            "`micro_batch_size` with several replicas needs batches whose size "
            "is known. Received batches that may be short; use "
            "`drop_remainder=True`."
        )


def _await_all(gradients):
    """The gradients, none of which is used before all of them are there.

    Keras's optimizers pass them through one operation (of `all_reduce`, also
    without replicas) that TensorFlow's graph optimizer first counts on for the
    order of reads and writes, and then takes apart (seen in TensorFlow 2.21).
    A weight that only the gradients of others read would then be read after
    its update.
    """
    if tf.executing_eagerly():
        return gradients
    with tf.control_dependencies([g for g in gradients if g is not None]):
        is_complete = tf.no_op()
    with tf.control_dependencies([is_complete]):
        return [g if g is None else tf.identity(g) for g in gradients]
