"""What backends share: running a function on shapes alone, plain steps."""

import keras
import numpy as np


class NoAssertions:
    """For backends without assertions in a step and without strategies."""

    def before_steps(self, is_single_batch=False):
        """Checks what a strategy cannot do: there is none."""

    def apply_augmentation(self, augmentation, images, index, key):
        """`augmentation.apply`; Keras compiles it with the rest of the step."""
        return augmentation.apply(images, index, key)

    def checked(self, batch, outside, no_class):
        """The batch as it is; the watch tells after the step."""
        return batch


class _Traced(keras.Operation):
    """A function as an operation, which Keras can run on shapes alone."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.error = None

    def call(self, *arguments):
        try:
            return self.function(*arguments)
        except Exception as error:
            self.error = error
            raise


def trace(function, *arguments):
    """Runs a function on shapes, so that it makes its variables.

    Args:
        function: Of tensors; what it assigns is forgotten.
        *arguments: Structures of `keras.KerasTensor`.
    """
    if keras.backend.backend() == "torch":
        # There shapes run on the device "meta", apart from the state of
        # generators (seen in Keras 3.15): two images of zeros serve instead.
        arguments = keras.tree.map_structure(_zeros, arguments)
        with keras.StatelessScope():
            function(*arguments)
        return
    operation = _Traced(function)
    try:
        operation.compute_output_spec(*arguments)
    except Exception:
        if operation.error is None:
            raise
        # Keras's own would speak of this operation first.
        raise operation.error from None


def _zeros(symbol):
    if symbol is None:
        return None
    shape = [2 if size is None else size for size in symbol.shape]
    return keras.ops.convert_to_tensor(np.zeros(shape, symbol.dtype))
