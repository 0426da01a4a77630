import numpy as np
import pytest

from simclr_keras.evaluation import class_balanced_subset

LABELS = np.random.default_rng(0).integers(0, 7, 500)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_every_class_has_the_same_number(count):
    index = class_balanced_subset(LABELS, count, seed=3)
    assert len(set(index)) == 7 * count
    np.testing.assert_array_equal(np.bincount(LABELS[index]), [count] * 7)


def test_the_seed_names_the_draw():
    first = class_balanced_subset(LABELS, 10, seed=1)
    np.testing.assert_array_equal(
        first, class_balanced_subset(LABELS, 10, seed=1)
    )
    assert set(first) != set(class_balanced_subset(LABELS, 10, seed=2))


def test_the_draws_of_a_seed_are_nested():
    one = class_balanced_subset(LABELS, 1, seed=1)
    ten = class_balanced_subset(LABELS, 10, seed=1)
    assert set(one) < set(ten)


def test_every_image_can_be_drawn_equally_often():
    labels = np.repeat([0, 1], [10, 20])
    drawn = np.concatenate(
        [class_balanced_subset(labels, 5, seed) for seed in range(1000)]
    )
    counts = np.bincount(drawn)
    # Binomial with p = 1/2 and 1/4; 4 standard deviations of 1000 draws.
    assert np.abs(counts[:10] - 500).max() < 4 * np.sqrt(250)
    assert np.abs(counts[10:] - 250).max() < 4 * np.sqrt(187.5)


def test_a_class_that_is_too_small_is_named():
    with pytest.raises(
        ValueError, match=r"2 images of class 5\. Received: num_per_class=3"
    ):
        class_balanced_subset([4, 4, 4, 5, 5], 3)


def test_the_number_must_be_positive():
    with pytest.raises(ValueError, match="Received: num_per_class=0"):
        class_balanced_subset(LABELS, 0)


@pytest.mark.parametrize(
    ("labels", "count", "seed", "error", "message"),
    [
        (np.zeros((6, 3), int), 1, 0, ValueError, "labels.shape"),
        ([], 1, 0, ValueError, "labels.shape"),
        ([[1, 2], [3]], 1, 0, TypeError, "NumPy makes no array"),
        ([None, 1], 1, 0, TypeError, "labels.dtype"),
        (LABELS, float("nan"), 0, ValueError, "num_per_class=nan"),
        (LABELS, 1.5, 0, ValueError, "num_per_class=1.5"),
        (LABELS, "1", 0, TypeError, "num_per_class='1'"),
        (LABELS, 1, -1, ValueError, "seed=-1"),
        (LABELS, 1, 0.5, TypeError, "seed=0.5"),
    ],
)
def test_what_has_no_subset(labels, count, seed, error, message):
    with pytest.raises(error, match=message):
        class_balanced_subset(labels, count, seed)


def test_a_column_of_labels():
    column = np.asarray(LABELS)[:, None]
    np.testing.assert_array_equal(
        class_balanced_subset(column, 2), class_balanced_subset(LABELS, 2)
    )
