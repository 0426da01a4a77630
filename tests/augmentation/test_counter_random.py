import zlib

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras import ops

from simclr_keras import augmentation
from simclr_keras.augmentation import counter_random

KEY = ops.array([3, 7], "int32")


def word(unsigned):
    return ops.array(np.array(unsigned, "uint32").view("int32"))


def uniform(index, count, key=KEY, stream=0):
    index = ops.array(index, "int32")
    return ops.convert_to_numpy(
        counter_random.uniform(key, index, count, stream)
    )


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [  # kat_vectors of Random123 1.14: threefry2x32, 20 rounds.
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x1CB996FC, 0xBB002BE7),
        ),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ],
)
def test_threefry_gives_the_known_answers(key, counter, expected):
    words = counter_random.threefry(
        tuple(word(k) for k in key), tuple(word(c) for c in counter)
    )
    words = [ops.convert_to_numpy(w)[()].view("uint32") for w in words]
    assert tuple(words) == expected


def test_uniform_is_the_upper_24_bits_of_the_hash():
    index, stream = 5, 9
    numbers = uniform([index], 6, stream=stream)[0]
    bits = [
        counter_random.threefry(
            (KEY[0], KEY[1]), (word(index), word((stream << 20) + pair))
        )
        for pair in range(3)
    ]
    bits = np.array([[int(w) for w in pair] for pair in bits])  # (3, 2)
    expected = (bits.T.reshape(-1) % 2**32 >> 8) / 2**24
    np.testing.assert_array_equal(numbers, expected)


def test_eager_graph_and_xla_give_the_same_bits():
    def draw(key, index):
        return counter_random.uniform(key, index, 9, stream=2047)

    index = ops.arange(100, dtype="int32")
    plain = ops.convert_to_numpy(draw(KEY, index))
    for options in ({}, {"jit_compile": True}):
        result = tf.function(draw, **options)(KEY, index)
        np.testing.assert_array_equal(result, plain)


def test_uniform_takes_a_count_that_only_the_graph_knows():
    draw = tf.function(lambda n: counter_random.uniform(KEY, [0, 1], n))
    for count in (4, 5):
        np.testing.assert_array_equal(
            draw(tf.constant(count)), uniform([0, 1], count)
        )


def test_a_row_follows_from_its_index_however_the_batch_is_cut():
    whole = uniform(np.arange(64), 5)
    pieces = [uniform(np.arange(64)[s::3], 5) for s in range(3)]
    for start, piece in enumerate(pieces):
        np.testing.assert_array_equal(piece, whole[start::3])


def test_seed_step_index_and_stream_each_change_every_row():
    plain = uniform(np.arange(64), 4)
    others = [
        uniform(np.arange(64), 4, key=ops.array([4, 7], "int32")),
        uniform(np.arange(64), 4, key=ops.array([3, 8], "int32")),
        uniform(np.arange(64), 4, stream=1),
        uniform(np.arange(64) + 64, 4),
    ]
    for other in others:
        assert np.all(np.any(other != plain, axis=1))
        # 256 pairs: a correlation of four sigma is 0.25.
        assert abs(np.corrcoef(other.ravel(), plain.ravel())[0, 1]) < 0.25


def test_uniform_is_uniform():
    count = 4
    numbers = uniform(np.arange(20_000), count)
    assert numbers.dtype == np.float32
    assert numbers.shape == (20_000, count)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.astype("float64").T:
        n = len(column)
        # Four sigma of the mean and of the variance of U(0, 1), whose fourth
        # central moment is 1/80.
        assert abs(column.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / n)
        sigma = np.sqrt((1 / 80 - 1 / 144) / n)
        assert abs(column.var() - 1 / 12) < 4 * sigma
        bins = np.bincount((column * 16).astype(int), minlength=16)
        assert scipy.stats.chisquare(bins).pvalue > 1e-3


def test_numbers_of_an_image_and_of_neighbours_are_not_correlated():
    numbers = uniform(np.arange(20_000), 9).astype("float64")
    shifted = np.concatenate([numbers[:-1], numbers[1:]], axis=1)  # (n, 18)
    correlation = np.corrcoef(shifted.T) - np.eye(18)
    # The columns of an image and those of the next one come twice, against
    # themselves and each other: 153 pairs, so five sigma rather than four.
    assert np.abs(correlation).max() < 5 / np.sqrt(len(shifted))


def test_every_layer_class_has_a_stream_of_its_own():
    names = [n for n in augmentation.__all__ if n.startswith("Random")]
    streams = {zlib.crc32(n.encode()) % 2**11 for n in names}
    assert len(names) >= 10
    assert len(streams) == len(names)


def test_layers_of_two_classes_with_one_seed_draw_independently():
    shape = (20_000, 8, 8, 3)
    gray = augmentation.RandomGrayscale(0.5, seed=1).draw(shape)["is_gray"]
    flipped = augmentation.RandomHorizontalFlip(0.5, seed=1).draw(shape)[
        "is_flipped"
    ]
    correlation = np.corrcoef(np.array(gray), np.array(flipped))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(shape[0])


def test_a_draw_beyond_the_stream_is_refused():
    key, index = ops.array([1, 2]), ops.arange(2)
    with pytest.raises(ValueError, match=f"count={2**21 + 1}"):
        counter_random.uniform(key, index, 2**21 + 1)
