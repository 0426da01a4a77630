"""A step on PyTorch: the loss calls the model itself."""

import keras
import torch

from simclr_keras import keras_private
from simclr_keras.model.tracing import NoAssertions


class TorchStep(NoAssertions, keras_private.BuildsBeforeSteps):
    """Steps of `torch.autograd`."""

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        variables = self.trainable_variables
        for variable in variables:  # The loss's as well as the layers'.
            variable.value.grad = None
        loss = self.compute_loss(x, y, sample_weight=sample_weight)
        self.optimizer.scale_loss(loss).backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in variables], variables)
        return self._log(loss, x)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = self.compute_loss(
            x, y, sample_weight=sample_weight, training=False
        )
        return self._log(loss, x)

    def predict_step(self, data):
        self.look_at_images(keras.utils.unpack_x_y_sample_weight(data)[0])
        return super().predict_step(data)

    def _log(self, loss, x):
        self.loss_tracker.update_state(
            loss, sample_weight=keras.tree.flatten(x)[0].shape[0]
        )
        return self.get_metrics_result()

    def sync_state(self):
        """Brings variables up to date, which they always are here."""
