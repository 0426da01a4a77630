"""Where there is one replica, its batch is the global one."""

import keras
import numpy as np
import tensorflow as tf

from simclr_keras import distribution


def test_a_mean_is_its_own_share():
    rng = np.random.default_rng(0)
    for shape in ((5,), (5, 3), (5, 2, 3)):
        values = rng.normal(size=shape)
        share = distribution.global_mean(tf.constant(values))
        assert share.shape == ()
        np.testing.assert_allclose(share, values.mean(), rtol=1e-12)  # float64


def test_of_an_unknown_number_of_rows():
    mean = tf.function(
        distribution.global_mean,
        input_signature=[tf.TensorSpec((None, 3), "float32")],
    )
    values = np.arange(12, dtype="float32").reshape(4, 3)
    assert float(mean(values)) == 5.5


def test_rows_are_those_of_the_batch():
    x = keras.ops.arange(6)
    assert distribution.num_replicas() == 1
    assert distribution.all_gather(x) is x
    assert distribution.global_batch_size(6) == 6
    np.testing.assert_array_equal(distribution.batch_sizes(6), [6])
    np.testing.assert_array_equal(distribution.sample_index(6), range(6))
    assert distribution.first_index(6) == 0
    assert distribution.share_of_batch(6, "float32") == 1.0


def test_what_is_so_here_is_so_on_any():
    for condition in (True, False):
        condition = tf.constant(condition)
        assert distribution.any_replica(condition) is condition
    assert distribution.any_worker(None, True, False) == [True, False]
