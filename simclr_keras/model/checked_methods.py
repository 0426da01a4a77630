"""Keras's methods, each with the checks that it needs beforehand."""

import math

import keras

from simclr_keras import distribution
from simclr_keras.keras_private import arrays_for_steps
from simclr_keras.losses import ContrastiveLoss, NTXentLoss
from simclr_keras.model import batch as batches
from simclr_keras.model import checks
from simclr_keras.model.batch import IMAGE, LABEL
from simclr_keras.model.value_watch import TellOfValues
from simclr_keras.value_range import check_dtype


class CheckedMethods:
    """`compile`, `fit` and the like, with Keras's signatures."""

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        micro_batch_size=None,
    ):
        """Configures the model for training, as `keras.Model.compile` does.

        Args:
            optimizer, metrics, run_eagerly, steps_per_execution, jit_compile,
                auto_scale_loss: As Keras's.
            loss: Loss of two projections. None is `NTXentLoss()`.
            loss_weights, weighted_metrics: Must be None.
            micro_batch_size: Positive integer, how many images of a batch (of
                each replica's, under `tf.distribute`) pass through the
                encoder at a time while it is trained. Loss and gradient are
                those of the whole batch, for the memory of a micro-batch and
                the time of one more forward pass. What looks at several images
                sees a micro-batch: batch norm, whose moving statistics still
                move once a step, and dropout. None passes the batch as a
                whole. Defaults to None.
        """
        checks.check_micro_batch_size(micro_batch_size)
        if micro_batch_size is not None and self._overrides("compute_loss"):
            raise ValueError(
                "`micro_batch_size` takes the step apart, which a model with a "
                "`compute_loss` of its own does not let it do. Received: "
                f"micro_batch_size={micro_batch_size!r} for "
                f"{type(self).__name__}. Override `make_views`, `encode`, "
                "`project` or `contrastive_loss` instead."
            )
        self.micro_batch_size = micro_batch_size
        loss = NTXentLoss() if loss is None else loss
        checks.check_loss(loss)
        checks.check_metrics(metrics, self._own_metric_names())
        for name, value in (
            ("loss_weights", loss_weights),
            ("weighted_metrics", weighted_metrics),
        ):
            if value is not None:
                raise ValueError(
                    f"SimCLRModel takes no `{name}`: it has one loss, without "
                    f"weights of images. Received: {name}={value!r}."
                )
        if isinstance(loss, ContrastiveLoss):
            with distribution.scope(distribution.strategy_of(self)):
                loss.build()
        self.may_compile = jit_compile is not False
        self._state.compiled.clear()
        self._state.has_new_metrics = metrics not in (None, [], {})
        super().compile(
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        checks.warn_of_loss_scale(
            self.optimizer, (self.encoder, self.projection_head)
        )
        checks.warn_of_fast_temperature(self.optimizer, loss)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        checks.check_is_compiled(self)
        checks.check_weights(sample_weight, class_weight)
        validation_split = validation_split or 0.0
        self._check_data(
            x,
            y,
            batch_size,
            steps_per_epoch,
            epochs - initial_epoch,
            validation_split,
            validation_batch_size,
        )
        if validation_data is not None:
            *data, weight = keras.utils.unpack_x_y_sample_weight(
                validation_data
            )
            checks.check_weights(weight)
            self._check_data(
                *data,
                validation_batch_size or batch_size,
                validation_steps,
                name="validation_data",
            )
            validation_data = arrays_for_steps(
                *data,
                batch_size=validation_batch_size or batch_size,
                steps=validation_steps,
            )
        self._complete_for(x, y)
        # Keras warns of a dataset that it does not shuffle, as if that were
        # not done already.
        shuffle = False if hasattr(x, "element_spec") else shuffle
        if not validation_split:
            x, y = arrays_for_steps(
                x,
                y,
                batch_size=batch_size,
                shuffle=shuffle,
                steps=steps_per_epoch,
            )
        with self._watch_values():
            return super().fit(
                x,
                y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=self._with_own(callbacks),
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size,
                validation_freq=validation_freq,
            )

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        checks.check_is_compiled(self)
        checks.check_weights(sample_weight)
        # With these, `fit` asks for what it has checked already.
        if not kwargs:
            self._check_data(x, y, batch_size, steps)
            self._complete_for(x, y)
            callbacks = self._with_own(callbacks)
            x, y = arrays_for_steps(x, y, batch_size=batch_size, steps=steps)
        self._state.restart()
        with self._watch_values():
            return super().evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **kwargs,
            )

    def predict(
        self, x, batch_size=None, verbose="auto", steps=None, callbacks=None
    ):
        checks.check_is_there(x)
        checks.check_batch_sizes(batch_size=batch_size)
        description = batches.describe(x)
        if description is not None:
            images = batches.images_of(batches.unpack(description[0]))
            check_dtype(images.dtype, self.value_range)
            if not hasattr(x, "element_spec"):
                images = batches.images_of(batches.unpack(x))
                self._check_arrays({IMAGE: images})
        x, _ = arrays_for_steps(x, batch_size=batch_size, steps=steps)
        with self._watch_values():
            return super().predict(
                x,
                batch_size=batch_size,
                verbose=verbose,
                steps=steps,
                callbacks=self._with_own(callbacks),
            )

    def train_on_batch(
        self,
        x,
        y=None,
        sample_weight=None,
        class_weight=None,
        return_dict=False,
    ):
        checks.check_weights(sample_weight, class_weight)
        with self._watch_values():
            logs = super().train_on_batch(x, y, return_dict=return_dict)
            self.tell_of_values()
        return logs

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        checks.check_weights(sample_weight)
        self._state.restart()
        with self._watch_values():
            logs = super().test_on_batch(x, y, return_dict=return_dict)
            self.tell_of_values()
        return logs

    def predict_on_batch(self, x):
        with self._watch_values():
            representations = super().predict_on_batch(x)
            self.tell_of_values()
        return representations

    def _watch_values(self):
        self.sync_state()
        return self._state.watch.run()

    def tell_of_values(self):
        """Raises or warns of the values that the steps so far have seen."""
        self.sync_state()
        self._state.watch.tell()

    def _own_metric_names(self):
        names = ["loss", "contrastive_accuracy", "contrastive_entropy"]
        if self.num_classes is not None:
            names += ["probe_loss", "probe_accuracy"]
        return names

    def _with_own(self, callbacks):
        """The callbacks with that which tells of values, and directions."""
        is_list = isinstance(callbacks, keras.callbacks.CallbackList)
        params = callbacks.params if is_list else None
        callbacks = [
            each
            for each in keras.tree.flatten(
                callbacks.callbacks if is_list else callbacks
            )
            if each is not None
        ]
        directions = {
            metric.name: metric.direction
            for metric in self.metrics
            if hasattr(metric, "direction")
        }
        directions.update(probe_accuracy="max", probe_loss="min")
        for each in callbacks:
            name = str(getattr(each, "monitor", "")).removeprefix("val_")
            if getattr(each, "mode", None) == "auto" and name in directions:
                each.mode = directions[name]
        # First, so that what follows saves nothing that is refused.
        callbacks = [TellOfValues(), *callbacks]
        if is_list:
            return keras.callbacks.CallbackList(
                callbacks, model=self, **(params or {})
            )
        return callbacks

    def _check_data(
        self,
        x,
        y,
        batch_size=None,
        steps=None,
        num_epochs=1,
        validation_split=0.0,
        validation_batch_size=None,
        name="x",
    ):
        """Refuses what can be told without reading a dataset."""
        checks.check_is_there(x)
        checks.check_batch_sizes(
            batch_size=batch_size, validation_batch_size=validation_batch_size
        )
        description = batches.describe(x, y)
        if description is None:
            return
        batch = batches.unpack(*description)
        checks.check_description(batch, self.value_range, self.num_classes)
        if hasattr(x, "element_spec"):
            return
        arrays = batches.unpack(x, y)
        count = batches.images_of(arrays).shape[0]
        if LABEL in arrays:
            checks.check_num_labels(arrays[LABEL].shape, count)
        num_train = int(count * (1 - validation_split))
        if batch_size is None and steps:
            batch_size = math.ceil(num_train / steps)  # As Keras does.
        for part, size, num_steps, part_name in (
            (num_train, batch_size, steps and steps * num_epochs, name),
            (
                count - num_train,
                validation_batch_size or batch_size,
                None,
                "validation_split",
            ),
        ):
            checks.check_remainder(
                part,
                size or 32,
                distribution.num_replicas(distribution.strategy_of(self)),
                num_steps,
                part_name,
            )
        self._check_arrays(arrays)

    def _check_arrays(self, batch):
        batch = self.without_unused_labels(batch)
        if checks.check_arrays(batch, self.value_range, self.num_classes):
            self._state.watch.warn_of_scaled_images()
