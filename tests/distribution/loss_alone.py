"""Losses and means on R replicas, with gradients, saved for a comparison.

python tests/distribution/loss_alone.py OUTPUT
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from keras import ops

import simclr_keras
from simclr_keras import distribution, losses

# Replicas, images, temperature; images that the replicas share unevenly too.
# Each takes seconds to trace.
CASES = [
    (1, 5, 0.1),
    (2, 8, 0.5),
    (2, 5, 1.0),
    (3, 5, 0.5),
]
# Two, two and one.
UNEVEN = [(3, 5, 0.5)]
DIM = 6


def projections(case):
    """z_i and z_j, float64 (N, D)."""
    rng = np.random.default_rng(CASES.index(case))
    return rng.normal(size=(2, case[1], DIM))


def labels(case):
    """Of the images, int64 (N,)."""
    return np.arange(case[1]) % 3


# The other losses; the first two in blocks, which are proved on one device.
OTHERS = {
    "sup_con": losses.SupConLoss(0.3, dtype="float64", block_size=3),
    "hard_negatives": losses.HardNegativeLoss(dtype="float64", block_size=3),
    "weighted": losses.NTXentLoss(
        0.3, decoupled=True, positive_weighting=0.5, dtype="float64"
    ),
    "nt_logistic": losses.NTLogisticLoss(0.3, dtype="float64"),
    "margin_triplet": losses.MarginTripletLoss(
        0.8, semi_hard=True, dtype="float64"
    ),
}


class SameClass(simclr_keras.losses.ContrastiveLoss):
    """Each view's mean cosine with all views of its class, its own included."""

    uses_labels = True

    def view_losses(self, z_i, z_j, labels=None):
        z_i, z_j = (ops.normalize(z, axis=-1) for z in (z_i, z_j))
        views = ops.concatenate([z_i, z_j])
        candidates = ops.concatenate(
            [distribution.all_gather(z) for z in (z_i, z_j)]
        )
        classes = ops.tile(distribution.all_gather(labels), [2])
        same = ops.tile(labels, [2])[:, None] == classes[None, :]
        same = ops.cast(same, views.dtype)
        cosines = ops.matmul(views, ops.transpose(candidates))
        return ops.sum(same * cosines, axis=1) / ops.sum(same, axis=1)


def run(case):
    """Sizes, losses and gradients of the replicas."""
    replicas, num_images, temperature = case
    strategy = tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)],
        # One process may then hold strategies of several sizes.
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    # Several blocks on each replica, except where there is one image.
    loss = simclr_keras.NTXentLoss(temperature, dtype="float64", block_size=3)
    dense = simclr_keras.NTXentLoss(
        temperature, dtype="float64", block_size=None
    )
    labelled_loss = SameClass(dtype="float64")

    @tf.function
    def step(z_i, z_j, classes):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([z_i, z_j])
            value, dense_value = loss(z_i, z_j), dense(z_i, z_j)
            means = [distribution.global_mean(x) for x in (z_i[:, 0], z_j)]
        others = {}
        for name, other in OTHERS.items() if case in UNEVEN else ():
            # A replica may have a single image.
            with tf.GradientTape() as tape_of_other:
                tape_of_other.watch([z_i, z_j])
                of_replica = other(
                    z_i, z_j, labels=classes if other.uses_labels else None
                )
            others[name] = of_replica
            others[f"{name}_gradient"] = tape_of_other.gradient(
                of_replica, [z_i, z_j]
            )
        return {
            **others,
            "sizes": tf.shape(z_i)[0],
            "losses": value,
            "gradient": tape.gradient(value, [z_i, z_j]),
            "dense_losses": dense_value,
            "dense_gradient": tape.gradient(dense_value, [z_i, z_j]),
            "labelled": labelled_loss(z_i, z_j, labels=classes),
            "means": means,
            "gradient_of_mean": tape.gradient(means[1], z_j),
        }

    dataset = tf.data.Dataset.from_tensor_slices(
        (*projections(case), labels(case))
    )
    dataset = strategy.experimental_distribute_dataset(
        dataset.batch(num_images)
    )
    found = strategy.run(step, args=next(iter(dataset)))

    def of_replicas(value):
        return [x.numpy() for x in strategy.experimental_local_results(value)]

    def rows(value):
        return np.concatenate(of_replicas(value))

    return {
        **{
            name: np.stack([rows(g) for g in found[name]])
            for name in (
                "gradient",
                "dense_gradient",
                *(f"{name}_gradient" for name in OTHERS),
            )
            if name in found
        },
        "gradient_of_mean": rows(found["gradient_of_mean"]),
        "means": np.array([of_replicas(mean) for mean in found["means"]]),
        **{
            name: np.array(of_replicas(found[name]))
            for name in ("sizes", "losses", "dense_losses", "labelled", *OTHERS)
            if name in found
        },
    }


def main():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 3,
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
