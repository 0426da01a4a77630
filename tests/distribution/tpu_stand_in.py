"""A `tf.distribute.TPUStrategy` where there is no TPU.

TPUStrategy traces a step once for all replicas: the number of the replica is a
tensor, what is merged over the replicas is merged in the trace itself, and all
that replicas can do together is to add up. `TPUStandIn` does so too, adding up
by whatever function it is given: an operation of XLA, to compile what a
replica computes, or a sum over threads, to run replicas in step.
"""

import threading

import tensorflow as tf


class TPUStandIn(tf.distribute.TPUStrategy):
    """Some number of replicas, of which each thread sees its own.

    Args:
        num_replicas: Number of replicas.
        add_up: Function from a list of tensors of this replica to the list of
            their sums over the replicas.
    """

    def __init__(self, num_replicas, add_up):
        # Past the constructor of TPUStrategy, which looks for a TPU.
        tf.distribute.Strategy.__init__(
            self, _Extended(self, num_replicas, add_up)
        )

    def run_one(self, replica_id, function, *args):
        """Runs a function in the context of one replica."""
        with tf.distribute.ReplicaContext(self, replica_id):
            return function(*args)


class _Extended(tf.compat.v1.distribute.StrategyExtended):
    """What a strategy of variables without copies needs."""

    def __init__(self, strategy, num_replicas, add_up):
        super().__init__(strategy)
        self._num_replicas = num_replicas
        self._add_up = add_up
        self._retrace_functions_for_each_device = False

    @property
    def _num_replicas_in_sync(self):
        return self._num_replicas

    def _batch_reduce_to(self, reduce_op, pairs, options):
        if reduce_op != tf.distribute.ReduceOp.SUM:
            raise NotImplementedError(reduce_op)
        return self._add_up([value for value, _ in pairs])

    def _create_variable(self, next_creator, **kwargs):
        return next_creator(**kwargs)

    def _update(self, var, fn, args, kwargs, group):
        result = fn(var, *args, **kwargs)
        return result if group else (result,)

    def _validate_colocate_with_variable(self, colocate_with_variable):
        pass

    def _get_local_replica_id(self, replica_id_in_sync_group):
        return replica_id_in_sync_group

    def _local_results(self, value):
        return (value,)

    def value_container(self, value):
        return value


class Lockstep:
    """Runs replicas in threads that wait for each other at every sum.

    Args:
        num_replicas: Number of threads.
    """

    def __init__(self, num_replicas):
        self.strategy = TPUStandIn(num_replicas, self._add_up)
        self._shares = [None] * num_replicas
        # In a merge there is no replica to ask for its number.
        self._thread = threading.local()
        self._barrier = threading.Barrier(num_replicas, timeout=120)

    def _add_up(self, values):
        self._shares[self._thread.replica_id] = values
        self._barrier.wait()
        sums = [tf.add_n(list(shares)) for shares in zip(*self._shares)]
        self._barrier.wait()
        return sums

    def run(self, function):
        """Runs `function(replica_id)` in every replica, eagerly.

        Returns:
            The list of what they return.
        """
        results, errors = [None] * len(self._shares), []

        def run_thread(replica_id):
            self._thread.replica_id = replica_id
            try:
                results[replica_id] = self.strategy.run_one(
                    replica_id, function, replica_id
                )
            except Exception as error:
                errors.append(error)
                self._barrier.abort()

        threads = [
            threading.Thread(target=run_thread, args=(i,))
            for i in range(len(results))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results
