"""The base class of the layers that draw an augmentation for each image."""

import zlib

import keras
from keras import ops

from simclr_keras import distribution, keras_private
from simclr_keras.argument_checks import check_number, pair_of_numbers
from simclr_keras.augmentation import counter_random, functional
from simclr_keras.augmentation.contract import Augmentation
from simclr_keras.augmentation.images import check_images
from simclr_keras.value_range import (
    looks_scaled,
    standardize_value_range,
    warn_of_scaled_images,
)


class RandomImageLayer(Augmentation, keras.layers.Layer):
    """A layer that changes every image of a batch by a draw of its own.

    `draw` gives the parameters, one row an image, and `transform` applies
    them, so that a draw can be kept and replayed. A subclass implements
    `parameters`, which makes them out of uniform numbers, and `transform` or
    `transform_planes`. It sets the class attribute `jit_compile = True` if all
    of its operations have an XLA form, as those of `keras.ops` do but for a
    few; a train step on TensorFlow then compiles it.

    What an image gets follows from the seed, the number of the call, and the
    image's index in the global batch alone, and is the same in eager mode, in
    a graph, under XLA and on every backend. Under `tf.distribute` the replicas
    draw what one device would.

    Args:
        value_range: Pair of numbers (low, high): the range of the images,
            before and after. Defaults to (0, 255).
        seed: Integer or None. Layers of different classes with the same seed
            draw independently; so do those of one class in a
            `keras.Sequential` that is a model's augmentation, but not when
            they are called by hand. None takes a seed from
            `keras.utils.set_random_seed`'s generator. Defaults to None.
        **kwargs: Of `keras.layers.Layer`. The `dtype` defaults to float32
            under every global policy: eight bits of mantissa are too few for
            an image. One of 16 bits is that of the result alone.

    Call arguments:
        images: Tensor (B, H, W, C) or (H, W, C), integer or float, with values
            in `value_range`.
        training: Whether to draw; otherwise the images pass unchanged.
            Defaults to True outside a model, as in Keras's image layers.
        index: int32 tensor (B,), each image's index in the global batch, for
            those who cut a batch themselves. Defaults to the order in the
            batch, counted over all replicas.
        key: int32 tensor (2,), the seed and the number of the draw, see
            `key`. Defaults to the layer's own, which moves on by one.

    Returns:
        float32 tensor of the images' rank, in `value_range`.

    Raises:
        RuntimeError: If it is called without a key in a function of a
            `tf.data.Dataset`, whose parallel calls would share the layer's
            count of draws: some would draw alike, and no run like another. Use
            `simclr_keras.data.augment`, or pass `index` and `key`.
    """

    def __init__(self, value_range=(0, 255), seed=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        # Cast by hand: autocasting would leave integers as they are.
        super().__init__(autocast=False, **kwargs)
        self.value_range = standardize_value_range(value_range)
        check_seed(seed)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._has_seen_images = False
        self.built = True  # No layer here has weights that wait for a shape.

    def draw(self, shape, index=None, key=None):
        """Draws the parameters of a batch.

        Args:
            shape: The shape (B, H, W, C) of the images, as `ops.shape` gives
                it.
            index: As in the call.
            key: Integer tensor (2,): the seed and the number of the draw.
                Defaults to the layer's own, which moves on by one.

        Returns:
            Dictionary of tensors with B rows: the arguments of `transform`.
        """
        if index is None:
            index = distribution.sample_index(shape[0])
        if key is None:
            key = self.next_key()
        return self.parameters(
            shape, lambda count: self.uniform(count, index, key)
        )

    def uniform(self, count, index, key):
        """So many numbers in [0, 1) for each image: float32 (B, count)."""
        # The stream keeps layers that were given the same key apart.
        stream = zlib.crc32(type(self).__name__.encode()) % 2**11
        return counter_random.uniform(key, index, count, stream)

    def parameters(self, shape, uniform):
        """Makes the parameters out of uniform numbers.

        Args:
            shape: The shape (B, H, W, C) of the images.
            uniform: Function that gives, for a count, that many numbers in
                [0, 1) for each image: a float32 tensor (B, count). To be
                called once.

        Returns:
            As `draw`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `parameters(shape, "
            "uniform)`."
        )

    def transform(self, images, **parameters):
        """Applies what `draw` gave to float images (B, H, W, C) in [0, 1]."""
        planes = functional.to_planes(images)
        return functional.from_planes(
            self.transform_planes(planes, **parameters)
        )

    def transform_planes(self, planes, **parameters):
        """`transform` of planes (B, H, C, W), see `functional.to_planes`."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `transform_planes(planes, "
            "...)`."
        )

    def next_key(self):
        if keras_private.in_dataset_function():
            raise RuntimeError(
                f"{type(self).__name__} was called in a function of a "
                "tf.data.Dataset without a key. Its calls run in parallel and "
                "share the layer's count of draws, so that some draw alike and "
                "no run is like another. Use simclr_keras.data.augment("
                "dataset, augmentation), pass the augmentation to "
                "SimCLRModel, or call it with `index` and `key`."
            )
        return self.seed_generator.next()

    def key(self, number, seed=None):
        own = ops.convert_to_tensor(self.seed_generator.state)
        number = ops.cast(number, "int32")
        seed = own[0] if seed is None else ops.full_like(number, seed)
        return ops.stack([ops.cast(seed, "int32"), number])

    def __call__(self, images, *args, **kwargs):
        # Before Keras converts them, whose errors would not say of what.
        check_images(images, type(self).__name__)
        return super().__call__(images, *args, **kwargs)

    def call(self, images, training=True, index=None, key=None):
        if not training:
            return ops.cast(images, self.compute_dtype)
        images = ops.convert_to_tensor(images)
        unbatched = len(images.shape) == 3
        if unbatched:
            images = images[None]
        elif len(images.shape) != 4:
            raise ValueError(
                f"{type(self).__name__} takes images (B, H, W, C) or one image "
                f"(H, W, C). Received: images.shape={tuple(images.shape)}."
            )
        self._look_at_first(images)
        images = self.apply(images, index, key)
        return images[0] if unbatched else images

    def _look_at_first(self, images):
        """Warns of floats in [0, 1] in a wider range; a model does so itself.

        Only the first images that are called with are looked at, and only
        those that have values already.
        """
        if self._has_seen_images or not looks_scaled(self.value_range):
            return
        if "float" not in keras.backend.standardize_dtype(images.dtype):
            return
        try:
            largest = float(ops.max(images))
        except (TypeError, ValueError, RuntimeError):
            return  # While a function is traced there is no number.
        self._has_seen_images = True
        if 0 < largest <= 1:
            warn_of_scaled_images(self.value_range)

    def apply(self, images, index=None, key=None):
        parameters = self.draw(ops.shape(images), index, key)
        return self.transform_in_range(images, parameters)

    def transform_in_range(self, images, parameters):
        """`transform` of images of any dtype in `value_range`."""
        low, high = self.value_range
        images = ops.cast(images, functional.arithmetic_dtype(self))
        parameters = keras.tree.map_structure(
            lambda each: functional.cast_floats(each, images.dtype), parameters
        )
        if (low, high) == (0, 1):
            images = self.transform(images, **parameters)
        else:
            images = (images - low) / (high - low)
            images = self.transform(images, **parameters)
            images = images * (high - low) + low
        return ops.cast(images, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def description(self):
        # A class of somebody else's may hold more than it says.
        module = type(self).__module__
        if not module.startswith("simclr_keras.augmentation."):
            return None
        config = self.get_config()
        # Which key comes next depends on the seed, and no view on the name.
        for name in ("name", "seed", "trainable"):
            config.pop(name, None)
        parts = {
            name: value.description()
            for name, value in vars(self).items()
            if isinstance(value, RandomImageLayer)
        }
        return [module, type(self).__name__, config, parts]

    def save_own_variables(self, store):
        # Keras leaves the state of generators out of its files; with it a
        # resumed run draws what the uninterrupted one would have drawn.
        store["seed_generator_state"] = ops.convert_to_numpy(
            self.seed_generator.state
        )

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed_generator_state"])

    def get_config(self):
        return {
            **super().get_config(),
            "value_range": self.value_range,
            "seed": self.seed,
        }


def standardize_range(name, values, low=None, high=None):
    """Returns a pair (smallest, largest), checked against limits."""
    pair = pair_of_numbers(values)
    if (
        not pair
        or not pair[0] <= pair[1]
        or (low is not None and not pair[0] >= low)
        or (high is not None and not pair[1] <= high)
    ):
        limits = "" if low is None else f", not below {low}"
        limits += "" if high is None else f", not above {high}"
        raise ValueError(
            f"`{name}` must be a pair (smallest, largest){limits}. Received: "
            f"{name}={values!r}."
        )
    return pair


def check_probability(name, value):
    """Returns a number in [0, 1]; raises for anything else."""
    return check_number(
        name, value, "be a probability in [0, 1]", lambda x: 0 <= x <= 1
    )


def check_seed(seed):
    """Raises a `ValueError` unless Keras's generators can hold a seed."""
    if isinstance(seed, bool) or (
        isinstance(seed, int) and not -(2**63) <= seed < 2**63
    ):
        raise ValueError(
            "`seed` must be None or an integer of 64 bits. Received: "
            f"seed={seed!r}."
        )
