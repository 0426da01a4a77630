"""Everything that knows about replicas.

A step of `tf.distribute` runs once in every replica, on that replica's share
of the global batch. The functions here say which share that is and bring the
shares together. Outside a strategy, with one replica, and on the JAX and
PyTorch backends, where the batch a step sees is the global batch, they return
what they are given.
"""

import contextlib
import warnings

import keras
from keras import ops

from simclr_keras import keras_private, user_code

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


def num_replicas(strategy=None):
    """Number of replicas that train in step.

    Args:
        strategy: `tf.distribute.Strategy`. None is the current one.

    Returns:
        An integer.
    """
    if tf is None:
        return 1
    return (strategy or tf.distribute.get_strategy()).num_replicas_in_sync


def synchronizes(synchronized):
    """Resolves the `synchronized` argument of what normalizes by batches.

    Args:
        synchronized: None for the best the backend offers, or a boolean.

    Returns:
        Whether batch norm shares its statistics between replicas. None is True
        on TensorFlow, where `tf.distribute` would otherwise leave each replica
        its own, and False elsewhere, where a batch is the global one already.

    Raises:
        TypeError: If `synchronized` is neither None nor a boolean.
        ValueError: If it is True on a backend other than TensorFlow.
    """
    if synchronized is not None and not isinstance(synchronized, bool):
        raise TypeError(
            "`synchronized` must be None, True or False. "
            f"Received: synchronized={synchronized!r}."
        )
    backend = keras.config.backend()
    if synchronized and backend != "tensorflow":
        raise ValueError(
            "`synchronized=True` needs the TensorFlow backend. Received: "
            f"synchronized={synchronized} on the {backend} backend. Use "
            "`synchronized=None`, which is right on every backend."
        )
    return backend == "tensorflow" if synchronized is None else synchronized


def batch_sizes(batch_size):
    """The number of images of every replica.

    Args:
        batch_size: Number of images of this replica, an integer or a scalar
            integer tensor.

    Returns:
        int32 tensor (R,).

    Raises:
        ValueError: If it is not an integer on a TPU.
    """
    replica = _replica_context()
    if replica is None:
        return ops.reshape(ops.cast(batch_size, "int32"), (1,))
    if isinstance(replica.strategy, tf.distribute.TPUStrategy):
        if not isinstance(batch_size, int):
            raise ValueError(
                "TPUs need batches of a fixed size. Received a batch whose "
                "size is not known beforehand; batch the dataset with "
                "`drop_remainder=True`."
            )
        return ops.full((num_replicas(),), batch_size, dtype="int32")
    # They are asked even where this one's is fixed: in a loop of one's own,
    # each replica may have been given another one.
    place = tf.one_hot(
        replica.replica_id_in_sync_group, num_replicas(), dtype="int32"
    )
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, place * batch_size)


def sample_index(batch_size):
    """The index of each of this replica's images in the global batch.

    Args:
        batch_size: Number of images of this replica, as in `batch_sizes`.

    Returns:
        int32 tensor (batch_size,).
    """
    return ops.arange(batch_size, dtype="int32") + first_index(batch_size)


def first_index(batch_size):
    """The index of this replica's first image in the global batch.

    Args:
        batch_size: Number of images of this replica, as in `batch_sizes`.

    Returns:
        0, or an int32 scalar tensor.
    """
    replica = _replica_context()
    if replica is None:
        return 0
    replica_id = ops.cast(replica.replica_id_in_sync_group, "int32")
    before = ops.arange(num_replicas(), dtype="int32") < replica_id
    return ops.sum(ops.where(before, batch_sizes(batch_size), 0))


def global_batch_size(batch_size):
    """Number of images of all replicas together.

    Args:
        batch_size: Number of images of this replica, as in `batch_sizes`.

    Returns:
        An integer, or an int32 scalar tensor.
    """
    if _replica_context() is None:
        return batch_size
    return ops.sum(batch_sizes(batch_size))


def share_of_batch(batch_size, dtype):
    """The part of the global batch's images that this replica has.

    Args:
        batch_size: Number of images of this replica, as in `batch_sizes`.
        dtype: String, of the result.

    Returns:
        1.0, or a scalar tensor.
    """
    if _replica_context() is None:
        return 1.0
    # Half precision does not hold such numbers.
    exact = "float64" if dtype == "float64" else "float32"
    total = ops.cast(global_batch_size(batch_size), exact)
    return ops.cast(ops.cast(batch_size, exact) / total, dtype)


def all_gather(x):
    """Concatenates a tensor of every replica along the first axis.

    The gradient of the result flows back to the replica that each row came
    from, summed over all replicas.

    Args:
        x: Tensor (n, ...), n rows of this replica.

    Returns:
        Tensor (N, ...), the rows of all replicas in their order.
    """
    replica = _replica_context()
    if replica is None:
        return x
    if not isinstance(replica.strategy, tf.distribute.TPUStrategy):
        # The gather knows nothing of the shape; a loss may divide by it.
        return tf.ensure_shape(
            replica.all_gather(x, axis=0), [None, *x.shape[1:]]
        )
    # TPUs have no gather between replicas but a sum: every replica adds its
    # rows at its own place in zeros.
    place = tf.one_hot(
        replica.replica_id_in_sync_group, num_replicas(), dtype=x.dtype
    )
    place = tf.reshape(place, [-1] + [1] * len(x.shape))  # (R, 1, ...)
    rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, place * x[None])
    return tf.reshape(rows, [-1, *x.shape[1:]])


def one_share(strategy, batch):
    """The share of a batch that one replica of this process has.

    Args:
        strategy: `tf.distribute.Strategy`.
        batch: Structure of tensors, spread over its replicas.

    Returns:
        The structure, of this replica's tensors.
    """
    return keras.tree.map_structure(
        lambda x: strategy.experimental_local_results(x)[0], batch
    )


def one_spec(element_spec):
    """The `element_spec` of the share that one replica has of a dataset.

    Args:
        element_spec: Of a `tf.data.Dataset`, distributed or not.

    Returns:
        Structure of `tf.TensorSpec`.
    """

    def first(spec):
        if hasattr(spec, "shape"):
            return spec
        # A spec for each replica, in one that has no public name.
        return tf.nest.flatten(spec, expand_composites=True)[0]

    return keras.tree.map_structure(first, element_spec)


def scope(strategy):
    """The scope of a `tf.distribute.Strategy`; of None, one without effect."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def in_scope():
    """Whether this runs in a strategy's scope, outside of its replicas."""
    return tf is not None and tf.distribute.in_cross_replica_context()


def global_mean(values):
    """Returns this replica's share of the mean of values over all replicas.

    Shares add up over the replicas, as the gradients of their sum do in
    `tf.distribute`. Replicas may have different numbers of values.

    Args:
        values: Float tensor (n, ...), n rows of this replica.

    Returns:
        Scalar tensor: the sum of the values over the number of those of all
        replicas.
    """
    rows = ops.shape(values)[0]
    total = ops.cast(global_batch_size(rows), values.dtype)
    means = ops.mean(ops.reshape(values, (rows, -1)), axis=1)
    return ops.sum(means) / total


def is_multi_worker(strategy):
    """Whether several processes train in step under a `tf.distribute` one."""
    if strategy is None or not isinstance(
        strategy, tf.distribute.MultiWorkerMirroredStrategy
    ):
        return False
    return num_replicas(strategy) > len(strategy.extended.worker_devices)


def strategy_of(model):
    """The `tf.distribute` strategy that a model was made under.

    Args:
        model: `keras.Model`.

    Returns:
        A `tf.distribute.Strategy`, or None on the other backends.
    """
    return getattr(model, "distribute_strategy", None)


def is_chief(strategy=None):
    """Whether this process is the one that prints and writes files.

    Several workers of a `tf.distribute` strategy, or several processes of JAX,
    run the same code. One of them, the chief, writes for all.

    Args:
        strategy: `tf.distribute.Strategy`. None is the current one.

    Returns:
        A boolean; True where there is one process.

    Example:
        >>> from simclr_keras import distribution
        >>> if distribution.is_chief():
        ...     print("Training begins.")
        Training begins.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index() == 0
    if tf is None:
        return True
    strategy = strategy or tf.distribute.get_strategy()
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    # A cluster may name its chief; if it does not, the first worker is it.
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    chief = ("chief" if has_chief else "worker", 0)
    return (resolver.task_type, resolver.task_id) == chief


def check_fit(strategy, optimizer, steps_per_execution, jit_compile):
    """Raises a `ValueError` for what cannot be done with several replicas.

    TensorFlow's collective operations take keys from outside the step, which
    a loop inside the graph does not hand on: "You must feed a value for
    placeholder tensor" (TensorFlow 2.21). And what Keras's optimizers do every
    so many steps stands in a condition, in which replicas cannot meet.

    Args:
        strategy: `tf.distribute.Strategy`.
        optimizer: `keras.optimizers.Optimizer`.
        steps_per_execution: Integer.
        jit_compile: Boolean, whether XLA compiles the step.
    """
    if num_replicas(strategy) == 1:
        return
    is_mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    if jit_compile and is_mirrored:
        raise ValueError(
            "`jit_compile=True` does not work under a MirroredStrategy: Keras "
            "compiles the call of the replicas, not what each computes. "
            f"Received: jit_compile={jit_compile!r} with "
            f"{num_replicas(strategy)} replicas. Leave it out of `compile`; "
            "the augmentation is compiled without it."
        )
    # Under mixed_float16 the user's optimizer is within another.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    periodic = ["gradient_accumulation_steps"]
    if optimizer.use_ema:
        periodic.append("ema_overwrite_frequency")
    for name in periodic:
        if getattr(optimizer, name):
            raise ValueError(
                f"`{name}` does not work with several replicas. Received: an "
                f"optimizer with {name}={getattr(optimizer, name)!r}. Leave it "
                "out."
            )
    if steps_per_execution == 1:
        return
    multi_worker = is_multi_worker(strategy)
    ops_ = keras_private.cross_device_ops(strategy)
    if multi_worker or (is_mirrored and "Collective" in type(ops_).__name__):
        raise ValueError(
            "`steps_per_execution` must be 1 with several workers, and under a "
            "MirroredStrategy that was not given `cross_device_ops`. "
            f"Received: steps_per_execution={steps_per_execution}. "
            + (
                "Leave it out of `compile`."
                if multi_worker
                else "Leave it out of `compile`, or make the strategy with "
                "cross_device_ops=tf.distribute.ReductionToOneDevice()."
            )
        )


def any_replica(condition):
    """Whether something is so on one replica or more.

    Args:
        condition: Boolean scalar tensor.

    Returns:
        Boolean scalar tensor, the same on all replicas.
    """
    replica = _replica_context()
    if replica is None:
        return condition
    count = tf.cast(condition, "int32")
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, count) > 0


def any_worker(strategy, *conditions):
    """Whether something is so on one worker or more.

    Every worker must call this, at the same point of its program; each waits
    for the others. With one worker there is nothing to wait for.

    Args:
        strategy: `tf.distribute.Strategy`, or None.
        *conditions: Booleans, of this worker.

    Returns:
        List of booleans, the same on all workers.
    """
    if not is_multi_worker(strategy):
        return list(conditions)
    # On the host: an accelerator may still be busy with the step.
    with tf.device("CPU:0"):
        count = strategy.reduce(
            tf.distribute.ReduceOp.SUM, tf.cast(conditions, "int32"), axis=None
        )
    return [bool(each) for each in count.numpy() > 0]


def synchronize_batch_norm(layer):
    """Makes every batch norm in a layer take its statistics over all replicas.

    For encoders whose batch norm is Keras's with its default, such as those of
    `keras.applications`; to be called before the first step.

    Args:
        layer: `keras.layers.Layer`, often a `keras.Model`.

    Returns:
        The layer.

    Example:
        >>> import keras
        >>> from simclr_keras import distribution
        >>> encoder = distribution.synchronize_batch_norm(
        ...     keras.applications.MobileNetV3Small(
        ...         weights=None, include_top=False, pooling="avg"
        ...     )
        ... )
    """
    if keras.config.backend() == "tensorflow":
        for batch_norm in _local_batch_norms(layer):
            batch_norm.synchronized = True
    return layer


def warn_of_local_batch_norm(*layers):
    """Warns if batch norm in a layer would see one replica's images alone."""
    if num_replicas() == 1:
        return
    for layer in layers:
        found = _local_batch_norms(layer)
        if not found:
            continue
        warnings.warn(
            f"{len(found)} batch norm layers of {layer.name!r}, the first "
            f"{found[0].name!r}, take their statistics from one replica's "
            "images alone. That lets an encoder tell positive pairs by their "
            "replica, and leaves the replicas with different moving "
            "statistics, of which the first replica's are saved. Use "
            "simclr_keras.distribution.synchronize_batch_norm(layer), or "
            "BatchNormalization(synchronized=True).",
            stacklevel=user_code.stacklevel(),
        )


def _local_batch_norms(layer):
    return [
        each
        for each in keras_private.flatten_layers(layer)
        if isinstance(each, keras.layers.BatchNormalization)
        and not each.synchronized
    ]


def _replica_context():
    """The context of this replica, or None where there is no other one.

    Within `strategy.scope()` but outside of a replica, where shapes alone are
    looked at, there is none either.
    """
    if num_replicas() == 1:
        return None
    return tf.distribute.get_replica_context()
