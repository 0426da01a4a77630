"""A step on JAX: Keras's own, with a loss that calls the model itself."""

import jax
import keras
from keras import ops

from simclr_keras import keras_private
from simclr_keras.model.gradient_caching import MicroBatches, PassState
from simclr_keras.model.left_out import BeforeStep
from simclr_keras.model.tracing import NoAssertions


def _scope(variables, values):
    """A scope in which lists of variables have these values."""
    mapping = [pair for each in zip(variables, values) for pair in zip(*each)]
    return keras.StatelessScope(state_mapping=mapping)


class JAXStep(
    NoAssertions,
    keras_private.LossWithoutForward,
    keras_private.BuildsBeforeSteps,
):
    """What Keras's step on JAX has to be told."""

    cuts_in_loss = True

    def compute_loss_and_updates(
        self,
        trainable_variables,
        non_trainable_variables,
        metrics_variables,
        x,
        *args,
        training=False,
        **kwargs,
    ):
        scaled_loss, (loss, _, *after) = super().compute_loss_and_updates(
            trainable_variables,
            non_trainable_variables,
            metrics_variables,
            x,
            *args,
            training=training,
            **kwargs,
        )
        if training:
            variables = self.non_trainable_variables, self.metrics_variables
            before = non_trainable_variables, metrics_variables
            with _scope(variables, before):
                kept = BeforeStep(self)
            with _scope(variables, after) as scope:
                num_images = keras.tree.flatten(x)[0].shape[0]
                loss = kept.end(loss, num_images)
                after = [
                    [scope.get_current_value(v) for v in each]
                    for each in variables
                ]
        return scaled_loss, (loss, None, *after)

    def predict_step(self, state, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        outputs, values = super().predict_step(state, data)
        mapping = list(zip(self.non_trainable_variables, values))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.look_at_images(x)
        return outputs, [
            value
            if scope.get_current_value(variable) is None
            else scope.get_current_value(variable)
            for variable, value in mapping
        ]

    def sync_state(self):
        """Brings variables up to date, which a step keeps outside of them."""
        self.jax_state_sync()

    # --- Gradient caching ----------------------------------------------------
    def loss_in_micro_batches(self, x, y, sample_weight=None):
        """`compute_loss`, whose gradient needs the memory of a micro-batch.

        JAX runs a function again for its gradient by itself.
        """
        batch, labels = self.take_apart(x, y, sample_weight)
        micro_batches = MicroBatches(batch, self.micro_batch_size)
        state = PassState(self)
        # What a micro-batch changes, and the weights that it is made with.
        changing = [*self.non_trainable_variables, *self.metrics_variables]
        weights = [
            (v, ops.convert_to_tensor(v)) for v in self.trainable_variables
        ]

        def project(start, size, values, sums):
            mapping = [*weights, *zip(changing, values)]
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                state.begin_micro_batch()
                micro_batch = micro_batches[start, size]
                z, added_loss = self.project_micro_batch(micro_batch)
                terms = [added_loss(), *state.moved(micro_batch)]
                values = [scope.get_current_value(v) for v in changing]
            return values, [a + b for a, b in zip(sums, terms)], z

        values = [ops.convert_to_tensor(v) for v in changing]
        sums = [ops.zeros((), keras.config.floatx()), *state.zeros()]
        parts = []
        for start, size, count in micro_batches.groups:
            if not count:
                continue

            @jax.checkpoint
            def step(carry, k, start=start, size=size):
                *carry, z = project(start + k * size, size, *carry)
                return tuple(carry), z

            carry, z = jax.lax.scan(
                step, (values, sums), jax.numpy.arange(count, dtype="int32")
            )
            values, sums = carry
            parts.append(ops.reshape(z, (count * size, *z.shape[2:])))
        for variable, value in zip(changing, values):
            variable.assign(value)
        added, *moved = sums
        state.end(moved)
        projections = tuple(ops.unstack(ops.concatenate(parts), axis=1))
        loss = self.loss_without_views(projections, labels)
        self.update_metrics(projections, labels)
        return loss + ops.cast(added, loss.dtype)
