"""Random numbers that are a function of where they are used.

An ordinary generator hands out numbers in the order they are asked for, so
what an image gets depends on how a batch is cut into replicas or
micro-batches, and on whether XLA compiled the draw. Here a number is a hash of
(seed, step, image, number of the draw): the same on every backend, in eager
mode, in a graph and under XLA, and for every way of cutting the batch.
"""

from keras import ops

# Rotations of Threefry-2x32 (Salmon et al., 2011, Table 2) and the constant
# that completes its key schedule.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
# The second word of the counter of keys. Draws of images never reach it: theirs
# is below 2**31 as an unsigned word.
_FOLD = -1


def threefry(key, counter):
    """Threefry-2x32 with 20 rounds: a hash of two words under a key of two.

    All words are int32, whose additions wrap around on every backend; they
    stand for the unsigned words of the paper.

    Args:
        key: Pair of int32 tensors.
        counter: Pair of int32 tensors that broadcast with each other and with
            the key.

    Returns:
        Pair of int32 tensors of the broadcast shape: 64 random bits.

    Reference:
        - [Salmon et al., 2011](https://doi.org/10.1145/2063384.2063405),
          "Parallel random numbers: as easy as 1, 2, 3", Section 3.4.
    """
    k0, k1 = key
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = counter[0] + k0, counter[1] + k1
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = _rotate_left(x1, distance) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + (group + 1)
    return x0, x1


def fold_in(key, number):
    """Makes another key out of a key and a number.

    Args:
        key: Integer tensor (2,).
        number: Integer or int32 scalar tensor, at least 0. 0 gives the key
            itself.

    Returns:
        int32 tensor (2,).
    """
    key = ops.cast(key, "int32")
    if isinstance(number, int) and number == 0:
        return key
    number = ops.cast(number, "int32")
    folded = ops.stack(
        threefry((key[0], key[1]), (number, ops.full_like(number, _FOLD)))
    )
    return ops.where(number == 0, key, folded)


def uniform(key, index, count, stream=0):
    """Uniform numbers in [0, 1) for each image of a batch.

    Args:
        key: Integer tensor (2,): the seed and the step.
        index: int32 tensor (B,): each image's index in the global batch.
        count: How many numbers an image needs; an integer or, where an image
            of unknown size needs as many numbers as pixels, a scalar tensor.
        stream: Integer in [0, 2**11). Draws with the same key and index but
            another stream are independent. A stream holds 2**20 pairs of
            numbers for an image, then runs into the next.

    Returns:
        float32 tensor (B, count), multiples of 2**-24.

    Raises:
        ValueError: If `count` is an integer beyond the length of a stream.
    """
    if isinstance(count, int) and count > 2**21:
        raise ValueError(
            "An image can have at most 2**21 random numbers. Received: "
            f"count={count}. Draw for smaller images, after the crop."
        )
    pairs = (count + 1) // 2
    key = ops.cast(key, "int32")
    number = ops.arange(pairs, dtype="int32") + (stream << 20)
    words = threefry(
        (key[0], key[1]), (ops.cast(index, "int32")[:, None], number[None, :])
    )
    bits = ops.concatenate(words, axis=1)[:, :count]  # (B, count)
    halves = ops.stack([_shift_right(bits, 20), _shift_right(bits, 8) & 0xFFF])
    scales = ops.reshape(ops.array([2.0**-12, 2.0**-24]), (2, 1, 1))
    # XLA repeats cheap operations for every pixel that they end up in, but
    # not a sum: written so, the hash is computed once an image.
    return ops.sum(ops.cast(halves, "float32") * scales, axis=0)


def _rotate_left(x, distance):
    return ops.left_shift(x, distance) | _shift_right(x, 32 - distance)


def _shift_right(x, distance):
    # int32 shifts its sign in from the left; the mask takes it out again.
    return ops.right_shift(x, distance) & ((1 << (32 - distance)) - 1)
