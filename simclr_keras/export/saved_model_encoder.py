"""An exported encoder as a Keras layer."""

import os

import keras

from simclr_keras.encoders.image_dtype import check_image_dtype
from simclr_keras.export.parts import check_backend

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="simclr_keras")
class SavedModelEncoder(keras.layers.Layer):
    """Loads a folder written by `export_saved_model` as a trainable layer.

    Unlike `keras.layers.TFSMLayer`, it takes images of any float dtype, under
    any dtype policy, has regularization losses and endpoints, works with
    optimizers that have slots, and keeps its moving statistics when frozen.

    A `.keras` file of a model with this layer stores the weights and the
    absolute path of the folder. The folder must exist when the file is loaded,
    and `safe_mode=False` is required, since a SavedModel contains code.

    Args:
        filepath: String or `os.PathLike`, the folder.
        trainable: Whether the weights are trained. If False, batch norm uses
            its moving statistics even if `training=True`, and there are no
            regularization losses. Defaults to True.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call arguments:
        images: Tensor (B, H, W, C): floats in [0, 1], or uint8.
        training: Whether batch norm uses the batch's statistics.

    Returns:
        Representations, float32 tensor (B, F).

    Raises:
        OSError: If there is no such folder.
        ValueError: If the folder holds another kind of SavedModel.
        TypeError: If images are integers other than uint8.
        RuntimeError: If the Keras backend is not TensorFlow.

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
        check_backend("SavedModelEncoder")
        # Images keep their dtype, as in SimCLRModel.
        super().__init__(autocast=False, **kwargs)
        filepath = os.fspath(filepath)
        if "://" not in filepath:  # Leaves gs:// and the like unchanged.
            # A saved model may be loaded from another working directory.
            filepath = os.path.abspath(filepath)
        self.filepath = filepath
        self.module = tf.saved_model.load(filepath)
        if not hasattr(self.module, "regularization_losses"):
            raise ValueError(
                "`filepath` must be a folder of `export_saved_model`. "
                f"Received: filepath={filepath!r}, another kind of SavedModel; "
                "try `keras.layers.TFSMLayer`."
            )
        trained = list(self.module.trainable_variables)
        others = {id(v): v for v in self.module.state}
        for variable in trained:
            del others[id(variable)]
        # Keras variables that wrap, not copy, those of the module.
        self.exported_variables = [
            keras.Variable(
                variable,
                trainable=variable.trainable,
                dtype=variable.dtype.name,
                name=variable.name.replace("/", "_").removesuffix(":0"),
            )
            for variable in (*trained, *others.values())
        ]
        # Only now, so that it applies to the variables.
        self.trainable = trainable
        self.built = True

    def call(self, images, training=False):
        if self.trainable:  # Like Keras, which regularizes no frozen weights.
            for loss in self.module.regularization_losses:
                self.add_loss(loss())
        training = bool(training) and self.trainable
        return self.module(_to_known_dtype(images), training)

    def endpoints(self, images, training=False):
        """Returns a dictionary of the endpoints; see `export_saved_model`."""
        training = bool(training) and self.trainable
        return dict(self.module.endpoints(_to_known_dtype(images), training))

    def get_config(self):
        return {**super().get_config(), "filepath": self.filepath}

    # Raises in safe mode, exactly when Keras's own layer does.
    from_config = classmethod(keras.layers.TFSMLayer.from_config.__func__)


def _to_known_dtype(images):
    check_image_dtype(images)
    if keras.backend.standardize_dtype(images.dtype) == "uint8":
        return images
    return keras.ops.cast(images, "float32")
