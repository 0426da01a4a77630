"""A step on JAX: Keras's own, with a loss that calls the model itself."""

import keras

from simclr_keras import keras_private
from simclr_keras.model.tracing import NoAssertions


class JAXStep(
    NoAssertions,
    keras_private.LossWithoutForward,
    keras_private.BuildsBeforeSteps,
):
    """What Keras's step on JAX has to be told."""

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
