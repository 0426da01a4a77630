"""What a model keeps besides weights."""

import keras
from keras import ops

from simclr_keras import distribution
from simclr_keras.model.value_watch import ValueWatch


class State:
    """What a model keeps besides weights; Keras saves none of it.

    Its variables are part of a step's state on every backend.
    """

    def __init__(self, value_range, num_classes):
        self.image_shape = None
        self.has_new_metrics = False
        self.is_traced = False
        self.micro_batch = None  # The one that a step is at.
        # By augmentation; in an attribute of the model TensorFlow would save
        # it.
        self.compiled = {}
        self.watch = ValueWatch(value_range, num_classes)
        self.evaluated = keras.Variable(
            0, trainable=False, dtype="int32", name="images_evaluated"
        )

    @property
    def variables(self):
        return [self.watch.seen, self.evaluated]

    def position(self):
        """How many images came before in this evaluation."""
        return ops.convert_to_tensor(self.evaluated)

    def count(self, num_images):
        """Counts the images of a batch, over all replicas."""
        total = distribution.global_batch_size(num_images)
        self.evaluated.assign(self.position() + ops.cast(total, "int32"))

    def restart(self):
        self.evaluated.assign(ops.zeros_like(self.position()))
