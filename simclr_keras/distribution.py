"""Everything that knows about replicas.

A step of `tf.distribute` runs once in every replica, on that replica's share
of the global batch. The functions here say which share that is and bring the
shares together. Outside a strategy, with one replica, and on the JAX and
PyTorch backends, where the batch a step sees is the global batch, they return
what they are given.
"""

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


def num_replicas():
    """Number of replicas that train in step under the current strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync if tf else 1


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


def sample_index(batch_size):
    """The index of each of this replica's images in the global batch.

    Args:
        batch_size: Number of images of this replica, an integer or a scalar
            integer tensor.

    Returns:
        int32 tensor (batch_size,).
    """
    index = ops.arange(batch_size, dtype="int32")
    replica = _replica_context()
    if replica is None:
        return index
    replica_id = ops.cast(replica.replica_id_in_sync_group, "int32")
    if isinstance(batch_size, int):
        return index + replica_id * batch_size
    # A ragged last batch: the replicas before this one may hold more.
    sizes = replica.all_gather(ops.reshape(batch_size, (1,)), axis=0)
    before = ops.arange(ops.shape(sizes)[0], dtype="int32") < replica_id
    return index + ops.sum(ops.where(before, sizes, 0))


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
        return replica.all_gather(x, axis=0)
    # TPUs have no gather between replicas but a sum: every replica adds its
    # rows at its own place in zeros.
    place = tf.one_hot(
        replica.replica_id_in_sync_group, num_replicas(), dtype=x.dtype
    )
    place = tf.reshape(place, [-1] + [1] * len(x.shape))  # (R, 1, ...)
    rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, place * x[None])
    return tf.reshape(rows, [-1, *x.shape[1:]])


def scale_loss(loss):
    """Divides a mean over this replica's images by the number of replicas.

    The optimizer adds gradients up over the replicas; with this the sum is the
    gradient of the mean over the global batch. `keras.losses.Loss` does it by
    itself.
    """
    return loss / num_replicas() if num_replicas() > 1 else loss


def unscale_loss(loss):
    """Undoes `scale_loss`: the mean over this replica's images, for logs."""
    return loss * num_replicas() if num_replicas() > 1 else loss


def _replica_context():
    """The context of this replica, or None where there is no other one."""
    if num_replicas() == 1:
        return None
    return tf.distribute.get_replica_context()
