"""NT-Xent in blocks: exact, without a matrix of all pairs of views.

Let u be the normalized projections over the square root of the temperature,
so that the logits are s_ij = u_i . u_j, and the views of an image stand side by
side, so that views i and k are of one image if i // 2 == k // 2. The loss of
view i is then

    l_i - s_ip,    l_i = log sum_k exp(s_ik),

with p its partner and k over the views that it is compared with. Where the
loss has the gradient g_i with respect to l_i,

    dL/du_i = sum_k (g_i exp(s_ik - l_i) + g_k exp(s_ik - l_k)) u_k.

With l at hand, a block of s is all that a block of this sum needs: it is
computed once for l and again for the gradient, and forgotten both times. The
gradient of the temperature comes by way of u. On one replica s is symmetric: a
block below the diagonal serves the one above it too, so that value and gradient
cost the work of two products of all pairs where those of the dense form are
three.

A replica of `tf.distribute` has its own rows and the columns of all replicas.
It computes the whole gradient of its own projections, of which the losses of
the other replicas' views are a part, and gathers their l and g for it: 2 x 2N
numbers, where the gradient of gathered projections is a sum over the replicas
of 2N x D.
"""

import keras
from keras import ops

from simclr_keras import distribution, keras_private

# Stands for minus infinity in a softmax: finite, so that no NaN can come of
# it, and below every similarity over every sensible temperature.
LOWEST = -1e9


def tiled_log_sums(u, largest, block_size, decoupled):
    """The logarithms l of the denominators of NT-Xent.

    Args:
        u: Float tensor (n, 2, D): normalized projections of this replica's
            pairs of views over the square root of the temperature.
        largest: Number or scalar tensor that no logit exceeds, either way.
        block_size: Rows and columns of a block at most, a positive integer.
        decoupled: Whether the partner is left out of the denominator.

    Returns:
        Float tensor (2n,): those of the first views, then of the second.
    """
    u = ops.reshape(u, (-1, u.shape[-1]))  # (2n, D)
    is_narrow = largest < _safe_exponent(u.dtype)
    if not isinstance(is_narrow, bool):
        is_narrow = ops.stop_gradient(is_narrow)
    log_sums = _log_sums_with_gradient(u, is_narrow, block_size, decoupled)
    return ops.reshape(ops.transpose(ops.reshape(log_sums, (-1, 2))), (-1,))


def _log_sums_with_gradient(u, is_narrow, block_size, decoupled):
    @ops.custom_gradient
    def function(u):
        # TensorFlow would record each block for a gradient of its own.
        u = ops.stop_gradient(u)
        tiles = _Tiles(u, is_narrow, block_size, decoupled)
        log_sums = tiles.log_sums()

        def gradient(*args, upstream=None):
            # PyTorch has it by name, the others as the only argument.
            upstream = args[0] if upstream is None else upstream
            return tiles.gradient(log_sums, ops.stop_gradient(upstream))

        return log_sums, gradient

    return function(u)


class _Tiles:
    """The logits of a replica's views and all views, block by block.

    Args:
        u: Float tensor (2n, D): this replica's views, as above.
        is_narrow: Whether no exponential of a logit can overflow or vanish;
            boolean or boolean tensor.
        block_size: Rows and columns of a block at most.
        decoupled: Whether all views of an image are left out of its
            denominators, or just the view itself.
    """

    def __init__(self, u, is_narrow, block_size, decoupled):
        self.is_narrow = is_narrow
        self.decoupled = decoupled
        self.is_symmetric = distribution.num_replicas() == 1
        all_u = distribution.all_gather(u)  # (2N, D)
        self.num_rows, self.num_columns = ops.shape(u)[0], ops.shape(all_u)[0]
        # Of one size, so that the last is not mostly padding.
        self.size = divide_up(
            self.num_columns, divide_up(self.num_columns, block_size)
        )
        self.start = 0
        # (blocks, size, D)
        self.rows = self.columns = in_blocks(all_u, self.size)
        if not self.is_symmetric:
            self.start = 2 * distribution.first_index(self.num_rows // 2)
            self.rows = in_blocks(u, self.size)
        sizes = self.num_rows, self.num_columns, self.size
        self.is_padded = not (
            all(isinstance(size, int) for size in sizes)
            and self.num_rows % self.size == 0
            and self.num_columns % self.size == 0
        )

    def log_sums(self):
        """The l of this replica's views (2n,)."""

        def of_block(i, j):
            return self.log_sums_of_block(self.logits(i, j))

        rows = self.reduce(of_block, _log_add_exp, LOWEST, ())
        return ops.reshape(rows, (-1,))[: self.num_rows]

    def gradient(self, log_sums, upstream):
        """dL/du of this replica's views (2n, D), given l and g, both (2n,)."""
        own = ops.stack([log_sums, upstream], axis=-1)  # (2n, 2)
        columns = in_blocks(distribution.all_gather(own), self.size)
        rows = columns if self.is_symmetric else in_blocks(own, self.size)

        def of_block(i, j):
            weights = self.weights(self.logits(i, j), rows[i], columns[j])
            to_rows = ops.matmul(weights, self.columns[j])
            if not self.is_symmetric:
                return to_rows, None
            return to_rows, ops.matmul(ops.transpose(weights), self.rows[i])

        dim = self.rows.shape[-1]
        total = self.reduce(of_block, ops.add, 0.0, (dim,))
        return ops.reshape(total, (-1, dim))[: self.num_rows]

    def logits(self, i, j):
        """Block (i, j) of s (size, size), far below where k is left out."""
        s = ops.matmul(self.rows[i], ops.transpose(self.columns[j]))
        first_row = self.start + i * self.size
        first_column = j * self.size
        last = self.size - 1
        is_masked = (
            # It holds views of the same image, or padding.
            (first_row // 2 <= (first_column + last) // 2)
            & (first_column // 2 <= (first_row + last) // 2)
        ) | (
            (first_row + last >= self.start + self.num_rows)
            | (first_column + last >= self.num_columns)
        )

        def masked():
            view = ops.arange(self.size, dtype="int32")
            row = (first_row + view)[:, None]
            column = (first_column + view)[None, :]
            is_out = (
                row // 2 == column // 2 if self.decoupled else row == column
            )
            if self.is_padded:
                is_out = is_out | (row >= self.start + self.num_rows)
                is_out = is_out | (column >= self.num_columns)
            return ops.where(is_out, LOWEST, s)

        return _cond(is_masked, masked, lambda: s)

    def log_sums_of_block(self, s):
        """The log sum exp over the columns of a block, and over its rows."""

        def narrow():
            # Where exp(s) cannot overflow one of each logit is enough.
            e = ops.exp(s)
            ones = ops.ones((ops.shape(s)[0], 1), dtype=s.dtype)
            rows = ops.log(ops.matmul(e, ones))[:, 0]
            columns = ops.log(ops.matmul(ops.transpose(ones), e))[0]
            return rows, columns

        def wide():
            return ops.logsumexp(s, axis=1), ops.logsumexp(s, axis=0)

        return _cond(self.is_narrow, narrow, wide)

    def weights(self, s, rows, columns):
        """g_i exp(s_ik - l_i) + g_k exp(s_ik - l_k) of a block's pairs.

        Args:
            s: Block of logits (size, size).
            rows: l and g of its rows (size, 2).
            columns: l and g of its columns (size, 2).
        """
        l_i, g_i = rows[:, :1], rows[:, 1:]
        l_k, g_k = columns[None, :, 0], columns[None, :, 1]

        def narrow():
            factors = g_i * ops.exp(-l_i) + g_k * ops.exp(-l_k)
            return ops.exp(s) * factors

        def wide():
            return g_i * ops.exp(s - l_i) + g_k * ops.exp(s - l_k)

        return _cond(self.is_narrow, narrow, wide)

    def reduce(self, of_block, add, zero, shape):
        """Adds up what blocks give to their rows.

        Args:
            of_block: Function from the block (i, j) to what it gives to its
                rows and to its columns, both (size, *shape). A column of a
                symmetric matrix is a row, to which it is added; otherwise it
                is ignored.
            add: Function of two tensors, `ops.add` or `_log_add_exp`.
            zero: Number that `add` leaves everything with.
            shape: Of what one row has.

        Returns:
            Tensor (blocks, size, *shape).
        """
        num_rows = ops.shape(self.rows)[0]
        dtype = self.rows.dtype
        zeros = ops.full((self.size, *shape), zero, dtype=dtype)
        if not self.is_symmetric:
            num_columns = ops.shape(self.columns)[0]
            return _reduce(of_block, add, zeros, num_rows, num_columns)

        def of_one_block():
            return of_block(0, 0)[0][None]

        def of_many_blocks():
            return _reduce_symmetric(of_block, add, zeros, num_rows)

        # XLA wants to know sizes within a branch.
        if keras_private.in_xla() and not isinstance(num_rows, int):
            return of_many_blocks()
        return _cond(num_rows == 1, of_one_block, of_many_blocks)


def _reduce_symmetric(of_block, add, zeros, num_blocks):
    """`_Tiles.reduce` by the blocks on and below the diagonal.

    Row i of blocks goes from left to right, so that what it adds up to is
    there when the diagonal is reached, before anything else adds to it.
    """
    blocks = ops.arange(num_blocks, dtype="int32")

    def row(i, totals):
        def column(total_i, j):
            total_j = totals[j]

            def below():
                to_rows, to_columns = of_block(i, j)
                return add(total_i, to_rows), add(total_j, to_columns)

            def diagonal():
                total = add(total_i, of_block(i, j)[0])
                return total, total

            def above():
                return total_i, total_j

            return _cond(j < i, below, lambda: _cond(j > i, above, diagonal))

        return ops.scan(column, zeros, blocks)[1]

    totals = ops.broadcast_to(zeros, (num_blocks, *ops.shape(zeros)))
    return ops.fori_loop(0, num_blocks, row, totals)


def _reduce(of_block, add, zeros, num_rows, num_columns):
    """`_Tiles.reduce` by all blocks."""

    def row(unused, i):
        total = ops.fori_loop(
            0,
            num_columns,
            lambda j, total: add(total, of_block(i, j)[0]),
            zeros,
        )
        return unused, total

    return ops.scan(row, zeros, ops.arange(num_rows, dtype="int32"))[1]


def _cond(condition, true, false):
    """`ops.cond`, decided at once where it can be."""
    if isinstance(condition, bool):
        return true() if condition else false()
    return ops.cond(condition, true, false)


def _log_add_exp(a, b):
    """log(exp(a) + exp(b)), in their dtype; b may be minus infinity.

    That of `ops.logaddexp` is float32 on JAX (Keras 3.15).
    """
    return ops.maximum(a, b) + ops.log1p(ops.exp(-ops.abs(a - b)))


def in_blocks(x, size):
    """Rows of a tensor (n, ...) as (blocks, size, ...), padded by zeros."""
    num_rows = ops.shape(x)[0]
    num_blocks = divide_up(num_rows, size)
    missing = num_blocks * size - num_rows
    if isinstance(missing, int) and missing == 0:
        return ops.reshape(x, (num_blocks, size, *x.shape[1:]))
    padding = ops.zeros((missing, *x.shape[1:]), dtype=x.dtype)
    x = ops.concatenate([x, padding])
    return ops.reshape(x, (num_blocks, size, *x.shape[1:]))


def divide_up(a, b):
    """The least integer that is no less than a / b, of integers or tensors."""
    return (a + b - 1) // b


def is_symbol(size):
    """Whether a size is one of JAX's symbols, which cannot be compared.

    JAX computes with sizes that are known; symbols stand where Keras asks for
    shapes alone, and there the form without blocks will do.
    """
    return not (size is None or isinstance(size, int) or ops.is_tensor(size))


def _safe_exponent(dtype):
    """Up to which x sums of exp(x) and exp(-x) are normal numbers."""
    is_double = keras.backend.standardize_dtype(dtype) == "float64"
    return 300.0 if is_double else 38.0
