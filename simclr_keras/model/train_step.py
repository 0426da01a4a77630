"""How one step is taken, on each backend.

What SimCLR computes for a batch stands in `SimCLRModel.compute_loss`. On JAX
and PyTorch Keras's own step trains with it, once it is told not to call the
model on the images first: the loss makes its own views. On TensorFlow the step
is written out, so that it can check values and compile the augmentation.
"""

import contextlib
import sys

import keras
import numpy as np
from keras import ops

from simclr_keras import distribution
from simclr_keras.augmentation import RandomImageLayer
from simclr_keras.model import inputs

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "torch":
    import torch


class TensorFlowTrainStep:
    """Steps of `tf.GradientTape`."""

    _compiled_augmentation = None
    _compiled_for = None

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, sample_weight=sample_weight)
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply(self._share_overflow(gradients), variables)
        return self._log(loss, x)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = self.compute_loss(
            x, y, sample_weight=sample_weight, training=False
        )
        return self._log(loss, x)

    def _log(self, loss, x):
        # The loss of a replica is its share of the global batch's.
        num_replicas = distribution.num_replicas()
        num_images = distribution.global_batch_size(
            ops.shape(keras.tree.flatten(x)[0])[0]
        )
        self.loss_tracker.update_state(
            loss * num_replicas, sample_weight=num_images / num_replicas
        )
        logs = self.get_metrics_result()
        if distribution.is_multi_worker(self.distribute_strategy):
            # Keras takes the mean of logs over workers along the first axis.
            logs = {name: tf.reshape(v, (1,)) for name, v in logs.items()}
        return logs

    def _share_overflow(self, gradients):
        """Makes what overflowed on one replica overflow on all.

        Keras leaves out a step of mixed_float16 whose gradients overflow, but
        looks at those of the first replica only (seen in Keras 3.15).
        """
        optimizer = self.optimizer
        if distribution.num_replicas() == 1 or not isinstance(
            optimizer, keras.optimizers.LossScaleOptimizer
        ):
            return gradients
        overflow = distribution.any_replica(
            ops.logical_not(optimizer.check_finite(gradients))
        )
        return [
            g if g is None else tf.where(overflow, tf.cast(np.nan, g.dtype), g)
            for g in gradients
        ]

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds what `fit` needs under a strategy, before its first step.

        Keras looks at a batch for its shapes, and takes the mean over the
        replicas of one that is spread over them. That fails for a ragged batch
        and, for any model, with several workers (seen in Keras 3.15,
        keras-team/keras#20585). One replica's share has the same shapes.
        """
        strategy = self.distribute_strategy
        distribution.check_fit(
            strategy, self.optimizer, self.steps_per_execution
        )
        if distribution.num_replicas(strategy) > 1:
            if iterator is None:
                raise ValueError(
                    "`train_on_batch` and `test_on_batch` give every replica "
                    "the whole batch, where SimCLR needs each image once. "
                    "Received a call with "
                    f"{distribution.num_replicas(strategy)} replicas; use "
                    "`fit` or `evaluate`."
                )
            batch = next(next(iter(iterator))[-1])
            data_batch = distribution.one_share(strategy, batch)
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def augment(self, images, key=None):
        """A random view of each image, (B, H, W, C) in `value_range`.

        Args:
            images: Tensor (B, H, W, C).
            key: Seed and number of the draw; None is the augmentation's next.
        """
        augmentation = self.augmentation
        if not isinstance(augmentation, RandomImageLayer):
            with _autograph():
                return augmentation(images, training=True)
        if tf.executing_eagerly() or sys.platform == "darwin":
            return augmentation.apply(images, key=key)
        # XLA makes these many small operations several times as fast on a CPU.
        # What it compiles is a function of its arguments: in a replica it must
        # not hold variables, which belong to one replica.
        if self._compiled_for is not augmentation:
            self._compiled_for = augmentation
            self._compiled_augmentation = tf.function(
                augmentation.apply, jit_compile=True, autograph=False
            )
        views = self._compiled_augmentation(
            images,
            distribution.sample_index(ops.shape(images)[0]),
            augmentation.seed_generator.next() if key is None else key,
        )
        shape = augmentation.compute_output_shape(tuple(images.shape))
        return tf.ensure_shape(views, shape)

    def assert_values(self, batch):
        """Stops at the batch whose values are wrong, before it is used.

        XLA leaves assertions out.

        Returns:
            The batch, to be used instead: in a graph, what is computed from it
            waits for the assertions, which would otherwise run beside the
            step and leave NaN in the weights.
        """
        low, high = self.value_range
        slack = inputs.range_slack(self.value_range)
        assertions = []
        for key in (inputs.IMAGE, *inputs.VIEWS):
            if key in batch:
                images = tf.cast(batch[key], tf.float32)
                # Written so that NaN fails.
                inside = (images >= low - slack) & (images <= high + slack)
                assertions.append(
                    tf.debugging.assert_equal(
                        tf.reduce_all(inside),
                        True,
                        inputs.out_of_range_message(self.value_range),
                    )
                )
        images = batch.get(inputs.IMAGE, batch.get(inputs.VIEWS[0]))
        if images.shape[0] is None:
            # The same on every replica, so that all of them stop together.
            sizes = distribution.batch_sizes(tf.shape(images)[0])
            assertions += [
                tf.debugging.assert_greater(
                    tf.reduce_sum(sizes), 1, inputs.SINGLE_IMAGE
                ),
                tf.debugging.assert_positive(
                    tf.reduce_min(sizes), inputs.EMPTY_REPLICA
                ),
            ]
        if self.num_classes is not None and inputs.LABEL in batch:
            labels = tf.cast(batch[inputs.LABEL], tf.float32)
            assertions.append(
                tf.debugging.assert_equal(
                    tf.reduce_all((labels >= 0) & (labels < self.num_classes)),
                    True,
                    inputs.label_message(self.num_classes),
                )
            )
        # Eager assertions have raised already and are None.
        with tf.control_dependencies([a for a in assertions if a is not None]):
            return {key: tf.identity(value) for key, value in batch.items()}


def _autograph():
    """Turns AutoGraph on for a while, which Keras switches off in a step.

    Layers such as KerasCV's rely on it: they branch in functions that they
    hand to `tf.map_fn`. A `tf.function` turns it on by a public name, but
    nothing in one can ask the other replicas for the size of their batches.
    """
    if tf.executing_eagerly():
        return contextlib.nullcontext()
    context = tf.__internal__.autograph.control_status_ctx()
    return type(context)(type(context.status).ENABLED)


class _KerasTrainStep:
    """What JAX and PyTorch share: no assertions inside a step."""

    def augment(self, images, key=None):
        if isinstance(self.augmentation, RandomImageLayer):
            return self.augmentation.apply(images, key=key)
        return self.augmentation(images, training=True)

    def assert_values(self, batch):
        return batch


class JAXTrainStep(_KerasTrainStep):
    """Keras's step with a loss that calls the model itself."""

    def compute_loss_and_updates(
        self,
        trainable_variables,
        non_trainable_variables,
        metrics_variables,
        x,
        y,
        sample_weight,
        training=False,
        optimizer_variables=None,
    ):
        loss, variables = self.stateless_compute_loss(
            trainable_variables,
            non_trainable_variables,
            metrics_variables,
            x=x,
            y=y,
            sample_weight=sample_weight,
            training=training,
        )
        _, non_trainable_variables, metrics_variables = variables
        scaled_loss = loss
        if training:
            mapping = list(zip(self.optimizer.variables, optimizer_variables))
            with keras.StatelessScope(state_mapping=mapping):
                scaled_loss = self.optimizer.scale_loss(loss)
        return scaled_loss, (
            loss,
            None,
            non_trainable_variables,
            metrics_variables,
        )


class TorchTrainStep(_KerasTrainStep):
    """Keras's step with a loss that calls the model itself."""

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.zero_grad()
        loss = self.compute_loss(x, y, sample_weight=sample_weight)
        self.optimizer.scale_loss(loss).backward()
        variables = self.trainable_variables
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in variables], variables)
        return self._log(loss, x)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = self.compute_loss(
            x, y, sample_weight=sample_weight, training=False
        )
        return self._log(loss, x)

    def _log(self, loss, x):
        self.loss_tracker.update_state(
            loss, sample_weight=keras.tree.flatten(x)[0].shape[0]
        )
        return self.get_metrics_result()


TrainStep = {
    "tensorflow": TensorFlowTrainStep,
    "jax": JAXTrainStep,
    "torch": TorchTrainStep,
}[keras.backend.backend()]
