"""The model that learns representations by comparing views."""

import keras
from keras import ops

from simclr_keras import distribution, metrics
from simclr_keras.augmentation.random_image_layer import (
    RandomImageLayer,
    standardize_value_range,
)
from simclr_keras.encoders.representation import check_representations
from simclr_keras.losses import NTXentLoss
from simclr_keras.model import inputs
from simclr_keras.model.train_step import TrainStep
from simclr_keras.projection_head import ProjectionHead

# The seed of the views in `evaluate`.
_EVALUATION_SEED = 0


@keras.saving.register_keras_serializable(package="simclr_keras")
class SimCLRModel(TrainStep, keras.Model):
    """Trains an encoder by telling views of one image from those of others.

    A step augments every image twice, passes both views through the encoder
    and the projection head as one batch of 2N, and compares the projections by
    the loss. What stays is the encoder: `model(images)` and `model.predict`
    give its representations.

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
            `keras.Sequential` of image layers. None if the batches hold views
            already. Defaults to None.
        num_classes: Number of classes of a linear probe, trained on the
            representations beside the encoder, without a gradient into it; the
            batches must be labelled. None is no probe. Defaults to None.
        value_range: Pair (low, high): the range of the images. None is that of
            the augmentation, or (0, 255) if it does not say. Defaults to None.
        **kwargs: Of `keras.Model`.

    Call arguments:
        images: Tensor (B, H, W, C) in `value_range`, as `fit` takes it. Images
            of another size than the augmentation's views get its evaluation
            preprocessing.
        training: Whether batch norm uses the batch's statistics. The images
            are not augmented in either case.

    Returns:
        Representations h, float tensor (B, F).

    `fit` and `evaluate` take, as an array, a `tf.data.Dataset` or a
    `PyDataset`: images; `(images, labels)`; a dictionary with `"image"` and
    optionally `"label"`; or, augmented by the user, a dictionary with
    `"view_1"` and `"view_2"` and optionally `"label"`. They log `loss`, the
    contrastive loss, without the probe's; `contrastive_accuracy` and
    `contrastive_entropy` (see `simclr_keras.metrics`); and with a probe
    `probe_loss` and `probe_accuracy`, on augmented images in `fit` and on the
    images themselves in `evaluate`. `evaluate` compares augmented views too,
    the same ones each time, with batch norm in inference mode.

    On TensorFlow a batch with a wrong value (NaN, out of range, not a class)
    stops the step before it reaches the weights, unless XLA compiles the step,
    which leaves such checks out: `jit_compile=True`, and Keras's default on a
    machine with a GPU. What `fit` can look at beforehand is checked always.

    Metrics given to `compile` are called as the loss is, with the projections
    of first and second views.

    Raises:
        TypeError: If the encoder, the projection head or the augmentation is
            not a layer.
        ValueError: If the encoder's output is not (B, F), if `value_range`
            contradicts the augmentation's, or if a batch is none of the above,
            holds a single image, values outside the range, or labels that are
            not classes.

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
        **kwargs,
    ):
        # Images keep their dtype up to the encoder, which casts by itself:
        # half precision is too coarse for them.
        super().__init__(autocast=False, **kwargs)
        if projection_head is None:
            projection_head = ProjectionHead()
        _check_layer("encoder", encoder)
        _check_layer("projection_head", projection_head)
        if augmentation is not None:
            _check_layer("augmentation", augmentation)
        if num_classes is not None and not num_classes > 0:
            raise ValueError(
                "`num_classes` must be a positive integer or None. Received: "
                f"num_classes={num_classes!r}."
            )
        self.encoder = encoder
        self.projection_head = projection_head
        self.augmentation = augmentation
        self.num_classes = num_classes
        self.value_range = _resolve_value_range(value_range, augmentation)

        self.preprocessing = None
        if hasattr(augmentation, "evaluation"):
            self.preprocessing = augmentation.evaluation()
        self.contrastive_accuracy = metrics.ContrastiveAccuracy()
        self.contrastive_entropy = metrics.ContrastiveEntropy()
        if num_classes is not None:
            self.linear_probe = keras.layers.Dense(
                num_classes,
                # From zero, so that a probe takes no random numbers from what
                # is trained beside it.
                kernel_initializer="zeros",
                dtype="float32",
                name="linear_probe",
            )
            self.probe_loss = keras.metrics.Mean(name="probe_loss")
            self.probe_accuracy = keras.metrics.SparseCategoricalAccuracy(
                name="probe_accuracy"
            )
        if encoder.built and isinstance(encoder, keras.Model):
            self._build_on(getattr(encoder, "output_shape", None))

    def _build_on(self, representation_shape):
        """Builds what follows the encoder, as soon as its output is known."""
        if representation_shape is None or self.built:
            return
        shape = tuple(representation_shape)
        check_representations(shape)
        if not self.projection_head.built:
            self.projection_head.build(shape)
        if self.num_classes is not None and not self.linear_probe.built:
            self.linear_probe.build(shape)
        distribution.warn_of_local_batch_norm(
            self.encoder, self.projection_head
        )
        self.built = True

    def build(self, input_shape):
        if self.built:
            return
        shape = input_shape
        if isinstance(shape, dict):
            shape = shape.get(inputs.IMAGE, shape.get(inputs.VIEWS[0]))
        if self.preprocessing is not None:
            size = self.preprocessing.height, self.preprocessing.width
            shape = (shape[0], *size, shape[-1])
        # By a symbolic call: few layers of users' own build what is in them
        # without one, or have a `compute_output_shape`.
        self._represent(keras.KerasTensor(shape, "float32"), training=None)

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        loss = NTXentLoss() if loss is None else loss
        # The entropy is that of the softmax in the loss.
        if hasattr(loss, "temperature"):
            self.contrastive_entropy.temperature = loss.temperature
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config):
        # Keras asks this of a model with a `compile` of its own.
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def call(self, images, training=None):
        batch = inputs.unpack(images)
        images = batch.get(inputs.IMAGE, batch.get(inputs.VIEWS[0]))
        return self._represent(self._prepare(images), training)

    def _prepare(self, images):
        """Brings images to the views' size and to [0, 1]."""
        if self.preprocessing is None:
            return self._scale(images)
        size = self.preprocessing.height, self.preprocessing.width
        known = tuple(images.shape[1:3])
        if None in known and not keras.backend.is_keras_tensor(images):
            # As in a dataset of images of any size, and in what is exported.
            images = ops.cond(
                ops.all(ops.equal(ops.stack(ops.shape(images)[1:3]), size)),
                lambda: ops.reshape(
                    ops.cast(images, "float32"), (-1, *size, images.shape[-1])
                ),
                lambda: self.preprocessing(images),
            )
        elif known != size:
            images = self.preprocessing(images)
        return self._scale(images)

    def _scale(self, images):
        """Brings images from `value_range` to floats in [0, 1]."""
        low, high = self.value_range
        return (ops.cast(images, "float32") - low) / (high - low)

    def _represent(self, images, training):
        """The encoder, with its output checked: (B, H, W, C) to (B, F)."""
        representations = self.encoder(images, training=training)
        self._build_on(representations.shape)
        return representations

    def _views(self, batch, training):
        """Both views of every image of a batch, in `value_range`."""
        if inputs.IMAGE not in batch:
            return tuple(batch[key] for key in inputs.VIEWS)
        if self.augmentation is None:
            raise ValueError(
                "A SimCLRModel without `augmentation` needs batches of views: "
                "a dictionary with the keys 'view_1' and 'view_2'. Received "
                "images; pass `augmentation=SimCLRAugmentation(...)`."
            )
        images = batch[inputs.IMAGE]
        if training or not isinstance(self.augmentation, RandomImageLayer):
            return self.augment(images), self.augment(images)
        # Evaluation draws the same views each time, and leaves the draws of
        # the training where they are.
        return tuple(
            self.augment(images, ops.array([_EVALUATION_SEED, view]))
            for view in range(2)
        )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """What SimCLR does with a batch (Algorithm 1), on every backend.

        Args:
            x: The batch's images or views, see `inputs.unpack`.
            y: Labels or None.
            y_pred: Not used: the projections are made here.
            sample_weight: Must be None.
            training: Whether batch norm uses the batch's statistics.

        Returns:
            The contrastive loss and what the layers add to it, a scalar. Its
            gradient is that of the sum with the probe's loss.
        """
        if sample_weight is not None:
            raise ValueError(
                "SimCLRModel takes no `sample_weight`: every view is the "
                "negative of every other."
            )
        batch = inputs.unpack(x, y)
        inputs.check_negatives(batch)
        batch = self.assert_values(batch)
        views = ops.concatenate(
            self._views(batch, training), axis=0
        )  # (2N, H, W, C)
        h = self._represent(self._scale(views), training)  # (2N, F)
        z_1, z_2 = ops.split(self.projection_head(h, training=training), 2)
        loss = super().compute_loss(x=x, y=z_1, y_pred=z_2, training=training)
        compared = metrics.compare(z_1, z_2)
        self.contrastive_accuracy.update_compared(*compared)
        self.contrastive_entropy.update_compared(*compared)
        super().compute_metrics(x, z_1, z_2)  # those given to `compile`
        if self.num_classes is not None:
            loss = loss + self._probe(batch, h, training)
        return loss

    def _probe(self, batch, h, training):
        """The linear probe's share of the loss: a gradient, and the value 0."""
        if inputs.LABEL not in batch:
            raise ValueError(
                f"A SimCLRModel with num_classes={self.num_classes} trains a "
                "linear probe and needs labels. Received a batch without; "
                "pass (images, labels), or leave `num_classes` out."
            )
        labels = batch[inputs.LABEL]
        if len(labels.shape) == 2 and labels.shape[-1] == self.num_classes:
            labels = ops.argmax(labels, axis=-1)  # from one-hot
        labels = ops.reshape(labels, (-1,))
        num_images = distribution.global_batch_size(ops.shape(labels)[0])
        if training or inputs.IMAGE not in batch:
            labels = ops.concatenate([labels, labels], axis=0)  # (2N,)
            num_images = 2 * num_images
        else:
            h = self._represent(self._prepare(batch[inputs.IMAGE]), training)
        logits = self.linear_probe(ops.stop_gradient(h))
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )
        self.probe_loss.update_state(losses)
        self.probe_accuracy.update_state(labels, logits)
        # Added up over the replicas, the mean over the global batch.
        loss = ops.sum(losses) / ops.cast(num_images, losses.dtype)
        # The probe is trained beside the encoder and leaves the loss that is
        # logged the contrastive one.
        return loss - ops.stop_gradient(loss)

    @property
    def loss_tracker(self):
        """The metric that `loss` is logged from."""
        return next(m for m in self.metrics if m.name == "loss")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        # `compute_loss` has updated them; under a strategy Keras asks once
        # before it has, to build what `compile` was given.
        compiled = self._compile_metrics
        if compiled is not None and not compiled.built:
            return {}
        return self.get_metrics_result()

    def fit(self, x=None, y=None, *args, **kwargs):
        names = "batch_size", "epochs", "verbose", "callbacks"
        given = {**dict(zip((*names, "validation_split"), args)), **kwargs}
        batch_size = given.get("batch_size")
        validation_batch_size = given.get("validation_batch_size") or batch_size
        self._check_first(
            x,
            y,
            batch_size,
            given.get("validation_split", 0.0),
            validation_batch_size,
        )
        validation = given.get("validation_data")
        if validation is not None:
            self._check_first(
                *keras.utils.unpack_x_y_sample_weight(validation)[:2],
                validation_batch_size,
            )
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, *args, **kwargs):
        # `fit` has looked at what it evaluates with.
        if not kwargs.get("_use_cached_eval_dataset"):
            self._check_first(x, y, batch_size)
        return super().evaluate(x, y, batch_size, *args, **kwargs)

    def _check_first(self, x, y, batch_size, *validation):
        inputs.check_first(
            x,
            y,
            batch_size,
            self.value_range,
            self.num_classes,
            *validation,
            # Only TensorFlow's models have strategies.
            num_replicas=distribution.num_replicas(
                getattr(self, "distribute_strategy", None)
            ),
        )

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
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("encoder", "projection_head", "augmentation"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)


def _check_layer(name, layer):
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"`{name}` must be a keras.layers.Layer or a keras.Model. "
            f"Received: {name}={layer!r} of type {type(layer).__name__}."
        )


def _resolve_value_range(value_range, augmentation):
    """The range of the images, which model and augmentation agree on."""
    augmented = getattr(augmentation, "value_range", None)
    if value_range is None:
        return standardize_value_range(augmented or (0, 255))
    value_range = standardize_value_range(value_range)
    if augmented is not None and tuple(augmented) != value_range:
        raise ValueError(
            "`value_range` must be that of the augmentation. Received: "
            f"value_range={value_range}, while the augmentation has "
            f"{tuple(augmented)}."
        )
    return value_range
