"""An exported encoder as a layer."""

import os

import keras


@keras.saving.register_keras_serializable(package="simclr_keras")
class SavedModelEncoder(keras.layers.TFSMLayer):
    """A folder of `export_saved_model`, as a layer that can be trained.

    What it adds to `keras.layers.TFSMLayer`: the names of the calls, images of
    every dtype under every dtype policy, regularization losses, endpoints,
    optimizers with slots, and that a frozen layer keeps its moving statistics.

    A `.keras` file of a model with this layer holds the weights, and the
    absolute path: the folder must be there when the file is loaded, and
    `safe_mode=False` is needed, since a SavedModel holds code.

    Args:
        filepath: String or `os.PathLike`: the folder.
        trainable: Whether the weights are trained. If not, batch norm uses its
            moving statistics whatever `training` says, and there are no
            regularization losses. Defaults to True.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call arguments:
        images: Tensor (B, H, W, C): floats in [0, 1], or uint8.
        training: Whether batch norm uses the batch's statistics.

    Returns:
        Representations, float32 tensor (B, F).

    Raises:
        ValueError: If the folder holds no such model.
        NotImplementedError: If Keras does not run on TensorFlow.

    Example:
        >>> import os, tempfile
        >>> import keras, simclr_keras
        >>> encoder = simclr_keras.encoders.ResNet18(
        ...     width_multiplier=1 / 16, stem="cifar"
        ... )
        >>> path = os.path.join(tempfile.mkdtemp(), "hub_module")
        >>> path = simclr_keras.export_saved_model(encoder, path)
        >>> classifier = keras.Sequential(
        ...     [
        ...         keras.Input((32, 32, 3)),
        ...         simclr_keras.export.SavedModelEncoder(path),
        ...         keras.layers.Dense(10),
        ...     ]
        ... )
        >>> classifier.output_shape
        (None, 10)
    """

    def __init__(self, filepath, trainable=True, **kwargs):
        filepath = os.fspath(filepath)
        if "://" not in filepath:  # gs:// and the like stand for themselves.
            # A file of the layer may be loaded in another working directory.
            filepath = os.path.abspath(filepath)
        super().__init__(
            filepath,
            "serve",
            "train",
            trainable=trainable,
            **kwargs,
        )
        self.autocast = False  # Images keep their dtype, as in SimCLRModel.

    def _add_existing_weight(self, weight):
        # As in Keras 3.15, which keeps the ":0" of TensorFlow's names: an
        # optimizer cannot name its slots after them.
        self._track_variable(
            keras.Variable(
                weight,
                trainable=weight.trainable,
                dtype=weight.dtype,
                shape=weight.shape,
                name=weight.name.replace("/", "_").removesuffix(":0"),
            )
        )

    def call(self, images, training=False):
        images = _to_known_dtype(images)
        if self.trainable:  # As Keras's layers, which regularize no others.
            for loss in self._reloaded_obj.regularization_losses:
                self.add_loss(loss())
        return super().call(images, training=bool(training) and self.trainable)

    def endpoints(self, images, training=False):
        """Every endpoint by its name, as `export_saved_model` lists them."""
        return dict(
            self._reloaded_obj.endpoints(
                _to_known_dtype(images), bool(training) and self.trainable
            )
        )

    def get_config(self):
        config = super().get_config()
        # They are settled here.
        for name in ("call_endpoint", "call_training_endpoint"):
            del config[name]
        return config


def _to_known_dtype(images):
    if keras.backend.standardize_dtype(images.dtype) == "uint8":
        return images
    return keras.ops.cast(images, "float32")
