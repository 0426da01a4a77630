"""An epoch of arrays ends with its last batch: their dataset is not tuned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
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
    model.evaluate(IMAGES, batch_size=8, verbose=0)
    model.fit(IMAGES, batch_size=8, verbose=0, validation_data=(IMAGES, None))
    assert [d.options().autotune.enabled for d in datasets] == [False] * 6


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


def batches_of(x, y, batch_size=None, shuffle=False, steps=None):
    """What Keras makes of arrays, or of what stands for them."""
    keras.utils.set_random_seed(0)
    model = Recorder()
    model.compile(run_eagerly=True)
    model.fit(
        *(x, y, batch_size),
        shuffle=shuffle,
        steps_per_epoch=steps,
        epochs=2,
        verbose=0,
    )
    return model.batches


@pytest.mark.parametrize(
    ("kwargs", "sizes"),
    [
        ({"batch_size": 4}, [4, 4, 2] * 2),
        ({"batch_size": 4, "shuffle": True}, [4, 4, 2] * 2),
        ({"batch_size": 4, "shuffle": "batch"}, [4, 4, 2] * 2),
        ({"steps": 2}, [5] * 4),
        ({}, [10] * 2),
    ],
)
def test_batches_are_those_of_keras(kwargs, sizes):
    arrays = np.arange(10.0), np.arange(10)
    own = batches_of(*arrays_for_steps(*arrays, **kwargs), **kwargs)
    assert [len(x) for x, _ in own] == sizes
    expected = batches_of(*arrays, **kwargs)
    keras.tree.map_structure(np.testing.assert_array_equal, own, expected)


def test_fewer_steps_by_keras_s_configuration():
    arrays = np.arange(12.0), np.arange(12)
    keras.config.set_max_steps_per_epoch(3)
    try:
        own = batches_of(*arrays_for_steps(*arrays))
        expected = batches_of(*arrays)
    finally:
        keras.config.set_max_steps_per_epoch(None)
    assert [len(x) for x, _ in own] == [4] * 6
    keras.tree.map_structure(np.testing.assert_array_equal, own, expected)


def test_batches_are_shuffled_within():
    class Order(simclr_keras.SimCLRModel):
        def train_step(self, data):
            order.append(data.numpy()[:, 0, 0, 0].astype(int).tolist())
            return {"loss": tf.constant(0.0)}

    order = []
    images = np.zeros((8, 8, 8, 3), "uint8")
    images[:, 0, 0, 0] = np.arange(8)
    model = tiny_model(cls=Order, compiling={"run_eagerly": True})
    model.fit(images, batch_size=4, shuffle="batch", verbose=0)
    assert [sorted(batch) for batch in order] == [[0, 1, 2, 3], [4, 5, 6, 7]]
