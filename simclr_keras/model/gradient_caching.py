"""A step in micro-batches, with the gradient of the whole batch's loss.

A contrastive loss needs the projections of the whole batch, but not, at one
time, all that an encoder keeps for its gradient. So a step goes through the
batch twice, a micro-batch at a time: first to project all views, without a
gradient; then, once the loss has given its gradient with respect to the
projections, again for that of the weights. By the chain rule the micro-batches
add up to the gradient of the whole, exactly, for the price of one more forward
pass and with the memory of one micro-batch.

The second pass must do as the first did. Views follow from an image's index,
and whatever else a layer draws from begins both passes alike.

Reference:
    - [Gao et al., 2021](https://arxiv.org/abs/2101.06983), Section 3.
"""

import keras
from keras import ops

from simclr_keras import distribution, keras_private
from simclr_keras.augmentation.random_image_layer import RandomImageLayer
from simclr_keras.model import batch as batches


class MicroBatches:
    """A batch, cut into micro-batches whose sizes differ by one at most.

    Args:
        batch: As `batch.unpack` gives it.
        size: Positive integer, the largest size.

    Attributes:
        groups: List of two (start, size, count), one after the other: `count`
            micro-batches of `size` images, from image `start` on. Integers, or
            tensors where the size of the batch is not known beforehand; a
            count may be 0.
    """

    def __init__(self, batch, size):
        self.batch = batch
        self.num_images = n = ops.shape(batches.images_of(batch))[0]
        self.index = distribution.sample_index(n)
        count = (n + size - 1) // size
        small = n // count
        num_large = n - small * count
        self.groups = [
            (0, small + 1, num_large),
            (num_large * (small + 1), small, count - num_large),
        ]

    def __getitem__(self, place):
        """The micro-batch of `size` images from image `start` on."""
        return MicroBatch(self, *place)


class MicroBatch:
    """Some images of a batch, one after the other.

    Attributes:
        batch: Dictionary, as `batch.unpack` gives it.
        index: int32 tensor (m,), each image's index in the global batch.
    """

    def __init__(self, whole, start, size):
        self.rows = ops.arange(size, dtype="int32") + start
        self.size, self.num_images = size, whole.num_images
        self.batch = {k: self.of(v) for k, v in whole.batch.items()}
        self.index = self.of(whole.index)

    def of(self, values):
        """The rows of its images, of the batch's."""
        return ops.take(values, self.rows, axis=0)

    def share(self, dtype):
        """Its size, as a fraction of the batch's."""
        return ops.cast(self.size, dtype) / ops.cast(self.num_images, dtype)


class PassState:
    """The state of a model's layers, from micro-batch to micro-batch.

    - What augmentations draw from by an image's index begins every micro-batch
      as it began the step.
    - Floats that are not trained, such as batch norm's moving averages, do so
      too. They end as the mean over the micro-batches, so that they move once
      a step.
    - Whatever else, such as what dropout draws from, goes on from micro-batch
      to micro-batch, and begins each pass as it began the step.
    - What the loss changes, between the passes, is as the loss left it, unless
      the passes change it too.

    Args:
        model: `SimCLRModel`.
    """

    def __init__(self, model):
        layers = keras_private.flatten_layers(model)
        without_index = {
            id(each)
            for layer in model.layers_without_index()
            for each in keras_private.flatten_layers(layer)
        }
        draws = {
            id(layer.seed_generator.state)
            for layer in layers
            if isinstance(layer, RandomImageLayer)
            and id(layer) not in without_index
        }
        # Those of frozen layers do not move.
        others = {
            id(variable)
            for layer in layers
            if not layer.trainable
            for variable in layer.variables
        } | {id(variable) for variable in model.own_variables}
        self.moving, self.draws, self.going_on = [], [], []
        for variable in model.non_trainable_variables:
            if not keras.backend.is_float_dtype(variable.dtype):
                is_draw = id(variable) in draws
                (self.draws if is_draw else self.going_on).append(variable)
            elif id(variable) not in others:
                self.moving.append(variable)
        self.start = self._values()
        self.after_loss = self.start

    def _values(self):
        return {
            id(v): ops.copy(ops.convert_to_tensor(v))
            for v in (*self.moving, *self.draws, *self.going_on)
        }

    def begin_pass(self):
        self._reset(self.going_on)

    def begin_micro_batch(self):
        self._reset(self.moving)
        self._reset(self.draws)

    def zeros(self):
        return [ops.zeros_like(self.start[id(v)]) for v in self.moving]

    def moved(self, micro_batch):
        """A micro-batch's share of how far the averages move."""
        return [
            micro_batch.share(v.dtype)
            * (ops.convert_to_tensor(v) - self.start[id(v)])
            for v in self.moving
        ]

    def end(self, moved):
        """Moves the averages by the sum of those shares."""
        for variable, distance in zip(self.moving, moved):
            after = self.after_loss[id(variable)]
            # Exactly what the loss left, if nothing else moved it.
            variable.assign(ops.where(distance == 0, after, after + distance))
        for variable in (*self.draws, *self.going_on):
            value = ops.convert_to_tensor(variable)
            is_as_before = value == self.start[id(variable)]
            variable.assign(
                ops.where(is_as_before, self.after_loss[id(variable)], value)
            )

    def begin_loss(self):
        """Before the loss, which begins as the step did."""
        self._reset((*self.moving, *self.draws, *self.going_on))

    def end_loss(self):
        """After it: keeps what it changed for the end of the step."""
        self.after_loss = self._values()

    def _reset(self, variables):
        for variable in variables:
            variable.assign(self.start[id(variable)])


class CachesGradients:
    """Steps in micro-batches, where a backend computes gradients by itself.

    The step of a backend brings `no_gradient`, `value_and_gradients`, `collect`
    and `repeat`.
    """

    cuts_in_loss = False  # But in `train_step`.

    def cached_gradients(self, x, y, sample_weight=None):
        """Loss and gradients of a batch, a micro-batch at a time.

        Args:
            x, y, sample_weight: As in `compute_loss`.

        Returns:
            Pair of the loss, as `compute_loss` gives it, and of a list of the
            gradients of the scaled loss with respect to the trainable
            variables; None for those that it does not depend on.
        """
        if not self.is_complete():  # A generator does not say what it holds.
            self.complete(x, y)
        batch, labels = self.take_apart(x, y, sample_weight)
        micro_batches = MicroBatches(batch, self.micro_batch_size)
        state = PassState(self)
        with self.no_gradient():
            z = self._project_all(micro_batches, state)  # (N, V, D)

        def contrast(z):
            state.begin_loss()
            projections = tuple(ops.unstack(z, axis=1))
            loss = self.loss_without_views(projections, labels)
            self.update_metrics(projections, labels)
            state.end_loss()
            return self.optimizer.scale_loss(loss), loss

        variables = self.trainable_variables
        loss, dz, direct = self.value_and_gradients(contrast, variables, z)
        depends = [gradient is not None for gradient in direct]

        def add(place, sums):
            micro_batch = micro_batches[place]
            state.begin_micro_batch()

            def surrogate():
                z, added_loss = self.project_micro_batch(micro_batch)
                added = added_loss()
                # Its gradient is that of the loss, by the chain rule.
                inner = ops.sum(z * micro_batch.of(dz))
                return inner + self.optimizer.scale_loss(added), added

            added, _, gradients = self.value_and_gradients(surrogate, variables)
            # Noted while this is traced: the same for all micro-batches.
            for k, gradient in enumerate(gradients):
                depends[k] |= gradient is not None
            terms = [added, *gradients, *state.moved(micro_batch)]
            return [
                sum_ if term is None else sum_ + ops.cast(term, sum_.dtype)
                for sum_, term in zip(sums, terms)
            ]

        zeros = [ops.zeros_like(variable) for variable in variables]
        start = [
            zero if gradient is None else gradient
            for zero, gradient in zip(zeros, direct)
        ]
        state.begin_pass()
        sums = [ops.zeros((), keras.config.floatx()), *start, *state.zeros()]
        for group in micro_batches.groups:
            sums = self.repeat(add, group, sums)
        added, *sums = sums
        gradients, moved = sums[: len(variables)], sums[len(variables) :]
        state.end(moved)
        loss = loss + ops.cast(added, loss.dtype)
        return loss, [g if d else None for g, d in zip(gradients, depends)]

    def _project_all(self, micro_batches, state):
        """Projections (N, V, D) of all views."""

        def project(place):
            state.begin_micro_batch()
            return self.project_micro_batch(micro_batches[place])[0]

        state.begin_pass()
        parts = []
        for group in micro_batches.groups:
            parts += self.collect(project, group)
        return ops.concatenate(parts, axis=0)
