"""Trains the same model on some number of replicas and saves what came of it.

    python tests/distribution/train.py REPLICAS OUTPUT RUN [RUN ...]

0 replicas is no strategy; with TF_CONFIG in the environment it is one worker
of several. A run is a key of `RUNS`, and may go on with `:smooth`, which puts
tanh in the place of every ReLU.

A process of its own for each number of replicas: TensorFlow numbers the groups
of its collective operations in every strategy from 1, and one group cannot
have two sizes.
"""

import os
import sys
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf

import simclr_keras

STEPS, BATCH_SIZE, SIZE = 5, 32, 16

# What a run trains with: dtype policy and optimizer.
RUNS = {
    f"{policy}_{optimizer}": (policy, optimizer)
    for policy in ("float64", "float32", "mixed_bfloat16")
    for optimizer in ("lars", "adamw")
}


def photographs(count):
    """Patches of two photographs, uint8, and labels, int64."""
    images = np.stack(sklearn.datasets.load_sample_images().images)
    rng = np.random.default_rng(0)
    corners = zip(
        rng.integers(0, 2, count),
        rng.integers(0, images.shape[1] - 2 * SIZE, count),
        rng.integers(0, images.shape[2] - 2 * SIZE, count),
    )
    patches = [
        images[i, y : y + 2 * SIZE : 2, x : x + 2 * SIZE : 2]
        for i, y, x in corners
    ]
    return np.stack(patches), rng.integers(0, 10, count)


class Logs(keras.callbacks.Callback):
    """Keeps the logs of every step."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append(dict(logs))


def build_optimizer(name):
    peak = simclr_keras.scaled_learning_rate(0.3, BATCH_SIZE)
    schedule = simclr_keras.WarmupCosineDecay(peak, 10, warmup_steps=2)
    if name == "lars":
        return simclr_keras.LARS(schedule, weight_decay=1e-4)
    return keras.optimizers.AdamW(1e-4, weight_decay=1e-4)


def build_model(policy, optimizer):
    """A model that draws every augmentation and has every kind of variable."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    is_double = policy == "float64"
    model = simclr_keras.SimCLRModel(
        simclr_keras.encoders.ResNet18(
            width_multiplier=1 / 8, stem="cifar", input_shape=(SIZE, SIZE, 3)
        ),
        simclr_keras.ProjectionHead(16),
        augmentation=simclr_keras.SimCLRAugmentation(SIZE, SIZE, seed=3),
        num_classes=10,
    )
    model.compile(
        build_optimizer(optimizer),
        loss=simclr_keras.NTXentLoss(
            0.5, dtype="float64" if is_double else "float32"
        ),
    )
    return model


def train(run, strategy):
    """Five steps on real images.

    Args:
        run: A key of `RUNS`, with `:smooth` or without.
        strategy: `tf.distribute.Strategy`.

    Returns:
        Dictionary of arrays: every log and every variable.
    """
    name, _, option = run.partition(":")
    keras.utils.clear_session()  # so that names are the same in every run
    with strategy.scope():
        model = build_model(*RUNS[name])
    images, labels = photographs(STEPS * BATCH_SIZE)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = dataset.batch(BATCH_SIZE, drop_remainder=True)
    logs = Logs()
    relu = keras.ops.tanh if option == "smooth" else keras.ops.relu
    with mock.patch.object(keras.layers.ReLU, "call", lambda _, x: relu(x)):
        history = model.fit(
            dataset,
            verbose=0,
            shuffle=False,
            callbacks=[logs],
            # Where everything is compared to the last digits.
            validation_data=dataset if name.startswith("float64") else None,
        ).history
    arrays = {
        f"log/{name}": np.array([row[name] for row in logs.rows])
        for name in logs.rows[0]
    }
    for name, values in history.items():
        arrays[f"log/epoch/{name}"] = np.array(values)
    for kind, variables in (
        ("weight", model.trainable_variables),
        ("statistic", model.encoder.non_trainable_variables),
        ("slot", model.optimizer.variables),
    ):
        for i, variable in enumerate(variables):
            arrays[f"{kind}/{i}/{variable.path}"] = variable.numpy()
    return arrays


def make_strategy(replicas):
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if replicas == 0:
        return tf.distribute.get_strategy()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def main():
    replicas, output, runs = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    # One strategy for all runs: a second one would number its collective
    # operations from 1 again.
    strategy = make_strategy(replicas)
    arrays = {}
    for run in runs:
        for key, value in train(run, strategy).items():
            arrays[f"{run}/{key}"] = value
    np.savez(output, **arrays)


if __name__ == "__main__":
    main()
