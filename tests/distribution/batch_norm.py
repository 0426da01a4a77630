"""Steps of batch norm on two replicas and on one device, for the tests.

python tests/distribution/batch_norm.py OUTPUT
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from simclr_keras.batch_norm import BatchNormalization

CLASSES = {
    "fused": BatchNormalization,
    "keras": keras.layers.BatchNormalization,
}


def step(strategy, cls, images, weights, synchronized):
    """Arrays of a training step, and whether the fused kernel is in it."""
    with strategy.scope():
        layer = cls(momentum=0.9, epsilon=1e-5, synchronized=synchronized)
        layer.build((None, *images.shape[1:]))

    def replica(x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * weights)
        variables = [layer.gamma.value, layer.beta.value]
        return y, *tape.gradient(loss, [x, *variables])

    @tf.function
    def run(x, weights):
        return strategy.run(replica, args=(x, weights))

    dataset = tf.data.Dataset.from_tensor_slices((images, weights))
    dataset = strategy.experimental_distribute_dataset(
        dataset.batch(len(images))
    )
    args = next(iter(dataset))
    graph = run.get_concrete_function(*args).graph.as_graph_def()
    nodes = [*graph.node]
    for function in graph.library.function:
        nodes += function.node_def
    y, dx, dgamma, dbeta = (
        strategy.experimental_local_results(each) for each in run(*args)
    )
    return {
        "outputs": np.concatenate([each.numpy() for each in y]),
        "input_gradient": np.concatenate([each.numpy() for each in dx]),
        "gamma_gradient": sum(each.numpy() for each in dgamma),
        "beta_gradient": sum(each.numpy() for each in dbeta),
        "moving_mean": layer.moving_mean.numpy(),
        "moving_variance": layer.moving_variance.numpy(),
        "has_kernel": any(node.op == "FusedBatchNormV3" for node in nodes),
    }


def main():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    rng = np.random.default_rng(0)
    # Halves that differ, so that local statistics are others.
    images = rng.normal(2, 1, (8, 4, 4, 3)).astype("float32")
    images[4:] *= 3
    weights = rng.normal(0, 1, images.shape).astype("float32")
    found = {}
    for name, cls in CLASSES.items():
        for replicas, strategy in (
            (1, tf.distribute.get_strategy()),
            (
                2,
                mirrored,
            ),
        ):
            for synchronized in (False, True):
                arrays = step(strategy, cls, images, weights, synchronized)
                for key, value in arrays.items():
                    place = f"{name}/{replicas}/{synchronized}/{key}"
                    found[place] = value
    np.savez(sys.argv[1], **found)


if __name__ == "__main__":
    main()
