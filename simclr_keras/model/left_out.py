"""What stays as it was in a step that the optimizer leaves out."""

import keras
from keras import ops

from simclr_keras import distribution


def leaves_out_steps(optimizer):
    """Whether an optimizer leaves out steps whose gradients are not finite."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


class BeforeStep:
    """Moving statistics and metrics, as they are before a step.

    `keras.optimizers.LossScaleOptimizer`, which mixed_float16 brings, leaves
    weights alone if a gradient is not finite. Batch norm's moving statistics
    and the metrics would be NaN from then on all the same.

    Args:
        model: `SimCLRModel`, compiled.
    """

    def __init__(self, model):
        self._model = model
        self._values = []
        if leaves_out_steps(model.optimizer):
            # What is noted of a batch is to be told, whatever becomes of it.
            own = {id(variable) for variable in model.own_variables}
            self._values = [
                (variable, ops.copy(ops.convert_to_tensor(variable)))
                for variable in (
                    *model.non_trainable_variables,
                    *model.metrics_variables,
                )
                if id(variable) not in own
                and keras.backend.is_float_dtype(variable.dtype)
            ]

    def end(self, loss, weight):
        """Brings them back if one of them or the loss is no longer finite.

        On one replica or more: then on all. The loss alone does not tell, as a
        ReLU may make 0 of NaN.

        Args:
            loss: Scalar tensor.
            weight: What the loss is about to count for in `loss_tracker`.

        Returns:
            The loss to log: 0 if they were brought back, which then counts for
            nothing.
        """
        if not self._values:
            return loss
        values = [
            (variable, before, ops.convert_to_tensor(variable))
            for variable, before in self._values
        ]
        is_spoilt = ops.logical_not(ops.isfinite(loss))
        for _, before, after in values:
            is_new = ops.isfinite(before) & ops.logical_not(ops.isfinite(after))
            is_spoilt = is_spoilt | ops.any(is_new)
        is_spoilt = distribution.any_replica(is_spoilt)
        for variable, before, after in values:
            variable.assign(ops.where(is_spoilt, before, after))
        # On JAX Keras counts the loss itself, after this.
        count = self._model.loss_tracker.count
        unseen = ops.cast(weight, count.dtype)
        count.assign_sub(ops.where(is_spoilt, unseen, 0))
        return ops.where(is_spoilt, 0, loss)
