"""An epoch of arrays ends with its last batch: their dataset is not tuned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras.keras_private import arrays_for_steps
from tests.model.models import IMAGES, tiny_model


@pytest.fixture
def datasets(monkeypatch):
    """Those that Keras takes its batches from, in the order of their use."""
    taken = []
    before = tf.distribute.Strategy.experimental_distribute_dataset

    def take(self, dataset, options=None):
        taken.append(dataset)
        return before(self, dataset, options)

    monkeypatch.setattr(
        tf.distribute.Strategy, "experimental_distribute_dataset", take
    )
    return taken


def test_arrays_are_not_autotuned(datasets):
    model = tiny_model()
    model.fit(IMAGES, batch_size=8, verbose=0)
    model.fit({"image": IMAGES}, batch_size=8, verbose=0)
    model.predict(IMAGES, batch_size=8, verbose=0)
    assert [d.options().autotune.enabled for d in datasets] == [False] * 3


def test_own_datasets_stay_as_they_are(datasets):
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).batch(8)
    tiny_model().fit(dataset, verbose=0)
    assert datasets == [dataset]


class Recorder(keras.Model):
    """Notes the batches that its steps are given."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.batches.append((x.numpy(), y.numpy()))
        return {"loss": tf.constant(0.0)}


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_those_of_keras(shuffle):
    arrays = np.arange(10.0), np.arange(10)
    kwargs = {"batch_size": 4, "shuffle": shuffle}

    def batches(x, y):
        keras.utils.set_random_seed(0)
        model = Recorder()
        model.compile(run_eagerly=True)
        model.fit(x, y, **kwargs, epochs=2, verbose=0)
        return model.batches

    own = batches(*arrays_for_steps(*arrays, **kwargs))
    expected = batches(*arrays)
    assert [len(x) for x, _ in own] == [4, 4, 2] * 2
    keras.tree.map_structure(np.testing.assert_array_equal, own, expected)
