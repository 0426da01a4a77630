"""What is TensorFlow's alone says so elsewhere, and the rest needs none."""

import keras
import pytest

import simclr_keras
from simclr_keras import distribution

elsewhere = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="needs another backend"
)
# As on a machine where it is not installed.
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None\n"


@elsewhere
def test_training_needs_no_tensorflow(run_python):
    code = WITHOUT_TENSORFLOW + (
        "from tests.backends import scenarios\n"
        "model = scenarios.make_model()\n"
        "images = scenarios.images((32, 8, 8, 3))\n"
        "print(model.predict(images, verbose=0).shape)\n"
        "print('simclr_keras.data' in sys.modules)\n"
    )
    assert run_python("-c", code).splitlines()[-2:] == ["(32, 64)", "False"]


@elsewhere
@pytest.mark.parametrize(
    "use",
    [
        "simclr_keras.data.load_digits()",
        "simclr_keras.load_published_weights('checkpoint')",
    ],
)
def test_what_reads_with_tensorflow_says_so(use, run_python):
    code = WITHOUT_TENSORFLOW + (
        "import simclr_keras\n"
        f"try: {use}\n"
        "except ImportError as error: print(error)\n"
    )
    assert "tensorflow" in run_python("-c", code).lower()


@elsewhere
@pytest.mark.parametrize(
    "make",
    [simclr_keras.ProjectionHead, simclr_keras.encoders.ResNet18],
    ids=lambda make: make.__name__,
)
def test_synchronized_batch_norm(make):
    with pytest.raises(ValueError, match=r"Received: synchronized=True on"):
        make(synchronized=True)


@elsewhere
def test_a_batch_is_the_global_one():
    assert distribution.num_replicas() == 1
    assert distribution.is_chief() is True
    assert distribution.in_scope() is False
    assert distribution.synchronizes(None) is False
    assert distribution.global_batch_size(6) == 6
    layer = keras.layers.BatchNormalization()
    assert not distribution.synchronize_batch_norm(layer).synchronized


@elsewhere
def test_export(tmp_path):
    encoder = simclr_keras.encoders.ResNet18(width_multiplier=1 / 16)
    with pytest.raises(RuntimeError, match=r"needs Keras on TensorFlow"):
        simclr_keras.export_saved_model(encoder, tmp_path / "module")
    assert not (tmp_path / "module").exists()
