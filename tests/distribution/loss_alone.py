"""The loss and its gradient on R replicas, saved for a comparison.

python tests/distribution/loss_alone.py OUTPUT
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import simclr_keras

# Replicas, images, temperature; images that the replicas share unevenly too.
CASES = [
    (1, 5, 0.1),
    (2, 8, 0.5),
    (2, 5, 1.0),
    (3, 11, 0.1),
    (4, 8, 0.2),
    (4, 7, 0.5),
]
DIM = 6


def projections(case):
    """z_i and z_j, float64 (N, D)."""
    rng = np.random.default_rng(CASES.index(case))
    return rng.normal(size=(2, case[1], DIM))


def run(case):
    """Sizes, losses and gradients of the replicas."""
    replicas, num_images, temperature = case
    strategy = tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)],
        # One process may then hold strategies of several sizes.
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    loss = simclr_keras.NTXentLoss(temperature, dtype="float64")

    @tf.function
    def step(z_i, z_j):
        with tf.GradientTape() as tape:
            tape.watch([z_i, z_j])
            value = loss(z_i, z_j)
        return tf.shape(z_i)[0], value, tape.gradient(value, [z_i, z_j])

    dataset = tf.data.Dataset.from_tensor_slices(tuple(projections(case)))
    dataset = strategy.experimental_distribute_dataset(
        dataset.batch(num_images)
    )
    sizes, values, gradients = strategy.run(step, args=next(iter(dataset)))
    local = strategy.experimental_local_results
    return {
        "sizes": np.array(local(sizes)),
        "losses": np.array(local(values)),
        "gradient": np.stack(
            [np.concatenate([g.numpy() for g in local(g)]) for g in gradients]
        ),
    }


def main():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 4,
    )
    np.savez(
        sys.argv[1],
        **{
            f"{i}/{name}": value
            for i, case in enumerate(CASES)
            for name, value in run(case).items()
        },
    )


if __name__ == "__main__":
    main()
