"""The model that learns representations by comparing views."""

import itertools
import numbers
import operator
import types

import keras
from keras import ops

from simclr_keras import distribution, keras_private, metrics
from simclr_keras.augmentation import as_augmentation
from simclr_keras.augmentation.contract import AfterCrop, view_key
from simclr_keras.encoders.representation import check_representations
from simclr_keras.losses import ContrastiveLoss
from simclr_keras.model import batch as batches
from simclr_keras.model import checks
from simclr_keras.model.batch import IMAGE, LABEL
from simclr_keras.model.building import BuildsAndSaves, build_layer
from simclr_keras.model.checked_methods import CheckedMethods
from simclr_keras.model.state import State
from simclr_keras.model.train_step import TrainStep
from simclr_keras.projection_head import ProjectionHead
from simclr_keras.value_range import check_dtype, standardize_value_range

# The seed of the views in `evaluate`.
_EVALUATION_SEED = 0
# Attributes that are looked at when a model is made, and not in each step.
_FIXED = ("augmentation", "num_classes", "value_range")


@keras.saving.register_keras_serializable(package="simclr_keras")
class SimCLRModel(CheckedMethods, BuildsAndSaves, TrainStep, keras.Model):
    """Trains an encoder by telling views of one image from those of others.

    A step augments every image twice, passes both views through the encoder
    and the projection head as one batch of 2N, and compares the projections by
    the loss. What stays is the encoder: `model(images)` and `model.predict`
    give its representations. Each part of a step is a method that a subclass
    may override alone: `make_views`, `encode`, `project`, `contrastive_loss`
    and `update_metrics`.

    Everything that `fit` does works: callbacks, mixed precision, validation,
    `steps_per_execution`, `run_eagerly`, `jit_compile`, and on TensorFlow
    `tf.distribute`, where the negatives are those of the global batch.

    Args:
        encoder: `keras.layers.Layer`, often a `keras.Model`: images (B, H, W,
            C), floats in [0, 1], to representations (B, F).
        projection_head: Layer from (B, F) to projections (B, D). None is
            `ProjectionHead()`. Defaults to None.
        augmentation: Layer that makes a random view of each image, in the
            range of the images, such as `SimCLRAugmentation` or a
            `keras.Sequential` of image layers; or a list with a layer for each
            view, of which there may be more than two, and of several sizes
            (multi-crop) where the encoder takes them. None if the batches
            hold views already. Defaults to None.
        num_classes: Number of classes of a linear probe, trained on the
            representations beside the encoder, without a gradient into it; the
            batches must be labelled. None is no probe. Defaults to None.
        value_range: Pair (low, high): the range of the images. None is that of
            the augmentation, or (0, 255) if it does not say. Defaults to None.
        probe_on: What the probe is trained on. `"views"`: the representations
            that the step has of the views, at no cost, as in the paper.
            `"images"`: those of the images themselves, as `call` gives them in
            inference mode, for another forward pass a step; the probe then
            tells about what `linear_evaluation` would, also if the encoder does
            not know views as well as images. Defaults to `"views"`.
        **kwargs: Of `keras.Model`. A `dtype` is not that of the encoder and
            the head, which have their own: set a global policy before they are
            made, or give it to them. In float16 the model must have it too, for
            the optimizer to scale the loss.

    Call arguments:
        images: Tensor (B, H, W, C) in `value_range`, as `fit` takes it. Images
            of another size than the augmentation evaluates, that of its views
            unless it says otherwise, get its evaluation preprocessing.
        training: Whether batch norm uses the batch's statistics. The images
            are not augmented in either case.

    Returns:
        Representations h, float tensor (B, F).

    `fit` and `evaluate` take, as an array, a `tf.data.Dataset` or a
    `PyDataset`: images; `(images, labels)`; a dictionary with `"image"` and
    optionally `"label"`; or, augmented by the user, a dictionary with
    `"view_1"`, `"view_2"` and so on, and optionally `"label"`; or, as
    `data.training_dataset(..., crop=augmentation)` gives them, one with
    `"crop_1"`, `"crop_2"` and so on, which go through what follows the crop in
    `augmentation`. They log `loss`, the contrastive loss, without the probe's;
    `contrastive_accuracy` and `contrastive_entropy` (see
    `simclr_keras.metrics`); and with a probe `probe_loss` and
    `probe_accuracy`, in `fit` on what `probe_on` says and in `evaluate` on the
    images themselves. `evaluate` compares augmented views too,
    with batch norm in inference mode; an image's views there follow from its
    index in the whole evaluation, the same ones each time.

    Wrong values (NaN, out of range, not a class) raise an error. Arrays are
    looked at before the first step. Datasets are looked at as they pass, never
    beforehand: on TensorFlow without XLA a wrong batch stops the step before it
    reaches the weights, elsewhere `fit` ends after the first batch or at the
    end of the epoch. Floats in [0, 1] in a wider range are warned of.

    Metrics given to `compile` are called as the loss is, with the projections
    of first and second views.

    Raises:
        TypeError: If the encoder, the projection head or the augmentation is
            not a layer.
        AttributeError: If `augmentation`, `num_classes` or `value_range` is set
            to something else once the model is made.
        ValueError: If the encoder's output is not (B, F), if `probe_on` is
            neither of its values, if `value_range` contradicts the
            augmentation's, or if a batch is none of the above, holds a single
            image, values outside the range, labels that are not classes, or
            views where a probe is trained on images.

    Example:
        >>> import numpy as np, simclr_keras
        >>> model = simclr_keras.SimCLRModel(
        ...     simclr_keras.encoders.ResNet18(
        ...         width_multiplier=1 / 16, stem="cifar"
        ...     ),
        ...     augmentation=simclr_keras.SimCLRAugmentation(32, 32),
        ... )
        >>> model.compile(
        ...     optimizer=simclr_keras.LARS(0.3),
        ...     loss=simclr_keras.NTXentLoss(temperature=0.5),
        ... )
        >>> images = np.random.randint(0, 256, (64, 32, 32, 3), "uint8")
        >>> history = model.fit(images, batch_size=32, verbose=0)
        >>> model.predict(images, verbose=0).shape
        (64, 32)

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Algorithm 1;
          Appendix B.6 for the probe.
    """

    def __init__(
        self,
        encoder,
        projection_head=None,
        augmentation=None,
        num_classes=None,
        value_range=None,
        probe_on="views",
        **kwargs,
    ):
        # Images keep their dtype up to the encoder, which casts by itself:
        # half precision is too coarse for them.
        super().__init__(autocast=False, **kwargs)
        if projection_head is None:
            projection_head = ProjectionHead()
        _check_layer("encoder", encoder)
        _check_layer("projection_head", projection_head)
        if num_classes is not None:
            is_integer = isinstance(num_classes, numbers.Integral)
            if isinstance(num_classes, bool) or not (
                is_integer and num_classes > 0
            ):
                raise ValueError(
                    "`num_classes` must be a positive integer or None. "
                    f"Received: num_classes={num_classes!r}."
                )
            num_classes = operator.index(num_classes)
        if probe_on not in ("views", "images"):
            raise ValueError(
                '`probe_on` must be "views" or "images". Received: '
                f"probe_on={probe_on!r}."
            )
        checks.check_dtype_of_parts(
            kwargs.get("dtype"), (encoder, projection_head)
        )
        self.encoder = encoder
        self.projection_head = projection_head
        self.augmentation = augmentation
        self.num_classes = num_classes
        self.probe_on = probe_on

        # One for each view, under one contract.
        self._augmentations = _one_for_each_view(augmentation)
        rests = {each: AfterCrop(each) for each in self._augmentations}
        self._after_crop = tuple(rests[each] for each in self._augmentations)
        self.value_range = _resolve_value_range(
            value_range, self._augmentations
        )
        self.evaluation_preprocessing = None
        if self._augmentations:
            checks.check_evaluation_size(encoder, self._augmentations)
            self.evaluation_preprocessing = self._augmentations[0].evaluation()
        self.may_compile = True  # The augmentation, by XLA.
        self.micro_batch_size = None  # See `compile`.
        self.contrastive_accuracy = metrics.ContrastiveAccuracy()
        self.contrastive_entropy = metrics.ContrastiveEntropy()
        if num_classes is not None:
            self.linear_probe = keras.layers.Dense(
                num_classes,
                # From zero, so that a probe takes no random numbers from what
                # is trained beside it.
                kernel_initializer="zeros",
                dtype=_probe_dtype(encoder),
                name="linear_probe",
            )
            self.probe_loss = keras.metrics.Mean(name="probe_loss")
            self.probe_accuracy = keras.metrics.SparseCategoricalAccuracy(
                name="probe_accuracy"
            )
        self._state = State(self.value_range, num_classes)
        # An `encode` of a subclass may make something else of its output.
        if (
            encoder.built
            and isinstance(encoder, keras.Model)
            and not self._overrides("encode")
        ):
            self._build_on(getattr(encoder, "output_shape", None))

    def __setattr__(self, name, value):
        # Keras's idiom `self.scale = scale` would take away what a step needs.
        # A function may be meant to take its place.
        if _is_method(name) and not isinstance(value, types.FunctionType):
            raise AttributeError(
                f"`{name}` is a method or property of SimCLRModel and cannot "
                "be an attribute of a subclass as well. Received: "
                f"{type(self).__name__}.{name} = {value!r}. Choose another "
                "name."
            )
        # What the steps are made of by now; a file would say something else.
        if name in _FIXED and "_state" in self.__dict__:
            self._check_is_the_same(name, value)
        super().__setattr__(name, value)

    def _check_is_the_same(self, name, value):
        current = getattr(self, name)
        one, other = (
            list(each) if isinstance(each, (list, tuple)) else each
            for each in (value, current)
        )
        if one is not other and one != other:
            raise AttributeError(
                f"`{name}` of a SimCLRModel is what it was made with. Make "
                "another model of the same `encoder` and `projection_head` "
                "instead, which share their weights."
            )

    # --- The parts of a step, to be overridden one at a time -----------------
    def make_views(self, images, training=True):
        """The views of a batch of images.

        Args:
            images: Tensor (N, H, W, C) in `value_range`.
            training: Whether to draw; in evaluation the draws are the same
                each time and follow from an image's index alone.

        Returns:
            Tuple of two views or more, float tensors (N, H', W', C) in
            `value_range`, row k of each of image k.
        """
        return tuple(
            self.augment(images, view, training)
            for view in range(len(self._augmentations))
        )

    def encode(self, images, training=None):
        """The representations h of images.

        Args:
            images: Float tensor (B, H, W, C) in [0, 1]: images, or the views
                of a batch, the first views first; all of them, if they are of
                one size.
            training: Whether batch norm uses the batch's statistics.

        Returns:
            Float tensor (B, F).
        """
        return self.encoder(images, training=training)

    def project(self, representations, training=None):
        """The projections z of representations.

        Args:
            representations: Float tensor (B, F), as `encode` gives it.
            training: Whether batch norm uses the batch's statistics.

        Returns:
            Float tensor (B, D).
        """
        return self.projection_head(representations, training=training)

    def contrastive_loss(
        self, projections, labels=None, views=None, training=True
    ):
        """The loss of a batch's projections: that given to `compile`.

        Of more than two views it is the mean over all pairs of them.

        In a replica of `tf.distribute` the batch is this replica's part of the
        global one. What is returned adds up over the replicas: a mean over
        this replica's rows must be its share of the global one, as
        `simclr_keras.distribution.global_mean` makes it.

        Args:
            projections: Tuple of a float tensor (N, D) for each view.
            labels: int32 tensor (N,), or None if the batch has none.
                `simclr_keras.distribution.all_gather` brings those of all
                replicas.
            views: Tuple of a float tensor (N, H, W, C) in [0, 1] for each
                view, for losses that ask another network; None in a step of
                micro-batches.
            training: Whether the weights are trained by it.

        Returns:
            Scalar tensor.
        """
        losses = [
            self._loss_of_pair(z_i, z_j, labels)
            for z_i, z_j in itertools.combinations(projections, 2)
        ]
        return sum(losses) / len(losses)

    def update_metrics(self, projections, labels=None):
        """Updates the metrics of a batch, those of first and second views.

        Args:
            projections: Tuple of a float tensor (N, D) for each view.
            labels: int32 tensor (N,) or None.
        """
        z_1, z_2 = projections[:2]
        # The entropy is that of the softmax in the loss.
        temperature = self._temperature()

        def entropy(similarities, partner):
            return self.contrastive_entropy.values(
                similarities, partner, temperature
            )

        accuracies, entropies = metrics.compare(
            z_1, z_2, [self.contrastive_accuracy.values, entropy]
        )
        self.contrastive_accuracy.update_values(accuracies)
        self.contrastive_entropy.update_values(entropies)
        super().compute_metrics(None, z_1, z_2)  # those given to `compile`

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """What SimCLR does with a batch (Algorithm 1), on every backend.

        Args:
            x: The batch's images or views, as `fit` takes them.
            y: Labels or None.
            y_pred: Ignored: the projections are made here.
            sample_weight: Must be None.
            training: Whether batch norm uses the batch's statistics.

        Returns:
            The contrastive loss and what the layers add to it, a scalar. Its
            gradient is that of the sum with the probe's loss.
        """
        if training and self.cuts_in_loss and self.micro_batch_size is not None:
            return self.loss_in_micro_batches(x, y, sample_weight)
        batch, labels = self.take_apart(x, y, sample_weight)
        projections, h, views, added = self._project_views(batch, training)
        loss = self.contrastive_loss(projections, labels, views, training)
        checks.check_loss_value(loss)
        loss = loss + ops.cast(self._added_losses(added), loss.dtype)
        self.update_metrics(projections, labels)

        if self.num_classes is not None:
            h = self._probed(batch, h, training)
            loss = loss + ops.cast(self._probe(h, labels), loss.dtype)
        if not training:
            self._state.count(ops.shape(batches.images_of(batch))[0])
        return loss

    # --- What these are made of ----------------------------------------------
    def take_apart(self, x, y, sample_weight=None):
        """A batch, checked, and its labels as int32 (N,) or None."""
        checks.check_weights(sample_weight)
        batch = batches.unpack(x, y)
        checks.check_negatives(batch)
        batch = self._check_values(batch)
        return batch, self._labels(batch)

    def _project_views(self, batch, training):
        """Passes the views of a batch through encoder and projection head.

        Returns:
            Projections, a tuple of V tensors (N, D); representations (VN, F);
            the views; and a list of what the encoder has added to the loss,
            pairs of the share of the views and of a scalar.
        """
        views = self._views(batch, training)  # V of (N, H, W, C)
        # Together, but for those that follow one of another size.
        h, added = [], []
        for _, part in itertools.groupby(views, lambda x: tuple(x.shape)[1:]):
            part = list(part)
            share = len(part) / len(views)
            h.append(self._encode_and_build(ops.concatenate(part), training))
            # The next call forgets them.
            new = keras_private.added_losses(self.encoder)
            added += [(share, loss) for loss in new]
        h = h[0] if len(h) == 1 else ops.concatenate(h)  # (VN, F)
        z = self.project(h, training)  # (VN, D)
        self._state.watch.look_at_projections(z)
        return tuple(ops.split(z, len(views))), h, views, added

    def _added_losses(self, of_encoder):
        """What the layers add to the loss, as a share of this replica.

        Args:
            of_encoder: As `_project_views` gives it.
        """
        added = ops.zeros((), keras.config.floatx())
        known = {id(loss) for _, loss in of_encoder}
        others = [(1.0, x) for x in self.losses if id(x) not in known]
        for share, loss in [*of_encoder, *others]:
            added = added + share * ops.cast(loss, added.dtype)
        return added / self._num_replicas()

    def layers_without_index(self):
        """Layers in which a random layer does not know an image's index."""
        augmentations = [
            layer
            for augmentation in self._augmentations
            for layer in augmentation.layers_without_index()
        ]
        return [self.encoder, self.projection_head, *augmentations]

    def project_micro_batch(self, micro_batch):
        """Projections (m, V, D) of the views of a micro-batch.

        Args:
            micro_batch: `MicroBatch`.

        Returns:
            Pair of the projections and of a function that gives what else the
            loss consists of, as a share of the whole batch's.
        """
        self._state.micro_batch = micro_batch
        try:
            projections, h, _, added = self._project_views(
                micro_batch.batch, True
            )
        finally:
            self._state.micro_batch = None

        def added_loss():
            loss = self._added_losses(added)
            if self.num_classes is not None:
                batch = micro_batch.batch
                probe = self._probe(
                    self._probed(batch, h, True), self._labels(batch)
                )
                loss = loss + ops.cast(probe, loss.dtype)
            return loss * micro_batch.share(loss.dtype)

        z = ops.cast(ops.stack(projections, axis=1), keras.config.floatx())
        return z, added_loss

    def loss_without_views(self, projections, labels):
        """`contrastive_loss` in a step of micro-batches."""
        try:
            loss = self.contrastive_loss(projections, labels, None, True)
        except (TypeError, AttributeError) as error:
            if not self._overrides("contrastive_loss"):
                raise
            raise ValueError(
                f"{type(self).__name__}.contrastive_loss failed in a step of "
                "micro-batches, in which `views` is None: those of the whole "
                "batch are never in memory together. Received: "
                f"micro_batch_size={self.micro_batch_size}. Call `compile` "
                "without it if the loss looks at the views."
            ) from error
        checks.check_loss_value(loss)
        return loss

    def augment(self, images, view=0, training=True, augmentation=None):
        """One random view of each image.

        Args:
            images: Tensor (N, H, W, C) in `value_range`.
            view: Integer: which view it is to be. In evaluation another draw
                belongs to each.
            training: Whether to draw anew. Otherwise the draws are the same in
                every evaluation, and those of the training stay where they
                are.
            augmentation: `keras.layers.Layer`; None is the model's for this
                view. One of your own must be an attribute of the model, too,
                for its generator to be saved.

        Returns:
            Float tensor (N, H', W', C) in `value_range`.
        """
        if augmentation is not None:
            augmentation = as_augmentation(augmentation)
        else:
            augmentation = self._augmentations[view]
        draw = self._draw(images, view, training, augmentation)
        return self.apply_augmentation(augmentation, images, *draw)

    def _finish_crops(self, crops, training):
        """The views of a batch of which the random crops are at hand."""
        for name in ("make_views", "augment"):
            if self._overrides(name):
                raise ValueError(
                    "A batch of crops goes through what follows the crop in "
                    f"`augmentation`, and not through `{name}`, which "
                    f"{type(self).__name__} overrides. Pass images instead, "
                    "`training_dataset(...)` without `crop`."
                )
        if len(crops) != len(self._augmentations):
            raise ValueError(
                "A batch of crops needs a crop for each view that "
                "`augmentation` makes. Received: "
                f"{len(crops)} crops and an augmentation of "
                f"{len(self._augmentations)} views."
            )
        views = []
        for view, images in enumerate(crops):
            augmentation = self._augmentations[view]
            checks.check_crop_size(view, images, augmentation)
            draw = self._draw(images, view, training, augmentation)
            rest = self._after_crop[view]
            views.append(self.apply_augmentation(rest, images, *draw))
        return views

    def _draw(self, images, view, training, augmentation):
        """What an augmentation draws a view by: (index, key)."""
        if self._state.micro_batch is not None:
            index = self._state.micro_batch.index
        else:
            index = distribution.sample_index(ops.shape(images)[0])
        if not training:
            index = index + self._state.position()
            key = augmentation.key(view, seed=_EVALUATION_SEED)
        else:
            key = augmentation.next_key()
            if augmentation is not self._augmentations[0]:
                key = view_key(key, view)
        return index, key

    def scale(self, images):
        """Brings images from `value_range` to floats in [0, 1]."""
        low, high = self.value_range
        return (ops.cast(images, "float32") - low) / (high - low)

    def call(self, images, training=None):
        batch = batches.unpack(images)
        return self._encode_and_build(
            self._prepare(batches.images_of(batch)), training
        )

    def _prepare(self, images):
        """Brings images to the size that is evaluated and to [0, 1]."""
        if self.evaluation_preprocessing is not None:
            images = self.evaluation_preprocessing(images)
        return self.scale(images)

    def _views(self, batch, training):
        """The views of a batch in [0, 1]."""
        if IMAGE not in batch:
            views = [batch[name] for name in batches.view_names(batch)]
            if batches.are_crops(batch):
                views = self._finish_crops(views, training)
                self._state.watch.look_at_views(views)
            elif self._augmentations:
                checks.warn_of_unused_augmentation()
        elif not self._makes_views():
            raise ValueError(
                "A SimCLRModel without `augmentation` needs batches of views: "
                "a dictionary with the keys 'view_1' and 'view_2'. Received "
                "images; pass `augmentation=SimCLRAugmentation(...)`."
            )
        else:
            views = self.make_views(batch[IMAGE], training)
            self._state.watch.look_at_views(views)
        shapes = [tuple(view.shape)[1:] for view in views]
        if len(views) < 2 or len({shape[-1] for shape in shapes}) > 1:
            raise ValueError(
                "A batch must have two views or more, all of as many "
                f"channels. Received: {len(views)} of shapes {shapes}."
            )
        if any(None in shape for shape in shapes) and len(set(shapes)) > 1:
            raise ValueError(
                f"{checks.UNKNOWN_SIZES} Received: {len(views)} of shapes "
                f"{shapes}."
            )
        return tuple(self.scale(view) for view in views)

    def _makes_views(self):
        return self._overrides("make_views") or bool(self._augmentations)

    def _overrides(self, name):
        return getattr(type(self), name) is not getattr(SimCLRModel, name)

    def _encode_and_build(self, images, training):
        """`encode`, with its output checked, and what follows it built."""
        if not self._overrides("encode"):
            checks.check_encoder_input(self.encoder, images.shape)
        representations = self.encode(images, training)
        if not hasattr(representations, "shape"):
            raise TypeError(
                "The encoder must give one tensor (B, F). Received: "
                f"{type(representations).__name__} from {self.encoder.name!r}. "
                "Choose one of its outputs by overriding `SimCLRModel.encode`."
            )
        self._build_on(representations.shape)
        return representations

    def _loss_of_pair(self, z_i, z_j, labels):
        loss = self.loss
        if self._uses_labels():
            values = loss(z_i, z_j, labels=labels)
        else:
            values = loss(z_i, z_j)
        if len(values.shape):  # What is not reduced: a row a view or an image.
            return distribution.global_mean(values)
        if isinstance(loss, ContrastiveLoss):
            return values  # Of all replicas already.
        if isinstance(loss, keras.losses.Loss):
            if loss.reduction == "sum":
                return values
            values = values * self._num_replicas()  # By which Keras divides.
        # The mean of this replica's rows, which may be fewer than another's.
        rows = ops.shape(z_i)[0]
        return values * distribution.share_of_batch(rows, values.dtype)

    def _uses_labels(self):
        return getattr(self.loss, "uses_labels", False)

    def _temperature(self):
        return getattr(self.loss, "temperature", None)

    def _num_replicas(self):
        return distribution.num_replicas()

    def _labels(self, batch):
        """The labels of a batch as int32 (N,), or None."""
        labels = batch.get(LABEL)
        if labels is None:
            if self.num_classes is not None:
                raise ValueError(
                    checks.missing_labels_message(self.num_classes)
                )
            return None
        checks.check_label_shape(
            labels.shape, batches.images_of(batch).shape[0], self.num_classes
        )
        if len(labels.shape) == 2 and labels.shape[-1] not in (None, 1):
            labels = ops.argmax(labels, axis=-1)  # from one-hot
        return ops.cast(ops.reshape(labels, (-1,)), "int32")

    def _probed(self, batch, h_of_views, training):
        """The representations (N or VN, F) that the probe looks at."""
        if IMAGE in batch and (not training or self.probe_on == "images"):
            images = self._prepare(batch[IMAGE])
            return self._encode_and_build(images, training=False)
        if training and self.probe_on == "images":
            raise ValueError(
                'A probe with probe_on="images" needs batches of images. '
                f"Received: {batches.view_names(batch)}. Leave `probe_on` out, "
                "for it to be trained on these."
            )
        return h_of_views

    def _probe(self, h, labels):
        """The linear probe's share of the loss: a gradient, and the value 0."""
        num_views = ops.shape(h)[0] // ops.shape(labels)[0]
        labels = ops.tile(labels, [num_views])
        logits = self.linear_probe(ops.stop_gradient(h))
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )
        self.probe_loss.update_state(losses)
        self.probe_accuracy.update_state(labels, logits)
        loss = distribution.global_mean(losses)
        # The probe is trained beside the encoder and leaves the loss that is
        # logged the contrastive one.
        return loss - ops.stop_gradient(loss)

    @property
    def compiled_augmentations(self):
        """What XLA compiles in a step, functions by augmentation."""
        return self._state.compiled

    # --- Values --------------------------------------------------------------
    def _check_values(self, batch):
        images = batches.images_of(batch)
        check_dtype(images.dtype, self.value_range)
        self._state.image_shape = (None, *tuple(images.shape)[1:])
        seen = self._state.watch.look(self.without_unused_labels(batch))
        return self.checked(batch, *seen)

    def without_unused_labels(self, batch):
        """A batch without labels that neither probe nor loss looks at."""
        if (
            self.num_classes is not None
            or self._uses_labels()
            or self._overrides("contrastive_loss")
            or self._overrides("update_metrics")
        ):
            return batch
        return {k: part for k, part in batch.items() if k != LABEL}

    def look_at_images(self, x):
        """Notes the values of images that `predict` is given."""
        batch = batches.unpack(x)
        images = batches.images_of(batch)
        check_dtype(images.dtype, self.value_range)
        self._state.watch.look({IMAGE: images})

    # --- Building and saving -------------------------------------------------
    def _build_on(self, representation_shape):
        """Builds what follows the encoder, as soon as its output is known."""
        if representation_shape is None or self.built:
            return
        shape = (None, *tuple(representation_shape)[1:])
        check_representations(tuple(representation_shape))
        if not self.projection_head.built:
            build_layer(self.projection_head, shape)
        if self.num_classes is not None and not self.linear_probe.built:
            self.linear_probe.build(shape)
        distribution.warn_of_local_batch_norm(
            self.encoder, self.projection_head
        )
        self.built = True

    @property
    def loss_tracker(self):
        """The metric that `loss` is logged from."""
        return next(m for m in self.metrics if m.name == "loss")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()  # `compute_loss` has updated them.

    def get_config(self):
        config = super().get_config()
        for name in ("encoder", "projection_head", "augmentation"):
            config[name] = keras.saving.serialize_keras_object(
                getattr(self, name)
            )
        return {
            **config,
            "num_classes": self.num_classes,
            "value_range": self.value_range,
            "probe_on": self.probe_on,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("encoder", "projection_head", "augmentation"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        model = cls(**config)
        # Keras tells only a model that is not built of the shape of the images,
        # which an export, and layers of a subclass, need.
        model.built = False
        return model


def _probe_dtype(encoder):
    """Double precision where the encoder has it, and otherwise single.

    `tf.distribute` adds gradients up together, which takes those of one dtype.
    """
    layers = keras_private.flatten_layers(encoder)
    dtypes = {layer.variable_dtype for layer in layers}
    return "float64" if "float64" in dtypes else "float32"


def _is_method(name):
    """Whether this package has given `SimCLRModel` a method of a name."""
    # Keras itself wraps its own in a model.
    if hasattr(keras.Model, name):
        return False
    found = getattr(SimCLRModel, name, None)
    return isinstance(found, (types.FunctionType, property))


def _check_layer(name, layer):
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"`{name}` must be a keras.layers.Layer or a keras.Model. "
            f"Received: {name}={layer!r} of type {type(layer).__name__}."
        )


def _one_for_each_view(augmentation):
    """Augmentations under one contract, a tuple as long as there are views."""
    if augmentation is None:
        return ()
    if not isinstance(augmentation, (list, tuple)):
        _check_layer("augmentation", augmentation)
        return (as_augmentation(augmentation),) * 2
    if len(augmentation) < 2:
        raise ValueError(
            "`augmentation` must be a layer, or a list of one for each of two "
            f"views or more. Received a list of {len(augmentation)}."
        )
    for layer in augmentation:
        _check_layer("augmentation", layer)
    return tuple(as_augmentation(layer) for layer in augmentation)


def _resolve_value_range(value_range, augmentations):
    """The range of the images, which model and augmentations agree on."""
    found = {
        tuple(each.value_range)
        for each in augmentations
        if hasattr(each, "value_range")
    }
    if len(found) > 1:
        raise ValueError(
            "The augmentations of the views must have one `value_range`. "
            f"Received: {sorted(found)}."
        )
    augmented = next(iter(found), None)
    if value_range is None:
        return standardize_value_range(augmented or (0, 255))
    value_range = standardize_value_range(value_range)
    if augmented is not None and augmented != value_range:
        raise ValueError(
            "`value_range` must be that of the augmentation. Received: "
            f"value_range={value_range}, while the augmentation has "
            f"{augmented}. Give its layers `value_range={value_range}`, too."
        )
    return value_range
