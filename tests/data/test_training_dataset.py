import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import data

N = 23


def numbered():
    """Images whose pixels all hold their own number, and labels likewise."""
    numbers = np.arange(N, dtype="uint8")
    images = np.broadcast_to(numbers[:, None, None, None], (N, 2, 3, 1))
    return data.from_arrays(images.copy(), numbers).train


def order(num_batches=None, **kwargs):
    dataset = data.training_dataset(numbered(), 5, **kwargs)
    if num_batches is not None:
        dataset = dataset.take(num_batches)
    return np.array([batch[:, 0, 0, 0] for batch in dataset])


def test_epoch_is_a_permutation_without_the_remainder():
    epochs = order(epochs=200).reshape(200, 20)
    assert all(len(set(epoch)) == 20 for epoch in epochs.tolist())
    # Each image is left out of 3/23 of the epochs, by chance: 4 sigma.
    left_out = 200 - np.bincount(epochs.ravel(), minlength=N)
    p = 3 / N
    assert np.abs(left_out - 200 * p).max() < 4 * np.sqrt(200 * p * (1 - p))


def test_epochs_and_seeds_differ_and_repeat():
    two = order(epochs=2, seed=7)
    assert not np.array_equal(two[:4], two[4:])
    np.testing.assert_array_equal(two, order(epochs=2, seed=7))
    assert not np.array_equal(two, order(epochs=2, seed=8))
    tf.random.set_seed(123)  # The global seed has no part in it.
    np.testing.assert_array_equal(two, order(epochs=2, seed=7))


def test_resumed_epochs_are_those_of_the_whole_run():
    whole = order(epochs=5, seed=3)
    for initial_epoch in range(5):
        np.testing.assert_array_equal(
            order(epochs=5, seed=3, initial_epoch=initial_epoch),
            whole[4 * initial_epoch :],
        )
    endless = order(num_batches=8, seed=3, initial_epoch=3)
    np.testing.assert_array_equal(endless, whole[12:])


def test_without_shuffling():
    expected = np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(
        order(epochs=2, shuffle=False), np.concatenate([expected] * 2)
    )


def test_shapes_are_static_and_length_is_known():
    dataset = data.training_dataset(numbered(), 5)
    assert dataset.element_spec == tf.TensorSpec((5, 2, 3, 1), tf.uint8)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    dataset = data.training_dataset(numbered(), 5, initial_epoch=1, epochs=3)
    assert dataset.cardinality() == 2 * numbered().steps_per_epoch(5) == 8


def test_labels_stay_with_their_images():
    dataset = data.training_dataset(numbered(), 5, epochs=3, with_labels=True)
    for images, labels in dataset:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    assert labels.dtype == "int64"


def test_fit_resumed_equals_fit_in_one_go():
    def run(initial_epoch, epochs, weights=None):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2, 3, 1))])
        model.add(keras.layers.Flatten())
        model.add(keras.layers.Dense(1))
        model.compile(keras.optimizers.SGD(1e-4), "mse")
        if weights is not None:
            model.set_weights(weights)
        dataset = data.training_dataset(
            numbered(), 5, initial_epoch=initial_epoch, with_labels=True
        )
        history = model.fit(
            dataset,
            steps_per_epoch=numbered().steps_per_epoch(5),
            initial_epoch=initial_epoch,
            epochs=epochs,
            verbose=0,
        )
        return model.get_weights(), history.history["loss"]

    whole, losses = run(0, 4)
    half, first_losses = run(0, 2)
    resumed, last_losses = run(2, 4, half)
    assert losses == first_losses + last_losses
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


def test_own_subclass_of_image_set():
    class Gradients(data.ImageSet):
        labels = None

        def load(self, index):
            return tf.cast(tf.fill((2, 2, 1), index), tf.float32) / 10, 0

    images = Gradients(10, (2, 2, 1), "float32", has_labels=False)
    batches = data.training_dataset(images, 10, epochs=1)
    values = np.sort([batch[:, 0, 0, 0] for batch in batches])
    np.testing.assert_allclose(values, [np.arange(10) / 10], rtol=1e-6)
    assert images.arrays()[0].shape == (10, 2, 2, 1)


def contexts(pipelines, replicas):
    return [
        tf.distribute.InputContext(pipelines, i, replicas)
        for i in range(pipelines)
    ]


@pytest.mark.parametrize(
    ("pipelines", "replicas"), [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4)]
)
def test_shares_make_up_the_batches_of_one_worker(pipelines, replicas):
    def batches(context=None):
        dataset = data.training_dataset(
            numbered(), 8, epochs=3, seed=1, input_context=context
        )
        result = np.array([batch[:, 0, 0, 0] for batch in dataset])
        assert len(result) == dataset.cardinality()
        return result

    steps = 3 * numbered().steps_per_epoch(8)
    shares = [
        # In a step each replica of the worker takes the next batch.
        batches(context).reshape(steps, -1)
        for context in contexts(pipelines, replicas)
    ]
    np.testing.assert_array_equal(np.concatenate(shares, 1), batches())
    dataset = data.training_dataset(
        numbered(), 8, input_context=contexts(pipelines, replicas)[0]
    )
    assert dataset.element_spec.shape[0] == 8 // replicas


def test_worker_decodes_its_own_share_only():
    loaded = []

    class Watched(data.ImageSet):
        labels = None

        def load(self, index):
            tf.numpy_function(loaded.append, [index], [])
            return tf.zeros((2, 2, 1)), 0

    images = Watched(16, (2, 2, 1), "float32", has_labels=False)
    seen = []
    for context in contexts(2, 2):
        loaded.clear()
        list(data.training_dataset(images, 4, epochs=1, input_context=context))
        seen.append({int(index) for index in loaded})
        assert len(loaded) == len(seen[-1]) == 8
    assert not seen[0] & seen[1]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"batch_size": N + 1}, ValueError, "batch_size=24, with 23 images"),
        ({"seed": 1.5}, TypeError, r"seed=1\.5"),
        ({"seed": None}, TypeError, "seed=None"),
        ({"initial_epoch": -1}, ValueError, "initial_epoch=-1"),
        ({"initial_epoch": 3, "epochs": 3}, ValueError, "epochs=3"),
        ({"input_context": contexts(2, 2)[0]}, ValueError, "not divisible"),
    ],
)
def test_errors(kwargs, error, message):
    with pytest.raises(error, match=message):
        data.training_dataset(numbered(), **{"batch_size": 5, **kwargs})


def test_whole_image_data_is_refused_with_advice():
    with pytest.raises(TypeError, match=r"ImageData.*data\.train"):
        data.training_dataset(data.load_digits(), 8)
