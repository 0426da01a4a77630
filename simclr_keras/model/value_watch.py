"""What the values of images and labels were, seen as they pass."""

import contextlib

import keras
from keras import ops

from simclr_keras.model import checks
from simclr_keras.model.batch import IMAGE, LABEL, view_names
from simclr_keras.value_range import looks_scaled, warn_of_scaled_images

_OUTSIDE, _ABOVE_ONE, _NO_CLASS, _FLOATS, _VIEWS, _VIEWS_ABOVE_ONE, _ZEROS = (
    range(7)
)


class ValueWatch:
    """Looks at values on the device, on every backend and under XLA.

    A few reductions a batch go into one small variable, which `tell` reads
    after the first batch and at the end. Nothing is looked at that a dtype
    guarantees, so that uint8 images cost nothing. Under `tf.distribute` the
    first replica's share is what is told of.

    Args:
        value_range: Pair (low, high) of the images.
        num_classes: Number of classes of the labels, or None.
    """

    def __init__(self, value_range, num_classes=None):
        self.value_range = value_range
        self.num_classes = num_classes
        # Which of the above was seen, as 0 or 1.
        self.seen = keras.Variable(
            [0.0] * 7, trainable=False, dtype="float32", name="values_seen"
        )
        self._warned = set()
        self._depth = 0

    def look(self, batch):
        """Notes the values of a batch.

        Args:
            batch: As `batch.unpack` gives it, with labels only if they are
                used.

        Returns:
            Pair of boolean scalar tensors: whether images are outside the
            range or NaN, and whether labels are not classes; None where there
            is nothing to look at.
        """
        images = [
            batch[key]
            for key in (IMAGE, *view_names(batch))
            if key in batch
            and not checks.is_guaranteed(batch[key].dtype, self.value_range)
        ]
        outside = above_one = no_class = None
        is_float = False
        if images:
            low, high = self.value_range
            slack = checks.range_slack(self.value_range)
            floats = [ops.cast(each, "float32") for each in images]
            # Written so that NaN fails.
            outside = _any(
                ops.logical_not((x >= low - slack) & (x <= high + slack))
                for x in floats
            )
            above_one = _any(x > 1 for x in floats)
            is_float = any(
                "float" in keras.backend.standardize_dtype(each.dtype)
                for each in images
            )
        if LABEL in batch:
            no_class = self._has_no_class(batch[LABEL])
        if outside is not None or no_class is not None:
            found = [
                0.0 if flag is None else ops.cast(flag, "float32")
                for flag in (outside, above_one, no_class)
            ]
            self._note([*found, float(is_float), 0.0, 0.0, 0.0])
        return outside, no_class

    def _has_no_class(self, labels):
        dtype = keras.backend.standardize_dtype(labels.dtype)
        labels = ops.cast(labels, "float32")
        if checks.are_one_hot(labels.shape):
            are_classes = [
                (labels == 0) | (labels == 1),
                ops.sum(labels, axis=-1) == 1,
            ]
        else:
            are_classes = [labels == ops.floor(labels)]  # Not so of NaN.
            if self.num_classes is not None:
                are_classes.append((labels >= 0) & (labels < self.num_classes))
            elif dtype not in checks.SMALL_INTEGERS:
                are_classes.append(ops.abs(labels) < 2.0**31)
        return _any(ops.logical_not(each) for each in are_classes)

    def look_at_views(self, views):
        """Notes whether an augmentation scales images as the model does.

        Args:
            views: Sequence of tensors (N, H, W, C).
        """
        if not looks_scaled(self.value_range):
            return
        above_one = ops.cast(_any(view > 1 for view in views), "float32")
        self._note([0.0] * _VIEWS + [1.0, above_one, 0.0])

    def look_at_projections(self, projections):
        """Notes whether some are exactly zero, and so have no direction.

        Args:
            projections: Tensor (B, D).
        """
        is_zero = ops.all(projections == 0, axis=-1)
        self._note([0.0] * _ZEROS + [ops.cast(ops.any(is_zero), "float32")])

    def _note(self, found):
        self.seen.assign(ops.maximum(self.seen, ops.stack(found)))

    @contextlib.contextmanager
    def run(self):
        """A context for data of its own: what others were is left out of it.

        A run may lie within another, such as a callback's `predict` in `fit`.
        """
        nothing = [0.0] * self.seen.shape[0]
        # A checkpoint of another run may have brought what that one saw.
        before = ops.convert_to_numpy(self.seen) if self._depth else nothing
        self._depth += 1
        self.seen.assign(nothing)
        try:
            yield
        finally:
            self._depth -= 1
            # Without reading it: a step that failed may have left no value.
            self.seen.assign(before)

    def tell(self):
        """Raises or warns of what was seen.

        Raises:
            ValueError: If images left the range or were NaN, or labels were
                not classes.
        """
        seen = ops.convert_to_numpy(self.seen)
        if seen[_OUTSIDE]:
            raise ValueError(checks.out_of_range_message(self.value_range))
        if seen[_NO_CLASS]:
            raise ValueError(checks.label_message(self.num_classes))
        if (
            seen[_FLOATS]
            and not seen[_ABOVE_ONE]
            and looks_scaled(self.value_range)
        ):
            self.warn_of_scaled_images()
        elif seen[_VIEWS] and not seen[_VIEWS_ABOVE_ONE]:
            self._warn_once(checks.warn_of_scaled_views, self.value_range)
        if seen[_ZEROS]:
            self._warn_once(checks.warn_of_zero_projections)

    def warn_of_scaled_images(self):
        """Warns that floats in [0, 1] are all but black in a wider range."""
        self._warn_once(warn_of_scaled_images, self.value_range)

    def _warn_once(self, warn, *arguments):
        if warn not in self._warned:
            self._warned.add(warn)
            warn(*arguments)


def _any(conditions):
    """Whether one of some boolean tensors is true somewhere."""
    return ops.any(ops.stack([ops.any(each) for each in conditions]))


class TellOfValues(keras.callbacks.Callback):
    """Asks a model of them after the first batch and at every end."""

    def __init__(self):
        super().__init__()
        self.is_first = True

    def _after_batch(self):
        if self.is_first:
            self.is_first = False
            self.model.tell_of_values()

    def _at_end(self):
        if self.is_first:
            raise ValueError("The dataset is empty: it holds no batch.")
        self.model.tell_of_values()

    def on_train_batch_end(self, batch, logs=None):
        self._after_batch()

    def on_test_batch_end(self, batch, logs=None):
        self._after_batch()

    def on_predict_batch_end(self, batch, logs=None):
        self._after_batch()

    def on_epoch_end(self, epoch, logs=None):
        self._at_end()

    def on_test_end(self, logs=None):
        self._at_end()

    def on_predict_end(self, logs=None):
        self.model.tell_of_values()
