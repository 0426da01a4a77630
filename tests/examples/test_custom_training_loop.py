import custom_training_loop as example
import keras
import numpy as np
import pytest

import simclr_keras

BATCH = 32


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def digits():
    return simclr_keras.data.load_digits().train.arrays()


@pytest.mark.parametrize(
    "function",
    [
        example.gradient_tape_loop,
        pytest.param(example.views_in_tf_data, marks=pytest.mark.slow),
        pytest.param(example.sequential_augmentation, marks=pytest.mark.slow),
        pytest.param(example.functional_classifier, marks=pytest.mark.slow),
    ],
)
def test_learns(function, digits):
    with_labels = function is example.functional_classifier
    data = digits if with_labels else digits[:1]
    encoder, losses = function(*data, steps=30, batch_size=BATCH)
    assert len(losses) == 30
    assert np.all(np.isfinite(losses))
    # It falls by 0.3 to 1; the mean of five steps strays by some 0.04.
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.15
    assert encoder.output_shape == (None, 64)


@pytest.mark.slow
def test_the_loop_is_what_the_model_does(digits):
    images, steps = digits[0], 3
    encoder, losses = example.gradient_tape_loop(images, steps, BATCH, seed=5)

    keras.utils.set_random_seed(0)
    model = simclr_keras.SimCLRModel(
        example.make_encoder(),
        simclr_keras.ProjectionHead(64),
        example.make_augmentation(seed=5),
    )
    data = example.batches_of(images, BATCH, seed=5).take(steps)
    model_losses = example.fit(model, data, steps)
    # float32, and views that XLA has made in one and not in the other: 1e-6
    # in a view, more in what batch norm makes of small batches.
    np.testing.assert_allclose(losses, model_losses, rtol=1e-3)
    for ours, theirs in zip(encoder.weights, model.encoder.weights):
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-2, atol=1e-3, err_msg=ours.path
        )


@pytest.mark.slow
def test_views_in_tf_data_are_the_same_in_every_run(digits):
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        runs.append(example.views_in_tf_data(digits[0], 2, BATCH, seed=3)[1])
    # float32 sums in the order of the threads.
    np.testing.assert_allclose(*runs, rtol=1e-4)
