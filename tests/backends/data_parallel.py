"""Five steps on some devices of JAX, in a process of their own.

    python -m tests.backends.data_parallel FOLDER 1 2 4

writes `runs.npz`, with keys such as "2/losses", and the encoder that one
device trained. The devices are parts of the host's processor.
"""

import pathlib
import sys

import jax
import keras
import numpy as np
from sklearn.datasets import load_digits

import simclr_keras
from tests.backends import scenarios


class WatchedModel(simclr_keras.SimCLRModel):
    """Notes how the images of a step lie on the devices."""

    def make_views(self, images, training=True):
        jax.debug.inspect_array_sharding(images, callback=self.note)
        return super().make_views(images, training)

    def note(self, sharding):
        self.shard_shape = sharding.shard_shape((scenarios.BATCH_SIZE, 8, 8, 1))


def digits():
    """The first images (B, 8, 8, 1) of scikit-learn's digits, uint8."""
    images = load_digits().images[: scenarios.BATCH_SIZE, ..., None]
    return np.round(images * (255 / 16)).astype("uint8")


def train(num_devices):
    """What is left of five steps: a model, and arrays by their names."""
    keras.utils.clear_session()  # for the same names each time
    distribution = None
    if num_devices > 1:
        distribution = keras.distribution.DataParallel(
            devices=jax.devices()[:num_devices], auto_shard_dataset=False
        )
    keras.distribution.set_distribution(distribution)
    # A well-conditioned run. At a width of 1/8 some small gradients differ by
    # up to 1e-2 of their size, as when rounding switches a ReLU.
    model = scenarios.make_model(
        WatchedModel, channels=1, width_multiplier=1 / 16
    )
    history = scenarios.fit(model, digits())
    arrays = {f"losses/{name}": value for name, value in history.items()}
    arrays["shard_shape"] = np.array(model.shard_shape)
    arrays["num_devices"] = [len(v.value.devices()) for v in model.variables]
    for variable in (*model.variables, *model.optimizer.variables):
        array = keras.ops.convert_to_numpy(variable)
        arrays[f"variables/{variable.path}"] = array
    return model, arrays


def main(folder, *device_counts):
    folder = pathlib.Path(folder)
    runs = {}
    for num_devices in map(int, device_counts):
        model, arrays = train(num_devices)
        for name, array in arrays.items():
            runs[f"{num_devices}/{name}"] = array
        if num_devices == 1:
            model.encoder.save(folder / "encoder.keras")
            images = digits().astype("float32") / 255
            runs["representations"] = model.encoder.predict(images, verbose=0)
    np.savez(folder / "runs.npz", images=images, **runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
