"""Watches representations for collapse while a model is trained."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from simclr_keras import user_code
from simclr_keras.evaluation.label_free import feature_std, rank_me, unit_rows
from simclr_keras.model import SimCLRModel

# At a collapse the loss is at chance but for rounding; while it falls, it
# passes by.
_LOSS_TOLERANCE = 0.005

_ADVICE = (
    "Try a lower learning rate or a longer warm-up, a higher temperature, "
    "weaker weight decay, or batch norm in the projection head, as "
    "`ProjectionHead` has; and look at some views, which must not all be alike."
)
_ADVICE_ON_RANK = (
    "Try weaker weight decay, a lower learning rate, a nonlinear projection "
    "head, as `ProjectionHead` is, larger batches, or weaker augmentation."
)


class CollapseMonitor(keras.callbacks.Callback):
    """Logs how much representations vary, and warns when they collapse.

    At the end of epochs it takes the representations h and the projections z
    of some held-out images, as `model.predict` and `model.project` give them,
    in inference mode and without augmentation. It adds to the logs, where
    `History` and the callbacks after this one find them,

    - `h_rank_me`, `z_rank_me`: see `simclr_keras.evaluation.rank_me`;
    - `h_std`, `z_std`: see `simclr_keras.evaluation.feature_std`.

    `EarlyStopping("h_rank_me", mode="max")`, after it in the list, can watch
    one; Keras asks for the `mode`. It warns, once in a run of `fit`, when for
    `patience` looks in a row

    - all rows of h or z are equal: h_std sqrt(F) < `min_std`;
    - they vary in one dimension alone: the RankMe of rows of length 1, less
      their mean, is below `min_rank_me`. As the paper has it, and the logs,
      RankMe counts the mean as a dimension, which hides the others early in
      training; or
    - the loss is log(2N - 1) within 0.005, its value at chance, that of equal
      projections at any temperature (log(2N - 2) for a decoupled loss).

    Put it **before** callbacks that read its logs or that save. Nothing of the
    training changes: no random numbers are drawn. What is NaN is logged and
    not warned of; `StopOnNaN` stops there.

    Args:
        images: Array (M, H, W, C), integer or float, in the model's
            `value_range`; or a data set of images that does not shuffle, as in
            `evaluation.extract_features`. A few hundred or thousand that are
            not trained on; M well above F for RankMe to count dimensions. None
            looks at the loss alone. Defaults to None.
        every: Positive integer, epochs from one look to the next; the first
            and the last epoch are looked at in any case. Between looks the logs
            hold what was seen last. Defaults to 1.
        batch_size: Positive integer, images at a time. Defaults to 256.
        stop: Whether to end `fit` after the epoch in which it warns, by
            `model.stop_training`. Defaults to False.
        train_batch_size: Integer from 2, N above: the images of a batch in
            `fit`, of all replicas together. Batches must all have this size:
            drop a short last one. Losses that layers add, as by a
            `kernel_regularizer`, are part of the logged loss and hide the
            chance level. None leaves the loss out, as for a loss that is not
            NT-Xent. Defaults to None.
        min_std: Float in [0, 1), a fraction of the best, 1 / sqrt(F). Defaults
            to 0.005; small networks had 0.04 and more as they learned.
        min_rank_me: Float, 1 or more, of what varies. Defaults to 1.5, close
            to a single dimension; small networks had 3 and more. A wide one
            that is healthy has many more, so a higher bound tells of a
            partial collapse. It is not asked of features of one dimension.
        patience: Positive integer, how many looks in a row must see it. A
            network that has hardly begun to learn, most of all one without
            batch norm, can be at chance too. Defaults to 3.

    Attributes:
        collapse: String, what it has warned of in this run; or None.

    Raises:
        TypeError: If `images` is neither an array nor a data set, a count is
            not an integer, `stop` is not a boolean, or, from `fit`, the model
            is not a `SimCLRModel`.
        ValueError: If there are neither images nor a `train_batch_size`,
            images are not (M, H, W, C) with M at least 2, or a number is out of
            its range.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> encoder = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
        ...         keras.layers.GlobalAveragePooling2D(),
        ...     ]
        ... )
        >>> model = simclr_keras.SimCLRModel(
        ...     encoder, augmentation=simclr_keras.SimCLRAugmentation(8, 8)
        ... )
        >>> model.compile("adam")
        >>> images = np.random.randint(0, 256, (48, 8, 8, 3), "uint8")
        >>> monitor = simclr_keras.callbacks.CollapseMonitor(
        ...     images[32:], train_batch_size=16
        ... )
        >>> history = model.fit(
        ...     images[:32], batch_size=16, callbacks=[monitor], verbose=0
        ... )
        >>> sorted(name for name in history.history if name[:2] in ("h_", "z_"))
        ['h_rank_me', 'h_std', 'z_rank_me', 'z_std']

    Reference:
        - [Chen and He, 2021](https://arxiv.org/abs/2011.10566), Section 4.1:
          the standard deviation at a collapse.
        - [Garrido et al., 2023](https://arxiv.org/abs/2210.02885), Section
          3.1: RankMe.
        - [Jing et al., 2022](https://arxiv.org/abs/2110.09348): dimensional
          collapse in contrastive learning, by strong augmentation among other
          things.
    """

    def __init__(
        self,
        images=None,
        every=1,
        batch_size=256,
        stop=False,
        train_batch_size=None,
        min_std=0.005,
        min_rank_me=1.5,
        patience=3,
    ):
        super().__init__()
        _check_images(images)
        if images is None and train_batch_size is None:
            raise ValueError(
                "`CollapseMonitor` needs something to look at: `images`, held "
                "out, or `train_batch_size`, for the loss at chance. Received: "
                "images=None, train_batch_size=None."
            )
        _check_integer("every", every)
        _check_integer("batch_size", batch_size)
        _check_integer("patience", patience)
        if train_batch_size is not None:
            _check_integer("train_batch_size", train_batch_size, least=2)
        if not isinstance(stop, bool):
            raise TypeError(
                f"`stop` must be True or False. Received: stop={stop!r}."
            )
        if not 0 <= min_std < 1:
            raise ValueError(
                "`min_std` is a fraction of the best and must be in [0, 1). "
                f"Received: min_std={min_std!r}."
            )
        if not 1 <= min_rank_me < math.inf:
            raise ValueError(
                "`min_rank_me` must be 1 or more; 1 is never undercut. "
                f"Received: min_rank_me={min_rank_me!r}."
            )
        self.images = images
        self.every = every
        self.batch_size = batch_size
        self.stop = stop
        self.train_batch_size = train_batch_size
        self.min_std = min_std
        self.min_rank_me = min_rank_me
        self.patience = patience
        self.collapse = None
        self._looks = 0  # Those in a row that saw it.
        self._last = None

    def set_model(self, model):
        if not isinstance(model, SimCLRModel):
            raise TypeError(
                "`CollapseMonitor` needs a SimCLRModel, which gives it "
                f"representations and projections. Received: {model.name!r} of "
                f"type {type(model).__name__}. For other models see "
                "`simclr_keras.evaluation.rank_me` and `feature_std`."
            )
        super().set_model(model)

    def on_train_begin(self, logs=None):
        self.collapse, self._looks, self._last = None, 0, None

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        is_last = epoch + 1 == (self.params or {}).get("epochs")
        if self._last is None or epoch % self.every == 0 or is_last:
            self._look(epoch, logs.get("loss"))
        logs.update(self._last)

    def _look(self, epoch, loss):
        self._last = {}
        signs = [] if loss is None else self._signs_in_loss(float(loss))
        if self.images is not None:
            for name, features in self._features().items():
                std, rank = math.nan, math.nan
                if np.isfinite(features).all():
                    std, rank = feature_std(features), rank_me(features)
                self._last[f"{name}_rank_me"] = rank
                self._last[f"{name}_std"] = std
                signs += self._signs_in_features(name, features, std)
        self._looks = self._looks + 1 if signs else 0
        if self._looks >= self.patience and self.collapse is None:
            self._tell(epoch, signs)

    def _features(self):
        """Representations h (M, F) and projections z (M, D), float32."""
        images = self.images
        if hasattr(images, "batches"):
            images = images.batches(self.batch_size)
        # A data set has batches of its own, beside which Keras takes no size.
        size = self.batch_size if hasattr(images, "shape") else None
        h = self.model.predict(images, batch_size=size, verbose=0)
        z = [
            self.model.project(
                ops.convert_to_tensor(h[i : i + self.batch_size]),
                training=False,
            )
            for i in range(0, len(h), self.batch_size)
        ]
        # NumPy has no bfloat16.
        z = [ops.convert_to_numpy(ops.cast(each, "float32")) for each in z]
        return {"h": np.asarray(h, "float32"), "z": np.concatenate(z)}

    def _signs_in_features(self, name, features, std):
        """What is wrong with h or z, pairs of a sentence and an advice."""
        what = {"h": "representations h", "z": "projections z"}[name]
        best = features.shape[1] ** -0.5
        if std < self.min_std * best:
            return [
                (
                    f"All {what} are equal or nearly so: {name}_std is "
                    f"{std:.2g}, where rows spread evenly over the sphere have "
                    f"{best:.2g}.",
                    _ADVICE,
                )
            ]
        num_dims = min(features.shape)
        if math.isnan(std) or num_dims == 1:
            return []
        # The mean, of rows that are far from zero, is not what varies.
        rows = unit_rows(features)
        rank = rank_me(rows - np.mean(rows, axis=0))
        if rank < self.min_rank_me:
            return [
                (
                    f"The {what} vary in hardly more than one dimension: the "
                    "RankMe of rows of length 1, less their mean, is "
                    f"{rank:.3g} of {num_dims}.",
                    _ADVICE_ON_RANK,
                )
            ]
        return []

    def _signs_in_loss(self, loss):
        if self.train_batch_size is None:
            return []
        num_left_out = 1 + bool(getattr(self.model.loss, "decoupled", False))
        chance = math.log(2 * self.train_batch_size - num_left_out)
        if not abs(loss - chance) <= _LOSS_TOLERANCE:
            return []
        return [
            (
                f"The loss is {loss:.4f}, and log(2N - {num_left_out}) = "
                f"{chance:.4f} is that of equal projections of batches of "
                f"{self.train_batch_size} images.",
                _ADVICE,
            )
        ]

    def _tell(self, epoch, signs):
        self.collapse = " ".join(sentence for sentence, _ in signs)
        advice = " ".join(dict.fromkeys(each for _, each in signs))
        looks = f" {self.patience} times in a row" if self.patience > 1 else ""
        end = " Training ends here." if self.stop else ""
        warnings.warn(
            f"Collapse, seen{looks} at the end of epoch {epoch + 1}. "
            f"{self.collapse} {advice}{end}",
            stacklevel=user_code.stacklevel(),
        )
        if self.stop:
            self.model.stop_training = True


def _check_images(images):
    if images is None:
        return
    if not hasattr(images, "shape"):
        is_dataset = isinstance(images, keras.utils.PyDataset)
        is_set = hasattr(images, "batches")
        if not (is_dataset or is_set or hasattr(images, "element_spec")):
            raise TypeError(
                "`images` must be an array (M, H, W, C), a set of "
                "simclr_keras.data, a tf.data.Dataset or a PyDataset. "
                f"Received: {type(images).__name__}."
            )
    elif len(images.shape) != 4 or images.shape[0] < 2:
        raise ValueError(
            "`images` must have the shape (M, H, W, C), M at least 2. "
            f"Received: images.shape={tuple(images.shape)}."
        )


def _check_integer(name, value, least=1):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(
            f"`{name}` must be an integer. Received: {name}={value!r} of type "
            f"{type(value).__name__}."
        )
    if value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: "
            f"{name}={value!r}."
        )
