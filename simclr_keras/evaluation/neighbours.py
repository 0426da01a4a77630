"""Nearest neighbours of representations, exactly, in bounded memory."""

import typing

import numpy as np
from keras import ops

from simclr_keras.evaluation.accelerator import (
    float32_products,
    has_accelerator,
)
from simclr_keras.evaluation.checks import (
    check_count,
    check_features,
    check_same_features,
)

# Rows of the bank that a block of queries is compared with at a time.
_BANK_ROWS = 8192
# Lengths between which float32 divides rows exactly enough.
_SHORTEST, _LONGEST = 1e-30, 1e30


class Neighbours(typing.NamedTuple):
    """The nearest rows of a bank.

    Attributes:
        similarity: float32 array (M, k), cosines in [-1, 1], the largest
            first.
        index: int32 array (M, k), the rows of the bank that they belong to.
    """

    similarity: np.ndarray
    index: np.ndarray


def nearest_neighbours(bank, queries=None, k=10, batch_size=2048):
    """The `k` rows of `bank` with the largest cosine similarity to each query.

    Every row is compared with every other: nothing is approximate. It runs on
    the accelerator where Keras's backend has one and by NumPy otherwise, and
    holds no more than `batch_size` x 8,192 similarities at a time.

    Args:
        bank: Float array (N, F), not normalised; float16 and float32 arrays,
            memory-mapped ones too, are used as they are.
        queries: Float array (M, F). None compares the bank with itself, where
            no row is a neighbour of its own. Defaults to None.
        k: Positive integer; where there are fewer rows, all of them. Defaults
            to 10.
        batch_size: Positive integer, rows of `queries` at a time. Defaults to
            2,048.

    Returns:
        `Neighbours`, the arrays `similarity` and `index`, both (M, k). A row
        of zeros has the similarity 0 to all others. Of equal similarities the
        one of the smaller index comes first (on an accelerator of PyTorch's,
        any).

    Raises:
        ValueError: If `k` or `batch_size` is not positive, features are not
            finite, or shapes do not fit together.

    Example:
        >>> import numpy as np
        >>> import simclr_keras
        >>> bank = np.array([[1.0, 0.0], [1.0, 0.5], [0.0, 2.0]])
        >>> found = simclr_keras.evaluation.nearest_neighbours(bank, k=1)
        >>> found.index.tolist()
        [[1], [0], [1]]
    """
    return Neighbours(
        *map(
            np.concatenate,
            zip(*each_neighbours(bank, queries, k, batch_size)),
        )
    )


def each_neighbours(
    bank,
    queries,
    k,
    batch_size,
    bank_name="bank",
    queries_name="queries",
):
    """`nearest_neighbours` for `batch_size` queries at a time.

    Args:
        bank, queries, k, batch_size: As there.
        bank_name, queries_name: Strings, what messages call them.

    Yields:
        `Neighbours` of those queries.
    """
    bank = check_features(bank, bank_name, keeps_float16=True)
    if queries is not None:
        queries = check_features(queries, queries_name, keeps_float16=True)
        check_same_features(bank, queries, bank_name, queries_name)
    k = min(check_count(k, "k"), len(bank) - (queries is None))
    batch_size = check_count(batch_size, "batch_size")
    if k < 1:
        raise ValueError(
            f"Without `{queries_name}` each row is compared with the others, "
            "so there must be at least 2. Received: "
            f"{bank_name}.shape={bank.shape}."
        )
    return _each(bank, queries, k, batch_size)


def _each(bank, queries, k, batch_size):
    search = _search_by_backend if has_accelerator() else _search_by_numpy
    lengths = _lengths(bank)
    is_itself = queries is None
    queries = bank if is_itself else queries
    for start in range(0, len(queries), batch_size):
        rows = queries[start : start + batch_size]
        blocks = _blocks(bank, lengths, start if is_itself else None)
        similarity, index = search(_normalize(rows, _lengths(rows)), blocks, k)
        # Rounding may give more than 1.
        similarity = np.clip(similarity, -1, 1)
        # Largest first; of equals the first row.
        order = np.lexsort((index, -similarity), axis=-1)
        yield Neighbours(
            np.take_along_axis(similarity, order, axis=1),
            np.take_along_axis(index, order, axis=1),
        )


def _blocks(bank, lengths, own_start):
    """Rows of the bank, of length 1, with their place.

    Yields:
        Triples: index of the first row; rows (n, F); for queries that are rows
        of the bank, the pair (queries, columns) of each with itself.
    """
    for start in range(0, len(bank), _BANK_ROWS):
        here = slice(start, start + _BANK_ROWS)
        keys = _normalize(bank[here], lengths[here])
        own = None
        if own_start is not None:
            column = np.arange(start, start + len(keys))
            own = (column - own_start, column - start)
        yield start, keys, own


def _search_by_numpy(queries, blocks, k):
    """The k most similar keys of each query, in any order.

    Once k are known, few others are more similar than the last of them. One
    comparison tells those, where a search for the largest k of each block takes
    as long as to compute the similarities.
    """
    best = np.empty((len(queries), 0), "float32")
    best_index = np.empty((len(queries), 0), "int32")
    memory = np.empty(len(queries) * _BANK_ROWS, "float32")  # Asked for once.
    for start, keys, own in blocks:
        shape = len(queries), len(keys)
        cosine = memory[: shape[0] * shape[1]].reshape(shape)
        np.matmul(queries, keys.T, out=cosine)
        _leave_out(cosine, own)
        if best.shape[1] < k:
            # The search for the first k, which is slow, is one among few.
            size = min(2 * k + 1000, len(keys))
            index = np.arange(start, start + size, dtype="int32")
            index = np.broadcast_to(index, (len(cosine), size))
            best, best_index = _largest(
                best, best_index, cosine[:, :size], index, k
            )
            cosine, start = cosine[:, size:], start + size
        if cosine.shape[1]:
            found = _above(cosine, best.min(axis=1), start)
            best, best_index = _largest(best, best_index, *found, k)
    return best, best_index


def _leave_out(cosine, own):
    if own is not None:
        row, column = own
        inside = (row >= 0) & (row < len(cosine))
        cosine[row[inside], column[inside]] = -np.inf


def _above(cosine, bound, start):
    """The similarities above a bound for each query, moved to the left."""
    # Three times as fast as `nonzero` of the matrix.
    place = np.flatnonzero(cosine > bound[:, None])
    row, column = np.divmod(place, cosine.shape[1])
    count = np.bincount(row, minlength=len(cosine))
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    shape = (len(cosine), count.max(initial=0))
    found = np.full(shape, -np.inf, "float32")
    index = np.zeros(shape, "int32")
    found[row, place] = cosine[row, column]
    index[row, place] = column + start
    return found, index


def _largest(best, best_index, values, index, k):
    """The largest k of each row, of those so far and of more."""
    values = np.concatenate([best, values], axis=1)
    index = np.concatenate([best_index, index], axis=1)
    if values.shape[1] <= k:
        return values, index
    place = np.argpartition(values, -k, axis=1)[:, -k:]
    chosen = np.take_along_axis(values, place, axis=1)
    # Of those that equal the last one any were chosen; wanted are the first.
    last = chosen.min(axis=1, keepdims=True)
    num_equal, num_chosen = (
        np.count_nonzero(each == last, axis=1) for each in (values, chosen)
    )
    tied = np.flatnonzero(num_equal > num_chosen)
    if len(tied):
        order = np.lexsort((index[tied], -values[tied]), axis=-1)
        place[tied] = order[:, :k]
    return (
        np.take_along_axis(values, place, axis=1),
        np.take_along_axis(index, place, axis=1),
    )


def _search_by_backend(queries, blocks, k):
    """As `_search_by_numpy`, where the backend is faster."""
    queries = ops.convert_to_tensor(queries)
    best = best_index = None
    for start, keys, own in blocks:
        keys = ops.transpose(ops.convert_to_tensor(keys))
        with float32_products():
            cosine = ops.matmul(queries, keys)
        if own is not None:
            is_own = ops.equal(
                ops.arange(len(queries))[:, None] + own[1][0] - own[0][0],
                ops.arange(keys.shape[1]),
            )
            cosine = ops.where(is_own, -np.inf, cosine)
        cosine, index = ops.top_k(cosine, min(k, keys.shape[1]))
        index = ops.cast(index, "int32") + start
        if best is not None:
            cosine = ops.concatenate([best, cosine], axis=1)
            index = ops.concatenate([best_index, index], axis=1)
            cosine, place = ops.top_k(cosine, min(k, cosine.shape[1]))
            index = ops.take_along_axis(index, place, axis=1)
        best, best_index = cosine, index
    return ops.convert_to_numpy(best), ops.convert_to_numpy(best_index)


def _lengths(features):
    """The length of each row, float64 (N, 1); 1 for a row of zeros."""
    found = np.empty((len(features), 1))
    for start in range(0, len(features), _BANK_ROWS):
        rows = np.asarray(features[start : start + _BANK_ROWS], "float64")
        found[start : start + _BANK_ROWS, 0] = np.sqrt(
            np.einsum("nf,nf->n", rows, rows)
        )
    return np.where(found > 0, found, 1.0)


def _normalize(rows, lengths):
    """Rows divided by their lengths, float32."""
    if lengths.min() > _SHORTEST and lengths.max() < _LONGEST:
        return np.asarray(rows, "float32") / lengths.astype("float32")
    return (np.asarray(rows, "float64") / lengths).astype("float32")
