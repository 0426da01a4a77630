"""What each function of `distribution` gives in a replica, for the tests.

python tests/distribution/functions.py OUTPUT
"""

import json
import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from simclr_keras import distribution
from tests.distribution.results import message

# Images of the replicas: not alike, and one has a single image.
SIZES = (2, 4, 1)
# Two replicas that together have more images than float16 has numbers.
MANY = (49152, 16384, 0)


def of_replicas(strategy, function, *args):
    """What a function returns in each replica, as lists."""
    found = {}

    def replica(*args):
        context = tf.distribute.get_replica_context()
        found[int(context.replica_id_in_sync_group)] = function(*args)

    strategy.run(replica, args=args)
    return keras.tree.map_structure(
        lambda x: x.numpy().tolist() if tf.is_tensor(x) else x,
        [found[i] for i in range(strategy.num_replicas_in_sync)],
    )


def spread(strategy, values):
    """A value of each replica."""
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )


def shares(strategy):
    """Of sizes that are tensors, and of those that are fixed."""

    def function(n):
        return {
            "num_replicas": distribution.num_replicas(),
            "batch_sizes": distribution.batch_sizes(n),
            "sample_index": distribution.sample_index(n),
            "first_index": distribution.first_index(n),
            "global_batch_size": distribution.global_batch_size(n),
            "in_scope": distribution.in_scope(),
        }

    sizes = spread(strategy, [tf.constant(n) for n in SIZES])
    return {
        "tensors": of_replicas(strategy, function, sizes),
        "fixed": of_replicas(strategy, function, 3),
    }


def shares_of_batch(strategy):
    def function(n):
        found = {}
        for dtype in ("float16", "bfloat16", "float32", "float64"):
            share = distribution.share_of_batch(n, dtype)
            # JSON has no other numbers.
            found[dtype] = (share.dtype.name, tf.cast(share, "float64"))
        return found

    return {
        name: of_replicas(
            strategy,
            function,
            spread(strategy, [tf.constant(n) for n in sizes]),
        )
        for name, sizes in {"sizes": SIZES, "many": MANY}.items()
    }


def rows():
    """Three numbers in each row, of which none are alike, by replica."""
    total = sum(SIZES)
    return tf.split(tf.reshape(tf.range(3.0 * total), (total, 3)), SIZES)


def gather(strategy):
    """What is gathered, its static shape, and gradients of weighted sums."""
    shapes = []

    def function(x):
        context = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            tape.watch(x)
            gathered = distribution.all_gather(x)
            weight = tf.cast(context.replica_id_in_sync_group + 1, x.dtype)
            value = weight * tf.reduce_sum(gathered**2)
        shapes.append(gathered.shape.as_list())
        return gathered, tape.gradient(value, x)

    # In a graph, with a dataset's unknown number of rows.
    spec = [tf.TensorSpec((None, 3))] * len(SIZES)
    step = tf.function(
        lambda *x: strategy.run(function, args=(spread(strategy, x),)),
        input_signature=spec,
    )
    gathered, gradient = step(*rows())
    return {
        "static": shapes,
        **{
            name: [
                x.numpy().tolist()
                for x in strategy.experimental_local_results(value)
            ]
            for name, value in (("rows", gathered), ("gradient", gradient))
        },
    }


def any_replica(strategy):
    return {
        str(case): of_replicas(
            strategy,
            distribution.any_replica,
            spread(strategy, [tf.constant(each) for each in case]),
        )
        for case in ((False,) * 3, (False, True, False), (True, False, True))
    }


def checks(strategy):
    """What `check_fit` says, by strategy and what is asked of it."""
    copying = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    ema = {"use_ema": True, "ema_overwrite_frequency": 2}
    half = keras.optimizers.LossScaleOptimizer
    optimizers = {
        "plain": keras.optimizers.SGD(),
        "ema": keras.optimizers.SGD(use_ema=True),
        "ema_overwrite_frequency": keras.optimizers.SGD(**ema),
        # Without `use_ema` it is never done.
        "frequency_alone": keras.optimizers.SGD(ema_overwrite_frequency=2),
        "gradient_accumulation_steps": keras.optimizers.SGD(
            gradient_accumulation_steps=2
        ),
        "inner_ema_overwrite_frequency": half(keras.optimizers.SGD(**ema)),
    }
    strategies = {
        "one": tf.distribute.get_strategy(),
        "collective": strategy,
        "copying": copying,
    }
    return {
        kind: {
            **{
                name: message(
                    lambda s=each, o=optimizer: distribution.check_fit(
                        s, o, 1, False
                    )
                )
                for name, optimizer in optimizers.items()
            },
            "jit_compile": message(
                lambda s=each: distribution.check_fit(
                    s, optimizers["plain"], 1, True
                )
            ),
            "steps_per_execution": message(
                lambda s=each: distribution.check_fit(
                    s, optimizers["plain"], 2, False
                )
            ),
        }
        for kind, each in strategies.items()
    }


def local_batch_norms():
    """How often layers are warned about, within a scope."""
    layers = {
        "local": [keras.layers.BatchNormalization(name="mine")],
        "synchronized": [keras.layers.BatchNormalization(synchronized=True)],
        "none": [keras.layers.Dense(1)],
        "second": [
            keras.layers.Dense(1),
            keras.Sequential(
                [
                    keras.layers.BatchNormalization(name="first"),
                    keras.layers.BatchNormalization(),
                ],
                name="both",
            ),
        ],
    }
    mended = keras.Sequential([keras.layers.BatchNormalization()])
    layers["mended"] = [distribution.synchronize_batch_norm(mended)]
    found = {}
    for name, each in layers.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            distribution.warn_of_local_batch_norm(*each)
        found[name] = [[str(w.message), w.filename] for w in caught]
    return found


def ask_workers():
    """What two workers are told that each asks something else."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    is_chief = distribution.is_chief(strategy)
    return {
        "is_chief": is_chief,
        "is_multi_worker": distribution.is_multi_worker(strategy),
        "any_worker": distribution.any_worker(
            strategy, is_chief, not is_chief, True, False
        ),
    }


def main():
    if "TF_CONFIG" in os.environ:
        with open(sys.argv[1], "w") as file:
            json.dump(ask_workers(), file)
        return
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * len(SIZES),
    )
    strategy = tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(len(SIZES))]
    )
    dataset = tf.data.Dataset.from_tensor_slices(
        {"image": tf.zeros((6, 4, 4, 1)), "label": tf.range(6)}
    )
    distributed = strategy.experimental_distribute_dataset(dataset.batch(6))
    found = {
        "in_scope": [distribution.in_scope()],
        "warnings": {"outside": local_batch_norms()},
        "shares": shares(strategy),
        "shares_of_batch": shares_of_batch(strategy),
        "gather": gather(strategy),
        "means": of_replicas(
            strategy, distribution.global_mean, spread(strategy, rows())
        ),
        "any_replica": any_replica(strategy),
        "any_worker": distribution.any_worker(strategy, True, False),
        "is_chief": distribution.is_chief(strategy),
        "checks": checks(strategy),
        "one_share": distribution.one_share(
            strategy, next(iter(distributed))["label"]
        )
        .numpy()
        .tolist(),
        "one_spec": [
            {
                name: [spec.shape.as_list(), spec.dtype.name]
                for name, spec in distribution.one_spec(
                    each.element_spec
                ).items()
            }
            for each in (distributed, dataset.batch(6))
        ],
    }
    with distribution.scope(strategy):
        model = keras.Sequential([keras.layers.Dense(1)])
        found["strategy_of"] = distribution.strategy_of(model) is strategy
        found["in_scope"].append(distribution.in_scope())
        found["warnings"]["inside"] = local_batch_norms()
        found["in_a_scope"] = {
            "num_replicas": distribution.num_replicas(),
            # Where shapes alone are looked at there are no other replicas.
            "sample_index": distribution.sample_index(3).numpy().tolist(),
            "share": distribution.share_of_batch(3, "float32"),
        }
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
