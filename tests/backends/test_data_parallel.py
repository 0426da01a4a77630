"""JAX: any number of devices is one device, and TensorFlow takes the rest."""

import importlib.util

import keras
import numpy as np
import pytest

from tests.backends import scenarios

NUM_DEVICES = (1, 2, 4)
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="needs the JAX backend"
)
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=4 "
    # Compiles in half the time.
    "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)


@pytest.fixture(scope="module")
def folder(run_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data_parallel")
    arguments = "-m", "tests.backends.data_parallel", folder, *NUM_DEVICES
    run_python(*arguments, XLA_FLAGS=XLA_FLAGS)
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    return np.load(folder / "runs.npz")


@pytest.mark.parametrize("num_devices", NUM_DEVICES)
def test_batch_is_spread_over_the_devices(runs, num_devices):
    assert set(runs[f"{num_devices}/num_devices"]) == {num_devices}
    images = runs[f"{num_devices}/shard_shape"][0]
    assert images == scenarios.BATCH_SIZE // num_devices


@pytest.mark.parametrize("num_devices", NUM_DEVICES[1:])
@pytest.mark.parametrize("kind", ["losses", "variables"])
def test_equals_one_device(runs, num_devices, kind):
    names = [n for n in runs.files if n.startswith(f"1/{kind}")]
    assert len(names) > {"losses": 2, "variables": 100}[kind]
    for name in names:
        expected = runs[name].astype("float64")
        difference = runs[f"{num_devices}{name[1:]}"] - expected
        # Relative to the whole tensor, in float32, after five steps. What
        # starts at zero, velocities and centres, may be as good as zero, or a
        # sum of what cancels: 2.7e-5 was seen of four offsets. A device that
        # missed its share would be off by percents.
        limit = 5e-5 * np.linalg.norm(expected) + 1e-8 * expected.size**0.5
        assert np.linalg.norm(difference) <= limit, name


def test_encoder_loads_in_tensorflow(folder, run_python):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    code = (
        "import sys, keras, numpy as np, simclr_keras\n"
        "assert keras.backend.backend() == 'tensorflow'\n"
        "encoder = keras.saving.load_model(sys.argv[1] + '/encoder.keras')\n"
        "runs = np.load(sys.argv[1] + '/runs.npz')\n"
        "h = encoder.predict(runs['images'], verbose=0)\n"
        "expected = runs['representations']\n"
        "print(np.abs(h - expected).max() / np.abs(expected).max())\n"
    )
    output = run_python("-c", code, folder, backend="tensorflow")
    assert float(output.splitlines()[-1]) <= 1e-5
