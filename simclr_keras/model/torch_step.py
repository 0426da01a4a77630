"""A step on PyTorch: the loss calls the model itself."""

import keras
import torch

from simclr_keras import keras_private
from simclr_keras.model.gradient_caching import CachesGradients
from simclr_keras.model.left_out import BeforeStep
from simclr_keras.model.tracing import NoAssertions


class TorchStep(CachesGradients, NoAssertions, keras_private.BuildsBeforeSteps):
    """Steps of `torch.autograd`."""

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        variables = self.trainable_variables
        before = BeforeStep(self)
        if self.micro_batch_size is not None:
            loss, gradients = self.cached_gradients(x, y, sample_weight)
        else:
            for variable in variables:  # The loss's as well as the layers'.
                variable.value.grad = None
            loss = self.compute_loss(x, y, sample_weight=sample_weight)
            self.optimizer.scale_loss(loss).backward()
            gradients = [variable.value.grad for variable in variables]
        with torch.no_grad():
            loss = before.end(loss, _num_images(x))
            self.optimizer.apply(gradients, variables)
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
        self.loss_tracker.update_state(loss, sample_weight=_num_images(x))
        return self.get_metrics_result()

    def sync_state(self):
        """Brings variables up to date, which they always are here."""

    # --- Gradient caching; see `TensorFlowStep` ------------------------------
    def no_gradient(self):
        return torch.no_grad()

    def value_and_gradients(self, function, variables, argument=None):
        arguments = []
        if argument is not None:
            arguments = [argument.detach().requires_grad_(True)]
        target, value = function(*arguments)
        sources = [*arguments, *(variable.value for variable in variables)]
        gradients = list(
            torch.autograd.grad(target, sources, allow_unused=True)
        )
        of_argument = gradients.pop(0) if arguments else None
        return value.detach(), of_argument, gradients

    def collect(self, function, group):
        start, size, count = group
        return [function((start + k * size, size)) for k in range(count)]

    def repeat(self, function, group, sums):
        start, size, count = group
        for k in range(count):
            sums = function((start + k * size, size), sums)
        return sums


def _num_images(x):
    return keras.tree.flatten(x)[0].shape[0]
