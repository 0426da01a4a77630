"""What happens at the edges of a strategy, saved for the tests.

python tests/distribution/edges.py OUTPUT
"""

import json
import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import simclr_keras
from tests.distribution.results import message

BATCH_SIZE = 8
# Policies, and what the probe is trained on.
RAGGED = (("float64", "views"), ("float32", "views"), ("float32", "images"))


def make_encoder(synchronized=True):
    # Keras adds no losses of other dtypes to its own float32 one.
    is_double = keras.config.dtype_policy().name == "float64"
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(
                4,
                3,
                use_bias=False,
                kernel_regularizer=None if is_double else "l2",
            ),
            keras.layers.BatchNormalization(synchronized=synchronized),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def make_model(
    strategy,
    optimizer=None,
    num_classes=None,
    probe_on="views",
    **compile_arguments,
):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = simclr_keras.SimCLRModel(
            make_encoder(),
            simclr_keras.ProjectionHead(4),
            augmentation=simclr_keras.SimCLRAugmentation(8, 8, seed=3),
            num_classes=num_classes,
            probe_on=probe_on,
        )
        model.compile(
            optimizer or keras.optimizers.SGD(0.01),
            loss=simclr_keras.NTXentLoss(
                0.5, dtype=keras.config.dtype_policy().name
            ),
            **compile_arguments,
        )
    return model


def ragged(strategy, count, policy, probe_on):
    """Logs and weights of an epoch whose last batch is short."""
    keras.config.set_dtype_policy(policy)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 8, 8, 1)).astype("uint8")
    labels = rng.integers(0, 3, count)
    model = make_model(strategy, num_classes=3, probe_on=probe_on)
    history = model.fit(
        images, labels, batch_size=BATCH_SIZE, shuffle=False, verbose=0
    ).history
    evaluation = model.evaluate(
        images, labels, batch_size=BATCH_SIZE, verbose=0, return_dict=True
    )
    keras.config.set_dtype_policy("float32")
    return {
        **{f"fit_{k}": v[-1] for k, v in history.items()},
        **{f"evaluate_{k}": v for k, v in evaluation.items()},
    }, [w.numpy() for w in model.weights]


class Distance(keras.losses.Loss):
    def call(self, z_1, z_2):
        return keras.ops.sum((z_1 - z_2) ** 2, axis=-1)


SCALAR = {
    "mean": Distance(),
    "sum": Distance(reduction="sum"),
    "function": lambda z_1, z_2: keras.ops.mean((z_1 - z_2) ** 2),
}


def scalar_loss(strategy, loss, count):
    """What `evaluate` gives, and the sum of weights after a `fit`."""
    views = np.random.default_rng(0).random((2, count, 8, 8, 1), "float32")
    views = {"view_1": views[0], "view_2": views[1]}
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = simclr_keras.SimCLRModel(
            keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]),
            simclr_keras.ProjectionHead(4, kind="linear"),
            value_range=(0, 1),
        )
        model.compile(keras.optimizers.SGD(0.01), loss)
    arguments = {"batch_size": BATCH_SIZE, "verbose": 0}
    model.fit(views, shuffle=False, **arguments)
    logs = model.evaluate(views, return_dict=True, **arguments)
    weights = [np.abs(w.numpy()).sum() for w in model.trainable_weights]
    return [logs["loss"], float(sum(weights))]


def overflow(strategy):
    """A step of mixed_float16 that overflows on the second replica alone.

    Returns:
        The loss scale before and after it, and whether all weights stayed.
    """
    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        model = simclr_keras.SimCLRModel(
            keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    keras.layers.Flatten(),
                    # The gradient with respect to the bias grows as the
                    # projections shrink.
                    keras.layers.Dense(4),
                ]
            ),
            simclr_keras.ProjectionHead(4, kind="none"),
            value_range=(0, 1),
        )
        model.compile(
            keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.1), initial_scale=2.0**8
            )
        )
    views = np.random.default_rng(0).random((2, 8, 8, 8, 1)).astype("float32")
    views[:, 4:] *= 1e-4
    model.build((None, 8, 8, 1))
    model.optimizer.build(model.trainable_variables)
    keras.config.set_dtype_policy("float32")
    before = [w.numpy() for w in model.trainable_weights]
    scales = [float(model.optimizer.dynamic_scale.numpy())]
    model.fit(
        {"view_1": views[0], "view_2": views[1]},
        batch_size=8,
        shuffle=False,
        verbose=0,
    )
    scales.append(float(model.optimizer.dynamic_scale.numpy()))
    return {
        "scales": scales,
        "stayed": all(
            np.array_equal(a, b.numpy())
            for a, b in zip(before, model.trainable_weights)
        ),
    }


class Overflow(keras.layers.Layer):
    """What a network does in a step that overflows, on one replica."""

    def call(self, x):
        return tf.where(tf.reduce_max(x) > 0.95, x * np.inf, x)


def left_out(strategy):
    """Steps one of which overflows on the second replica alone.

    Returns:
        What is logged and what the statistics of each replica are, with that
        step and without it.
    """
    views = 0.9 * np.random.default_rng(0).random((2, 24, 8, 8, 1), "float32")
    found = []
    for is_there in (True, False):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            # Each replica has statistics of its own, so that one alone is NaN.
            norm = keras.layers.BatchNormalization()
            layers = [keras.Input((8, 8, 1)), Overflow(), norm]
            model = simclr_keras.SimCLRModel(
                keras.Sequential([*layers, keras.layers.Flatten()]),
                simclr_keras.ProjectionHead(4),
                value_range=(0, 1),
            )
            model.compile(
                keras.optimizers.LossScaleOptimizer(
                    keras.optimizers.SGD(0.01), initial_scale=1.0
                )
            )
        steps = np.split(views.copy(), 3, axis=1)
        if is_there:
            steps[1][:, 6] = 1.0
        else:
            del steps[1]
        x = np.concatenate(steps, axis=1)
        history = model.fit(
            {"view_1": x[0], "view_2": x[1]},
            batch_size=BATCH_SIZE,
            shuffle=False,
            verbose=0,
        ).history
        statistics = [
            float(value.numpy()[0])
            for variable in norm.non_trainable_variables
            for value in strategy.experimental_local_results(variable.value)
        ]
        logs = {name: values[0] for name, values in history.items()}
        found.append({"logs": logs, "statistics": statistics})
    return found


def caught_warnings(make):
    """The warnings of local batch norm that a function causes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    return [
        (str(w.message), w.filename)
        for w in caught
        if "synchronize_batch_norm" in str(w.message)
    ]


def main():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {}
    count = BATCH_SIZE + 5  # 3 images for one replica, 2 for the other
    for policy, probe_on in RAGGED:
        logs, weights = ragged(strategy, count, policy, probe_on)
        expected_logs, expected = ragged(
            tf.distribute.get_strategy(), count, policy, probe_on
        )
        found[f"ragged_{policy}_{probe_on}"] = {
            "logs": logs,
            "expected_logs": expected_logs,
            "difference": max(
                float(np.abs(a - b).max() / np.abs(b).max())
                for a, b in zip(weights, expected)
            ),
        }

    found["scalar_losses"] = {
        name: [
            scalar_loss(where, loss, count)
            for where in (strategy, tf.distribute.get_strategy())
        ]
        for name, loss in SCALAR.items()
    }

    images = np.zeros((BATCH_SIZE + 1, 8, 8, 1), "uint8")
    model = make_model(strategy)
    found["one_over"] = message(
        lambda: model.fit(images, batch_size=BATCH_SIZE, verbose=0)
    )
    local = {"synchronized": False}

    def make(*args):
        with strategy.scope():
            return simclr_keras.SimCLRModel(*args)

    class Late(keras.Model):
        """Has its layers when it sees images."""

        def build(self, input_shape):
            self.inner = make_encoder(**local)

        def call(self, images, training=None):
            return self.inner(images, training=training)

    def fit_late():
        with strategy.scope():
            model = make(
                Late(), None, simclr_keras.SimCLRAugmentation(8, 8, seed=0)
            )
            model.compile(keras.optimizers.SGD(0.01))
        model.fit(images[:BATCH_SIZE], batch_size=BATCH_SIZE, verbose=0)
        model.fit(images[:BATCH_SIZE], batch_size=BATCH_SIZE, verbose=0)

    found["warnings"] = {
        name: caught_warnings(function)
        for name, function in {
            "encoder": lambda: make(make_encoder(**local)),
            "head": lambda: make(
                make_encoder(), simclr_keras.ProjectionHead(4, **local)
            ),
            "late": fit_late,
            "mended": lambda: make(
                simclr_keras.distribution.synchronize_batch_norm(
                    make_encoder(**local)
                )
            ),
        }.items()
    }
    found["overflow"] = overflow(strategy)
    found["left_out"] = left_out(strategy)
    found["train_on_batch"] = message(
        lambda: model.train_on_batch(images[:BATCH_SIZE])
    )
    for name, arguments in {
        "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
        "ema_overwrite_frequency": {
            "use_ema": True,
            "ema_overwrite_frequency": 2,
        },
    }.items():
        periodic = make_model(strategy, simclr_keras.LARS(0.1, **arguments))
        found[name] = message(
            lambda: periodic.fit(images[:8], batch_size=4, verbose=0)  # noqa: B023
        )
    looping = make_model(strategy, steps_per_execution=2)
    found["steps_per_execution"] = message(
        lambda: looping.fit(images[:8], batch_size=4, verbose=0)
    )
    copying = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    looping = make_model(copying, steps_per_execution=2)
    found["steps_per_execution_works"] = message(
        lambda: looping.fit(images[:8], batch_size=4, verbose=0)
    )
    # Last: a step that fails spoils the strategy.
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(BATCH_SIZE)
    dataset = dataset.skip(1).concatenate(dataset.take(1))
    found["empty_replica"] = message(
        lambda: model.fit(dataset.take(1), verbose=0)
    )
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
