"""Pictures of what a model sees and of what it makes of it, while it trains."""

import io
import os

import keras
import numpy as np

from simclr_keras import distribution, plots
from simclr_keras.evaluation.checks import (
    NotFiniteError,
    check_count,
    check_labels,
)
from simclr_keras.evaluation.features import extract_features
from simclr_keras.write_aside import write_aside


class _Pictures(keras.callbacks.Callback):
    """Writes a picture at the beginning and the end of epochs.

    Subclasses bring `figure`.

    Args:
        images: Array (N, H, W, C), or a set of `simclr_keras.data`.
        folder: Path of a folder for PNG files, or None.
        tensorboard_dir: Path of a folder of TensorBoard's logs, or None.
        every: Positive integer, epochs from one picture to the next.
        name: String, what the pictures are called.
    """

    def __init__(self, images, folder, tensorboard_dir, every, name):
        super().__init__()
        if folder is None and tensorboard_dir is None:
            raise ValueError(
                "One of `folder` and `tensorboard_dir` must be given, or the "
                "pictures go nowhere. Received: None for both."
            )
        self.images = images
        self.folder, self.tensorboard_dir = (
            None if path is None else os.path.expanduser(os.fspath(path))
            for path in (folder, tensorboard_dir)
        )
        if self.folder is not None and os.path.isfile(self.folder):
            raise NotADirectoryError(
                f"`folder` must be a folder. Received a file: {self.folder!r}."
            )
        if not _count(images):
            raise ValueError("`images` must hold an image. Received: none.")
        self.every = check_count(every, "every")
        self.name = name
        self._writer = None

    def figure(self, epoch):
        """A `matplotlib.figure.Figure`, or None for no picture."""
        raise NotImplementedError

    def on_epoch_end(self, epoch, logs=None):
        is_last = epoch + 1 == (self.params or {}).get("epochs")
        if (epoch + 1) % self.every == 0 or is_last:
            self.write(epoch + 1)

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write(self, epoch):
        """Writes the picture as it is after so many epochs."""
        # Every worker has the same weights: one picture of them is enough.
        if not distribution.is_chief(distribution.strategy_of(self.model)):
            return
        figure = self.figure(epoch)
        if figure is None:
            return
        if self.folder is not None:
            path = os.path.join(self.folder, f"{self.name}-{epoch:04d}.png")
            with write_aside(path, suffix=".png") as partial:
                figure.savefig(partial, dpi=120, bbox_inches="tight")
        if self.tensorboard_dir is not None:
            self._summarize(figure, epoch)

    def _summarize(self, figure, epoch):
        import tensorflow as tf  # writes the logs, whatever Keras runs on

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self.tensorboard_dir)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120, bbox_inches="tight")
        image = tf.io.decode_png(content.getvalue(), channels=3)
        with self._writer.as_default():
            tf.summary.image(self.name, image[None], step=epoch)
        self._writer.flush()


class ViewPreview(_Pictures):
    """Draws images and the views that the model makes of them.

    A view should still show what its image shows, and two of them should
    differ in what does not matter. The picture is made before the first step,
    so that a run with wrong views can be stopped, and once more every `every`
    epochs for an augmentation that changes. Its draws are those of `evaluate`:
    the training goes on as it would have without.

    Args:
        images: Array (N, H, W, C) in the model's `value_range`, a few images,
            each a column; or a set of `simclr_keras.data`, whose first ones
            are drawn.
        folder: Path of a folder, in which `views-0000.png` is written. None
            writes none. Defaults to None.
        tensorboard_dir: Path of a folder of TensorBoard's logs. None writes
            none. Defaults to None.
        every: Positive integer, epochs from one picture to the next, or None
            for the first alone. Defaults to None.
        num_images: Positive integer, images to draw at most. Defaults to 8.

    Raises:
        ValueError: If there is neither a folder nor a `tensorboard_dir`; from
            `fit`, if the model makes no views.
        ImportError: From `fit`, if Matplotlib is missing.

    Example:
        preview = simclr_keras.callbacks.ViewPreview(images, "pictures")
        model.fit(images, epochs=100, callbacks=[preview])
    """

    def __init__(
        self,
        images,
        folder=None,
        tensorboard_dir=None,
        every=None,
        num_images=8,
    ):
        super().__init__(
            images,
            folder,
            tensorboard_dir,
            1 if every is None else every,
            "views",
        )
        self.num_images = check_count(num_images, "num_images")
        self._repeats = every is not None

    def on_train_begin(self, logs=None):
        self.write(0)

    def on_epoch_end(self, epoch, logs=None):
        if self._repeats:
            super().on_epoch_end(epoch, logs)

    def figure(self, epoch):
        images = _first_of(self.images, self.num_images)
        # Layers from elsewhere draw from generators of their own.
        state = [
            (variable, keras.ops.convert_to_numpy(variable))
            for variable in self.model.non_trainable_variables
        ]
        views = self.model.make_views(
            keras.ops.convert_to_tensor(images), training=False
        )
        for variable, value in state:
            variable.assign(value)
        if not views:
            raise ValueError(
                "`ViewPreview` draws the views that a model makes. Received: "
                f"{self.model.name!r}, which has no augmentation; draw the "
                "batches that it is given with `plots.plot_views`."
            )
        return plots.plot_views(
            images,
            [keras.ops.convert_to_numpy(view) for view in views],
            self.model.value_range,
        )


class RepresentationMap(_Pictures):
    """Draws a map of representations at the end of epochs.

    `plots.plot_representations` of clean images in inference mode: images
    whose representations are alike lie together. With a `CollapseMonitor`
    this shows a run that learns nothing long before its loss does.

    Args:
        images: Array (N, H, W, C) in the model's `value_range`, a few hundred
            images; or a set of `simclr_keras.data`, with its labels.
        labels: Integer array (N,), the classes that color the points, or None.
            Defaults to None.
        class_names: Sequence of strings, for the legend, or None. Defaults to
            None.
        folder: Path of a folder, in which `map-0010.png` is written after
            epoch 10. None writes none. Defaults to None.
        tensorboard_dir: As in `ViewPreview`.
        every: Positive integer, epochs from one picture to the next; the last
            epoch has one as well. Defaults to 10.
        num_images: Positive integer, images to draw at most. Defaults to 500.

    Raises:
        TypeError: If labels are not integers.
        ValueError: If there is neither a folder nor a `tensorboard_dir`, or
            there are not as many labels as images.
        ImportError: From `fit`, if Matplotlib or scikit-learn is missing.

    Example:
        picture = simclr_keras.callbacks.RepresentationMap(
            data.test, class_names=data.class_names, folder="pictures"
        )
        model.fit(dataset, epochs=100, callbacks=[picture])
    """

    def __init__(
        self,
        images,
        labels=None,
        class_names=None,
        folder=None,
        tensorboard_dir=None,
        every=10,
        num_images=500,
    ):
        super().__init__(images, folder, tensorboard_dir, every, "map")
        self.num_images = check_count(num_images, "num_images")
        if labels is None:
            labels = getattr(images, "labels", None)
        count = _count(images)
        if min(count, self.num_images) < 2:
            raise ValueError(
                "A map needs two images or more. Received: "
                f"num_images={num_images} of {count} images."
            )
        self.labels = (
            None if labels is None else check_labels(labels, count, "labels")
        )
        names_needed = 0 if labels is None else 1 + int(self.labels.max())
        if class_names is not None and (
            len(class_names) < names_needed
            or (labels is not None and self.labels.min() < 0)
        ):
            raise ValueError(
                "`class_names` must have a name for each label. Received: "
                f"{len(class_names)} names, and labels from "
                f"{self.labels.min()} to {self.labels.max()}."
            )
        self.class_names = class_names

    def figure(self, epoch):
        # A random part, as the first images may all be of one class.
        count = _count(self.images)
        chosen = np.random.default_rng(0).permutation(count)
        chosen = np.sort(chosen[: self.num_images])
        try:
            if hasattr(self.images, "batches"):
                features = extract_features(self.model, self.images)[chosen]
            else:
                images = np.asarray(self.images)[chosen]
                features = extract_features(self.model, images)
        except NotFiniteError:
            return None  # `StopOnNaN` is for those who want to stop.
        return plots.plot_representations(
            features,
            None if self.labels is None else self.labels[chosen],
            self.class_names,
            f"after epoch {epoch}",
        )


def _count(images):
    count = getattr(images, "num_images", None)
    return len(images) if count is None else count


def _first_of(images, count):
    if hasattr(images, "batches"):
        (batch,) = images.batches(count).take(1)
        return np.asarray(batch)
    return np.asarray(images)[:count]
