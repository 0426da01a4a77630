import gc
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import data
from tests.data import replicas as replicas_script
from tests.distribution import results
from tests.distribution.cluster import cluster

N = 23


def numbered():
    """Images whose pixels all hold their own number, and labels likewise."""
    numbers = np.arange(N, dtype="uint8")
    images = np.broadcast_to(numbers[:, None, None, None], (N, 2, 3, 1))
    return data.from_arrays(images.copy(), numbers).train


def passes(num_passes, batch_size=5, **kwargs):
    """The numbers in so many passes over a dataset, (pass, step, batch)."""
    dataset = data.training_dataset(numbered(), batch_size, **kwargs)
    return np.array(
        [[batch[:, 0, 0, 0] for batch in dataset] for _ in range(num_passes)]
    )


def test_epoch_is_a_permutation_without_the_remainder():
    dataset = data.training_dataset(numbered(), 5).repeat(200)
    batches = [batch[:, 0, 0, 0] for batch in dataset.as_numpy_iterator()]
    epochs = np.reshape(batches, (200, 20))
    assert all(len(set(epoch)) == 20 for epoch in epochs.tolist())
    # Each image is left out of 3/23 of the epochs, by chance: 4 sigma.
    left_out = 200 - np.bincount(epochs.ravel(), minlength=N)
    p = 3 / N
    assert np.abs(left_out - 200 * p).max() < 4 * np.sqrt(200 * p * (1 - p))


def test_orders_follow_from_seed_and_epoch():
    two = passes(2, seed=7)
    assert not np.array_equal(two[0], two[1])
    np.testing.assert_array_equal(two, passes(2, seed=7))
    assert not np.array_equal(two, passes(2, seed=8))
    tf.random.set_seed(123)  # The global seed has no part in it.
    np.testing.assert_array_equal(two, passes(2, seed=7))


def test_resumed_epochs_are_those_of_the_whole_run():
    whole = passes(5, seed=3)
    for epoch in range(5):
        np.testing.assert_array_equal(
            passes(5 - epoch, seed=3, initial_epoch=epoch), whole[epoch:]
        )


def test_repeat_goes_through_the_epochs():
    whole = passes(4, seed=3)
    dataset = data.training_dataset(numbered(), 5, seed=3, initial_epoch=1)
    batches = [batch[:, 0, 0, 0] for batch in dataset.repeat().take(12)]
    np.testing.assert_array_equal(np.reshape(batches, (3, 4, 5)), whole[1:])


def test_a_look_at_the_first_batch_is_an_epoch():
    whole = passes(3, seed=3)
    dataset = data.training_dataset(numbered(), 5, seed=3)
    first = next(iter(dataset))[:, 0, 0, 0]
    np.testing.assert_array_equal(first, whole[0, 0])
    iter(dataset)  # no look
    batches = [batch[:, 0, 0, 0] for batch in dataset]
    np.testing.assert_array_equal(batches, whole[1])


def test_count_outlives_everything_but_the_dataset():
    dataset = data.training_dataset(numbered(), 5, seed=3)
    dataset = dataset.map(lambda images: images[:, 0, 0, 0]).prefetch(1)
    found = []
    for _ in range(3):
        gc.collect()
        found.append(list(dataset.as_numpy_iterator()))
    np.testing.assert_array_equal(found, passes(3, seed=3))


def test_without_shuffling():
    expected = np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(passes(2, shuffle=False), [expected] * 2)


def test_shapes_are_static_and_length_is_known():
    dataset = data.training_dataset(numbered(), 5)
    assert dataset.element_spec == tf.TensorSpec((5, 2, 3, 1), tf.uint8)
    assert dataset.cardinality() == numbered().steps_per_epoch(5) == 4
    assert dataset.repeat().cardinality() == tf.data.INFINITE_CARDINALITY


def test_labels_stay_with_their_images():
    dataset = data.training_dataset(numbered(), 5, with_labels=True)
    for images, labels in dataset.repeat(3):
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    assert labels.dtype == "int64"


class Recorder(keras.Model):
    """A model that keeps the numbers of the images it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=())
        self.built = True
        self.seen = []
        self.compile("sgd")

    def call(self, images):
        return self.weight * keras.ops.mean(images)

    def train_step(self, images):
        def keep(numbers):
            self.seen.append(numbers.copy())

        tf.numpy_function(keep, [images[:, 0, 0, 0]], [])
        return {"loss": 0.0 * self(images)}

    test_step = train_step


def fitted(steps_per_execution=1, repeat=False, initial_epoch=0, **kwargs):
    """The numbers that `fit` saw, (epoch, step, batch), and its history."""
    model = Recorder()
    model.steps_per_execution = steps_per_execution
    dataset = data.training_dataset(
        numbered(), 5, seed=3, initial_epoch=initial_epoch
    )
    if repeat:
        dataset = dataset.repeat()
        kwargs["steps_per_epoch"] = numbered().steps_per_epoch(5)
    history = model.fit(
        dataset, initial_epoch=initial_epoch, verbose=0, shuffle=False, **kwargs
    )
    return np.array(model.seen), history


@pytest.mark.parametrize(
    ("repeat", "steps_per_execution"),
    [(False, 1), (False, 2), (False, 3), (True, 1), (True, 2)],
)
def test_epochs_of_fit_are_epochs_of_the_dataset(repeat, steps_per_execution):
    seen, history = fitted(steps_per_execution, repeat, epochs=3)
    assert history.epoch == [0, 1, 2]
    np.testing.assert_array_equal(seen.reshape(3, 4, 5), passes(3, seed=3))


@pytest.mark.parametrize("repeat", [False, True])
def test_last_epoch_alone_is_exactly_the_third(repeat):
    seen, history = fitted(repeat=repeat, initial_epoch=2, epochs=3)
    assert history.epoch == [2]
    np.testing.assert_array_equal(seen, passes(3, seed=3)[2])


def test_validation_takes_its_own_passes():
    validation = data.training_dataset(numbered(), 5, seed=9)
    seen, _ = fitted(epochs=2, validation_data=validation)
    train, held_out = passes(2, seed=3), passes(2, seed=9)
    expected = [train[0], held_out[0], train[1], held_out[1]]
    np.testing.assert_array_equal(seen, np.concatenate(expected))


def test_second_fit_goes_on():
    model = Recorder()
    dataset = data.training_dataset(numbered(), 5, seed=3)
    for _ in range(2):
        model.fit(dataset, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_array_equal(
        np.reshape(model.seen, (4, 4, 5)), passes(4, seed=3)
    )


def test_own_subclass_of_image_set():
    class Gradients(data.ImageSet):
        labels = None

        def load(self, index):
            return tf.cast(tf.fill((2, 2, 1), index), tf.float32) / 10, 0

    images = Gradients(10, (2, 2, 1), "float32", has_labels=False)
    batches = data.training_dataset(images, 10)
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
    steps = numbered().steps_per_epoch(8)
    shares = [
        # In a step each replica of the worker takes the next batch.
        passes(3, 8, seed=1, input_context=context).reshape(3, steps, -1)
        for context in contexts(pipelines, replicas)
    ]
    np.testing.assert_array_equal(
        np.concatenate(shares, 2), passes(3, 8, seed=1)
    )
    dataset = data.training_dataset(
        numbered(), 8, input_context=contexts(pipelines, replicas)[0]
    )
    assert dataset.element_spec.shape[0] == 8 // replicas
    assert dataset.cardinality() == steps * replicas // pipelines


class Watched(data.ImageSet):
    """Images that keep account of which of them were loaded."""

    labels = None

    def __init__(self, num_images):
        super().__init__(num_images, (2, 2, 1), "float32", has_labels=False)
        self.loaded = []

    def load(self, index):
        tf.numpy_function(self.loaded.append, [index], [])
        return tf.zeros((2, 2, 1)), 0


def test_worker_decodes_its_own_share_only():
    seen = []
    for context in contexts(2, 2):
        images = Watched(16)
        list(data.training_dataset(images, 4, input_context=context))
        seen.append({int(index) for index in images.loaded})
        assert len(images.loaded) == len(seen[-1]) == 8
    assert not seen[0] & seen[1]


def test_next_epoch_is_read_ahead():
    images = Watched(16)
    iterator = iter(data.training_dataset(images, 4).repeat())
    for _ in range(4):
        next(iterator)
    deadline = time.monotonic() + 60
    while len(images.loaded) <= 16:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def replicas(path, **variables):
    """A process that saves what each way of distributing a dataset gives."""
    return subprocess.Popen(
        [sys.executable, pathlib.Path(__file__).with_name("replicas.py"), path],
        env={**results.environment(), **variables},
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_epochs_of_one_replica(*paths):
    """The workers' shares together, in every way that was tried."""
    shares = [np.load(path) for path in paths]
    assert len(shares[0]) == 8
    strategy = tf.distribute.get_strategy()
    trained = replicas_script.TRAINED
    expected = {
        kind: replicas_script.passes(strategy, dataset)
        for kind, dataset in {
            "images": replicas_script.training_dataset(),
            "views": replicas_script.views(),
            "trained": replicas_script.training_dataset(initial_epoch=trained),
        }.items()
    }
    for way in shares[0]:
        (kind,) = {"views", "trained"} & set(way.split("_")) or {"images"}
        np.testing.assert_allclose(
            np.concatenate([share[way] for share in shares], axis=-1),
            expected[kind],
            rtol=0,
            # Views are of [0, 255], in float32; the images' numbers are exact.
            atol=1e-3 if kind == "views" else 0,
            err_msg=way,
        )


@pytest.mark.slow
def test_replicas_go_through_the_same_epochs(tmp_path):
    results.finish(replicas(tmp_path / "found.npz"))
    assert_epochs_of_one_replica(tmp_path / "found.npz")


@pytest.mark.slow
def test_workers_go_through_the_same_epochs(tmp_path):
    paths = [tmp_path / "worker_0.npz", tmp_path / "worker_1.npz"]
    workers = [
        replicas(path, TF_CONFIG=config)
        for path, config in zip(paths, cluster(), strict=True)
    ]
    for worker in workers:
        results.finish(worker)
    assert_epochs_of_one_replica(*paths)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"batch_size": N + 1}, ValueError, "batch_size=24, with 23 images"),
        ({"seed": 1.5}, TypeError, r"seed=1\.5"),
        ({"seed": None}, TypeError, "seed=None"),
        ({"initial_epoch": -1}, ValueError, "initial_epoch=-1"),
        ({"initial_epoch": True}, TypeError, "initial_epoch=True"),
        ({"epochs": 3}, TypeError, "epochs"),
        ({"input_context": contexts(2, 2)[0]}, ValueError, "not divisible"),
    ],
)
def test_errors(kwargs, error, message):
    with pytest.raises(error, match=message):
        data.training_dataset(numbered(), **{"batch_size": 5, **kwargs})


def test_whole_image_data_is_refused_with_advice():
    with pytest.raises(TypeError, match=r"ImageData.*data\.train"):
        data.training_dataset(data.load_digits(), 8)


@pytest.mark.parametrize("step", [1, 2])
def test_steps_that_are_done_are_not_read(step):
    images = data.load_digits().train  # 1,347
    whole, rest = (
        data.training_dataset(
            images, 512, seed=3, initial_epoch=1, initial_step=s
        )
        for s in (0, step)
    )
    assert rest.cardinality() == whole.cardinality() == 2
    for expected, found in ([list(whole), list(rest)] for _ in range(2)):
        for k, batch in enumerate(found):
            blank = k < step
            np.testing.assert_array_equal(
                batch, expected[k].numpy() * (not blank)
            )
        step = 0  # The next epoch is whole.


@pytest.mark.parametrize("step", [-1, 3])
def test_steps_done_are_of_an_epoch(step):
    images = data.load_digits().train
    with pytest.raises(ValueError, match=r"from 0 to 2.*initial_step="):
        data.training_dataset(images, 512, initial_step=step)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("num_parallel_calls", -5, ValueError),
        ("num_parallel_calls", 1.5, TypeError),
        ("seed", 2**64, ValueError),
        ("initial_epoch", 2**63, ValueError),
    ],
)
def test_numbers_that_tf_data_does_not_take(name, value, error):
    images = data.from_arrays(np.zeros((4, 2, 2, 1), "uint8")).train
    with pytest.raises(error, match=f"`{name}` must be"):
        data.training_dataset(images, 2, **{name: value})
