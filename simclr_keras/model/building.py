"""Making a model's variables, before the first step and when it is loaded."""

import keras

from simclr_keras import distribution, keras_private
from simclr_keras.model import batch as batches
from simclr_keras.model import checks
from simclr_keras.model.tracing import trace


class BuildsAndSaves:
    """How `SimCLRModel` makes its variables, and finds them again.

    A raw subclass as encoder knows no shape of its own: the model keeps that
    of the images, and makes all variables by a step on shapes alone.
    """

    def build(self, input_shape):
        """Makes all variables.

        Args:
            input_shape: Shape (B, H, W, C) of the images, or a dictionary of
                shapes as `fit` takes one of images.
        """
        shape = input_shape
        if isinstance(shape, dict):
            shape = batches.images_of(shape)
        self._state.image_shape = (None, *tuple(shape)[1:])
        self.built = self.built or self._layers_are_built()
        if not self._has_all_but_slots():
            # By a symbolic call: few layers of users' own build what is in
            # them without one, or have a `compute_output_shape`.
            trace(self._trace_inference, self._image_symbol())

    def _trace_inference(self, images):
        h = self._encode_and_build(self._prepare(images), False)
        return self.project(h, False)

    def _image_symbol(self):
        return keras.KerasTensor(self._state.image_shape, "float32")

    def is_complete(self):
        """Whether all variables are there, the optimizer's included."""
        return self._has_all_but_slots() and (
            self.optimizer is None or self.optimizer.built
        )

    def _has_all_but_slots(self):
        if not self.built or self._state.has_new_metrics:
            return False
        # Some layers are never built: those that no step calls.
        return self._state.is_traced or self._layers_are_built()

    def _layers_are_built(self):
        # A `keras.Sequential` whose layers are called one by one never is.
        return all(
            layer.built
            for layer in keras_private.flatten_layers(self)
            if not isinstance(layer, keras.Sequential) or layer.weights
        )

    def complete(self, x, y=None):
        """Makes the variables that are missing, by a step on shapes alone.

        Args:
            x, y: Tensors, or `keras.KerasTensor`s, of a batch as `fit` takes
                one.
        """
        x, y = keras.tree.map_structure(_symbol, (x, y))
        with distribution.scope(getattr(self, "distribute_strategy", None)):
            if not self._has_all_but_slots():
                trace(self._trace_step, x, y)
                self._state.has_new_metrics = False
                self._state.is_traced = True
                self.built = True
            if self.optimizer is not None and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)

    def _trace_step(self, x, y):
        return self.compute_loss(x, y, training=False)

    @property
    def variables(self):
        # The loss's temperature, and what is counted in an evaluation, belong
        # to the state of a step as weights do.
        return [*super().variables, *self.own_variables]

    @property
    def own_variables(self):
        """Those that belong to no layer."""
        return [*self._state.variables, *getattr(self.loss, "variables", [])]

    @property
    def weights(self):
        # A temperature that is learned is restored with them, as by
        # `EarlyStopping(restore_best_weights=True)`.
        learned = [
            variable
            for variable in getattr(self.loss, "variables", [])
            if variable.trainable
        ]
        return [*super().weights, *learned]

    def get_build_config(self):
        return {"input_shape": self._state.image_shape}

    def build_from_config(self, config):
        if config["input_shape"] is not None:
            self.build(config["input_shape"])

    def export(
        self,
        filepath,
        format="tf_saved_model",
        verbose=None,
        input_signature=None,
        **kwargs,
    ):
        if self._state.image_shape is not None:
            # Keras exports by the shapes of a call.
            self.build(self._state.image_shape)
            self(self._image_symbol())
        return super().export(
            filepath,
            format=format,
            verbose=verbose,
            input_signature=input_signature,
            **kwargs,
        )

    def _complete_for(self, x, y):
        """Makes all variables before the first step, if the data says how."""
        self.before_steps()
        description = batches.describe(x, y)
        if isinstance(x, keras.utils.PyDataset) and not self.is_complete():
            description = keras.utils.unpack_x_y_sample_weight(x[0])[:2]
        if description is not None:
            batch = batches.unpack(*description)
            images = batches.images_of(batch)
            if self._state.image_shape is not None:
                before = self._state.image_shape[-1]
                checks.check_channels(self.encoder, images.shape[-1], before)
            self._state.image_shape = (None, *tuple(images.shape)[1:])
            if not self.is_complete():
                self.complete(*description)

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:  # compiled
            config = {**config, "micro_batch_size": self.micro_batch_size}
        return config

    def compile_from_config(self, config):
        # Keras asks this of a model with a `compile` of its own.
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if self._state.image_shape is not None:
            labels = None
            if self.num_classes is not None or getattr(
                self.loss, "uses_labels", False
            ):
                labels = keras.KerasTensor((None,), "int32")
            if self._makes_views():
                self.complete(self._image_symbol(), labels)
            else:
                view = self._image_symbol()
                self.complete({"view_1": view, "view_2": view}, labels)
        elif self.built:
            self.optimizer.build(self.trainable_variables)


def _symbol(part):
    if part is None or keras.backend.is_keras_tensor(part):
        return part
    dtype = keras.backend.standardize_dtype(part.dtype)
    return keras.KerasTensor((None, *tuple(part.shape)[1:]), dtype)


def build_layer(layer, input_shape):
    """Makes a layer's variables, also where its class has no `build`.

    Keras then marks it as built, with a warning, though nothing in it is.

    Args:
        layer: `keras.layers.Layer`.
        input_shape: Tuple.
    """
    if type(layer).build is keras.layers.Layer.build:
        trace(layer, keras.KerasTensor(input_shape))
    else:
        layer.build(input_shape)
