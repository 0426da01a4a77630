"""The keys by which a model draws its views, for those drawn elsewhere."""

import contextlib

import keras
import tensorflow as tf

from simclr_keras.augmentation.contract import as_augmentation, view_key


class ViewKeys:
    """What `SimCLRModel.augment` draws each view of a step by.

    Args:
        name: String, the argument that the augmentation was given as.
        augmentation: Layer for two views, or a list with a layer for each of
            two views or more.

    Attributes:
        augmentations: Tuple of an `Augmentation` for each view.

    Raises:
        TypeError: If `augmentation` is not a layer.
        ValueError: If it is a list of one, or of layers that share a layer.
    """

    def __init__(self, name, augmentation):
        if isinstance(augmentation, (list, tuple)):
            if len(augmentation) < 2:
                raise ValueError(
                    f"`{name}` must be a layer, or a list with a layer "
                    "for each of two views or more. Received: a list of "
                    f"{len(augmentation)}."
                )
            self._layers = tuple(augmentation)
            self.augmentations = tuple(map(as_augmentation, augmentation))
            _check_nothing_shared(name, self._layers)
        else:
            self._layers = (augmentation,) * 2
            self.augmentations = (as_augmentation(augmentation),) * 2
        # Seeds, above all. As constants, since parallel calls would share a
        # variable, and it may be on a device that `tf.data` cannot reach.
        self._state = {
            id(variable): (variable, keras.ops.convert_to_numpy(variable))
            for layer in self._layers
            for variable in getattr(layer, "variables", ())
        }

    @property
    def num_views(self):
        return len(self.augmentations)

    @contextlib.contextmanager
    def constant_state(self):
        """A context for keys and draws in a function of `tf.data`."""
        state = [(v, tf.constant(value)) for v, value in self._state.values()]
        with keras.StatelessScope(state_mapping=state):
            yield

    def key(self, view, step):
        """The key of a view, an integer, in a step, an integer tensor ()."""
        layer, augmentation = self._layers[view], self.augmentations[view]
        per_step = sum(each is layer for each in self._layers)
        before = sum(each is layer for each in self._layers[:view])
        key = augmentation.key(tf.cast(per_step * step + before, "int32"))
        if augmentation is not self.augmentations[0]:
            key = view_key(key, view)
        return key


def check_backend(what):
    """Raises a `RuntimeError` unless Keras runs on TensorFlow."""
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"{what} needs Keras on TensorFlow, where `tf.data` runs. "
            f"Received: the {keras.config.backend()} backend. Pass the "
            "augmentation to `SimCLRModel`."
        )


def _check_nothing_shared(name, layers):
    """Refuses two layers that count the draws of one generator together."""
    owners = {}
    for layer in layers:
        for variable in layer.variables:
            owner = owners.setdefault(id(variable), layer)
            if owner is not layer:
                raise ValueError(
                    f"The layers in `{name}` must share no random layer: "
                    "a step draws from it more than once, which cannot be "
                    "counted here. Received: "
                    f"{owner.name!r} and {layer.name!r}, which share "
                    f"{variable.path!r}. Make one layer for each of them."
                )
