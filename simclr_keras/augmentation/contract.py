"""What a model asks of an augmentation, and who can answer.

`as_augmentation` is the one place where layers that are not of this library,
and compositions, are brought under the contract.
"""

import abc
import inspect

import keras
from keras import ops

from simclr_keras import keras_private
from simclr_keras.augmentation import counter_random

NO_LEADING_CROP = (
    "To crop images while they are decoded, an augmentation must begin with a "
    "RandomResizedCrop, as SimCLRAugmentation does, or a keras.Sequential "
    "whose first layer is one of them."
)

# Keys of views lie beyond those of the places in a composition.
_FIRST_VIEW_KEY = 2**16


class Augmentation(abc.ABC):
    """Makes random views that follow from a key and an index alone.

    Every layer of `simclr_keras.augmentation` fulfils this, and so does a
    `keras.Sequential` of them once it has gone through `as_augmentation`.

    Attributes:
        jit_compile: Boolean, whether XLA may compile `apply`. A train step then
            does so by itself, which makes it several times as fast on a CPU.
            False unless a class says otherwise, as TensorFlow has operations
            that XLA lacks.
    """

    jit_compile = False

    @abc.abstractmethod
    def next_key(self):
        """The key of the next draw; the one after it gets another."""

    @abc.abstractmethod
    def key(self, number, seed=None):
        """The key of any draw, which leaves the order of draws as it is.

        Args:
            number: Integer or int32 scalar tensor: how many draws came before.
            seed: Integer. None is the augmentation's own seed, so that
                `key(n)` is what `next_key()` gives after n calls.

        Returns:
            What `apply` takes as `key`.
        """

    @abc.abstractmethod
    def apply(self, images, index=None, key=None):
        """A random view of each image.

        With an index and a key this is a function of its arguments: the same
        call gives the same views.

        Args:
            images: Tensor (B, H, W, C).
            index: int32 tensor (B,), each image's index in the global batch.
                None is the order in the batch, counted over all replicas.
            key: As `key` gives it. None is `next_key()`.

        Returns:
            Float tensor (B, H', W', C).
        """

    def evaluation(self):
        """What prepares images for inference as the views were for training.

        Returns:
            A callable from images (B, H, W, C) to floats (B, H', W', C), not
            random; None if images are used as they are.
        """
        return

    def layers_without_index(self):
        """Layers that draw in their own way, whatever the index."""
        return []

    def leading_crop(self):
        """The random crop that comes before everything else.

        What is cut out of an image before it is decoded is what this crop
        would cut out of it, see `simclr_keras.data.training_dataset`.

        Returns:
            A `RandomResizedCrop` that draws by `leading_key(key)`, where `key`
            is that of this augmentation; None if there is none.
        """
        return

    def apply_after_crop(self, images, index=None, key=None):
        """What `apply` does to images after its leading crop.

        Args:
            images: Tensor (B, H, W, C), as the leading crop gives it, in the
                range of the images.
            index, key: As in `apply`; the crop's numbers are left out, the
                others are the same.

        Returns:
            Float tensor (B, H', W', C).

        Raises:
            ValueError: If there is no leading crop.
        """
        raise ValueError(
            f"{NO_LEADING_CROP} Received: {type(self).__name__}, which has "
            "none, and images that are cropped already."
        )

    def compute_output_shape(self, input_shape):
        """The shape of the views of images of such a shape."""
        return tuple(input_shape)

    def description(self):
        """What `apply` follows from, besides its arguments.

        Returns:
            A structure that JSON can hold, equal for two augmentations if, and
            only if, they make the same views of the same images, index and
            key; None if that is not known.
        """
        return


def as_augmentation(layer):
    """Brings a layer under the contract of `Augmentation`.

    Args:
        layer: An `Augmentation`, which is returned as it is; a
            `keras.Sequential`, whose layers are brought under it one by one; or
            any other `keras.layers.Layer` from images to images.

    Returns:
        An `Augmentation`.

    Raises:
        TypeError: If it is none of these.
        ValueError: If layers of this library in a `keras.Sequential` disagree
            on the `value_range`.

    Example:
        >>> import keras, simclr_keras
        >>> from simclr_keras import augmentation
        >>> views = augmentation.as_augmentation(
        ...     keras.Sequential(
        ...         [
        ...             augmentation.RandomResizedCrop(32, 32, seed=1),
        ...             augmentation.RandomCutout(seed=1),
        ...         ]
        ...     )
        ... )
        >>> images = keras.ops.ones((4, 40, 40, 3))
        >>> tuple(views.apply(images, key=views.key(0)).shape)
        (4, 32, 32, 3)
    """
    if isinstance(layer, Augmentation):
        return layer
    if isinstance(layer, keras.Sequential):
        return _Composition(layer)
    if isinstance(layer, keras.layers.Layer):
        return _ForeignLayer(layer)
    raise TypeError(
        "An augmentation must be a keras.layers.Layer. Received: "
        f"{layer!r} of type {type(layer).__name__}."
    )


class _Composition(Augmentation):
    """The layers of a `keras.Sequential`, one after the other.

    Each draws under a key of its own place, so that two layers of one class
    with one seed draw independently.
    """

    def __init__(self, sequential):
        self.steps = []
        for layer in sequential.layers:
            step = as_augmentation(layer)
            # One in another one is as if its layers stood there themselves: a
            # place, and so a key, belongs to one layer.
            is_nested = isinstance(step, _Composition)
            self.steps += step.steps if is_nested else [step]
        ranges = {
            tuple(step.value_range)
            for step in self.steps
            if hasattr(step, "value_range")
        }
        if len(ranges) > 1:
            raise ValueError(
                "The layers of an augmentation must agree on the range of the "
                f"images. Received: {sequential.name!r} of layers with "
                f"value_range={sorted(ranges)}."
            )
        if ranges:
            (self.value_range,) = ranges

    @property
    def jit_compile(self):
        return all(step.jit_compile for step in self.steps)

    def description(self):
        steps = [step.description() for step in self.steps]
        return None if None in steps else steps

    def next_key(self):
        return self._keys([step.next_key() for step in self.steps])

    def key(self, number, seed=None):
        return self._keys([step.key(number, seed) for step in self.steps])

    def _keys(self, keys):
        return tuple(fold_key(key, place) for place, key in enumerate(keys))

    def apply(self, images, index=None, key=None):
        keys = self.next_key() if key is None else key
        for step, step_key in zip(self.steps, keys):
            images = step.apply(images, index, step_key)
        return images

    def leading_crop(self):
        return self.steps[0].leading_crop() if self.steps else None

    def apply_after_crop(self, images, index=None, key=None):
        if self.leading_crop() is None:
            return super().apply_after_crop(images, index, key)
        keys = self.next_key() if key is None else key
        images = self.steps[0].apply_after_crop(images, index, keys[0])
        for step, step_key in zip(self.steps[1:], keys[1:]):
            images = step.apply(images, index, step_key)
        return images

    def evaluation(self):
        twins = [step.evaluation() for step in self.steps]
        twins = [twin for twin in twins if twin is not None]
        return _InOrder(twins) if twins else None

    def layers_without_index(self):
        return [
            layer
            for step in self.steps
            for layer in step.layers_without_index()
        ]

    def compute_output_shape(self, input_shape):
        for step in self.steps:
            input_shape = step.compute_output_shape(input_shape)
        return tuple(input_shape)


class _ForeignLayer(Augmentation):
    """A layer that is not of this library.

    Its own draws are those of its generators. Under a key they are set to what
    follows from it, and set back after, so that evaluation repeats and leaves
    the training alone. They still depend on how the batch is cut, and in a
    strategy every replica draws the same.
    """

    def __init__(self, layer):
        self.layer = layer

    def next_key(self):
        return None

    def key(self, number, seed=None):
        number = ops.cast(number, "int32")
        return ops.stack([ops.full_like(number, seed or 0), number])

    def apply(self, images, index=None, key=None):
        if key is None:
            return self.call(images, training=True)
        states = self._generator_states()
        before = [ops.copy(ops.convert_to_tensor(state)) for state in states]
        first = 0 if index is None else index[0]
        for place, state in enumerate(states):
            folded = fold_key(fold_key(key, place + 1), first)
            # Without the sign, which unsigned numbers do not have.
            state.assign(ops.cast(folded & 0x7FFFFFFF, state.dtype))
        images = self.call(images, training=True)
        for state, value in zip(states, before):
            state.assign(value)
        return images

    def call(self, images, training):
        """The layer itself, as it was written to be called."""
        return keras_private.with_autograph(
            lambda x: self.layer(x, training=training)
        )(images)

    def _generator_states(self):
        # Public attributes tell them apart: generators' states are among a
        # layer's variables and not among its weights.
        weights = {id(weight) for weight in self.layer.weights}
        return [v for v in self.layer.variables if id(v) not in weights]

    def evaluation(self):
        # Without a `training` argument nothing tells a layer not to draw, as
        # KerasCV's always do. Keras's own without one, such as `Rescaling`,
        # do not draw.
        layer_type = type(self.layer)
        can_be_told = (
            "training" in inspect.signature(layer_type.call).parameters
        )
        if not can_be_told and not layer_type.__module__.startswith("keras."):
            return None
        return lambda images: self.call(images, training=False)

    def layers_without_index(self):
        return [self.layer]

    def compute_output_shape(self, input_shape):
        return tuple(self.layer.compute_output_shape(input_shape))


class AfterCrop(Augmentation):
    """What is left of an augmentation for images that are cropped already.

    Args:
        augmentation: `Augmentation`, whose keys and draws these are.
    """

    def __init__(self, augmentation):
        self.augmentation = augmentation

    @property
    def jit_compile(self):
        return self.augmentation.jit_compile

    def description(self):
        description = self.augmentation.description()
        return None if description is None else ["after crop", description]

    def next_key(self):
        return self.augmentation.next_key()

    def key(self, number, seed=None):
        return self.augmentation.key(number, seed)

    def apply(self, images, index=None, key=None):
        return self.augmentation.apply_after_crop(images, index, key)

    def layers_without_index(self):
        return self.augmentation.layers_without_index()

    def compute_output_shape(self, input_shape):
        return self.augmentation.compute_output_shape(input_shape)


class _InOrder:
    """Functions of images, one after the other."""

    def __init__(self, functions):
        self.functions = functions

    def __call__(self, images):
        for function in self.functions:
            images = function(images)
        return images


def fold_key(key, number):
    """Another key for every number.

    Args:
        key: As `Augmentation.key` gives it.
        number: Integer or int32 scalar tensor; 0 leaves the key as it is.

    Returns:
        A key of the same kind.
    """
    if key is None:
        return None
    if isinstance(key, tuple):  # Of a composition.
        return tuple(fold_key(each, number) for each in key)
    return counter_random.fold_in(key, number)


def leading_key(key):
    """The key of what comes first under an augmentation's key."""
    return key[0] if isinstance(key, tuple) else key


def view_key(key, view):
    """The key of a view whose layer is not that of the first view.

    Without it, another layer with the seed of the first would draw alike.

    Args:
        key: As `Augmentation.key` gives it.
        view: Integer, the view's number, counted from 0.

    Returns:
        A key of the same kind.
    """
    return fold_key(key, _FIRST_VIEW_KEY + view)
