"""Logistic regression by L-BFGS, on Keras's backend, from rows in chunks."""

import functools

import keras
import numpy as np
from keras import ops

from simclr_keras.evaluation.accelerator import (
    float32_products,
    has_accelerator,
    resident_bytes,
)

# Bytes of a chunk's rows or logits, in float32. On processors both stay in the
# cache; an accelerator is kept busy by more.
_CHUNK_BYTES, _CHUNK_BYTES_ACCELERATOR = 2**23, 2**28
# With more features than this the factor of their covariance costs too much.
_MOST_FEATURES = 4096
# SciPy ends only where float32 tells two losses apart no more.
_SMALLEST_CHANGE, _LEAST_ABOVE = 1e-10, 1e-9


class LogisticRegression:
    """Multinomial logistic regression, or binomial for two classes.

    Minimises, with a vector of weights for each class (for two classes one for
    both, as scikit-learn does),

        mean over rows of cross_entropy(W h + b, class) + l2 / 2 |W|^2

    Losses and gradients are summed over chunks of rows on Keras's backend, in
    float32. SciPy's L-BFGS does the rest, in the coordinates V = W L, where
    L L^T = c Cov(h) + l2 is the second derivative at W = 0. So it takes few
    iterations too where few directions hold most of the variance, as is usual
    of representations. There |gradient|^2 / 2, divided by what the second
    derivative has shrunk to, tells about how far the loss lies above the
    minimum, and so when to stop.

    Args:
        rows: `StandardizedRows` (N, F), h.
        classes: Integer array (N,) in [0, num_classes).
        num_classes: Integer, 2 or more.
        max_iterations: Positive integer, the limit of L-BFGS for each fit.
        tolerance: Positive float. A fit ends where the loss lies about so far
            above the minimum, relative to the loss or, if that is less, to
            what the weights take from it.

    Attributes:
        weights: float64 array (K, F), K = 1 for two classes, otherwise
            `num_classes`. A fit starts from those of the one before.
        bias: float64 array (K,).
        loss: Float, what was minimised, of the last fit.
        num_passes: Integer, how often all rows were read, in all fits.
    """

    def __init__(
        self, rows, classes, num_classes, max_iterations, tolerance=1e-5
    ):
        try:
            import scipy.linalg
            import scipy.optimize
        except ImportError as error:
            raise ImportError(
                'Linear evaluation with `solver="keras"` needs SciPy. Install '
                'it with pip install "simclr_keras[examples]".'
            ) from error
        self._minimize = scipy.optimize.minimize
        self._solve_triangular = scipy.linalg.solve_triangular
        self.rows, self.num_classes = rows, num_classes
        self.classes = np.asarray(classes, "int32")
        self.max_iterations, self.tolerance = max_iterations, tolerance
        num_vectors = 1 if num_classes == 2 else num_classes
        self.weights = np.zeros((num_vectors, rows.dim))
        # The best without weights.
        share = np.bincount(self.classes, minlength=num_classes) / len(rows)
        bias = np.log(np.maximum(share, 1e-9))
        self._without_weights = -np.sum(share * bias)
        bias -= bias[0] if num_classes == 2 else bias.mean()
        self.bias = bias[-num_vectors:]
        self.loss, self.num_passes = None, 0
        mean = np.zeros(rows.dim) if rows.mean is None else rows.mean
        self._scaling = _tensor(mean), _tensor(1 / np.float64(rows.deviation))
        self._on_device = None
        self._add_gradient = _compiled(_add_gradient)
        self._covariance = None
        if rows.dim <= min(len(rows), _MOST_FEATURES):
            _, products = self._sum(
                _compiled(_add_products), (rows.dim, rows.dim)
            )
            self._covariance = products / len(rows)

    def fit(self, l2):
        """Finds weights and bias for a positive float l2."""
        shape = len(self.bias), self.rows.dim + 1
        curvature, factor, inverse, unit = self._coordinates(l2)

        def weights_and_bias(point):
            point = point.reshape(shape)
            return np.dot(point[:, :-1], inverse), point[:, -1] * unit

        def loss_and_gradient(point):
            weights, bias = weights_and_bias(point)
            loss, in_weights, in_bias = self._cross_entropy(weights, bias)
            in_weights += l2 * weights
            gradient = [np.dot(in_weights, inverse.T), in_bias * unit]
            loss += l2 / 2 * np.sum(weights**2)
            return loss, np.column_stack(gradient).ravel()

        start = [np.dot(self.weights, factor), self.bias / unit]
        start = np.column_stack(start).ravel()
        last = loss_and_gradient(start)
        # L-BFGS tries a step of length 1 first. In this unit that is Newton's.
        length = np.linalg.norm(last[1]) or 1.0

        def scaled(point):
            nonlocal last
            if num_tried[0]:
                last = loss_and_gradient(length * point)
            num_tried[0] += 1
            return last[0], length * last[1]

        def stop_near_the_minimum(intermediate_result):
            # The point that was accepted is the last one that was tried.
            loss, gradient = last
            # As p (1 - p) falls, so does the second derivative.
            shrunk = min(1.0, self._curvature / curvature)
            above = np.sum(gradient**2) / (2 * max(shrunk, 1e-9))
            # With strong l2 the weights explain little of the loss, and what
            # they explain decides who is right.
            explained = min(loss, self._without_weights - loss)
            if above <= max(self.tolerance * explained, _LEAST_ABOVE):
                raise StopIteration

        num_tried = [0]
        found = self._minimize(
            scaled,
            start / length,
            jac=True,
            method="L-BFGS-B",
            callback=stop_near_the_minimum,
            options={
                "maxiter": self.max_iterations,
                "gtol": 0.0,
                "ftol": _SMALLEST_CHANGE,
            },
        )
        self.weights, self.bias = weights_and_bias(length * found.x)
        self.loss = float(found.fun)

    def scores(self, rows):
        """Logits of rows, as many at a time as a chunk has.

        Yields:
            float32 arrays (n, num_classes), in the order of the rows.
        """
        weights, bias = self._tensors(self.weights, self.bias)
        for x in _chunks(rows, self._chunk_rows()):
            with float32_products():
                logits = _logits(_scaled(x, *self._scaling), weights, bias)
            yield ops.convert_to_numpy(logits)

    def _coordinates(self, l2):
        """c, L, its inverse (both (F, F) or numbers), the unit of the bias."""
        # p (1 - p) where all classes are alike.
        curvature = (1 - 1 / self.num_classes) / self.num_classes
        unit = curvature**-0.5
        # As if features had nothing to do with each other.
        plain = np.sqrt(curvature + l2)
        if self._covariance is None:
            return curvature, plain, 1 / plain, unit
        matrix = curvature * self._covariance
        # The last digits of sums in float32 could make it indefinite.
        matrix[np.diag_indices(len(matrix))] += (
            l2 + 1e-6 * np.diagonal(matrix).mean()
        )
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:  # One row outweighs all others.
            return curvature, plain, 1 / plain, unit
        inverse = self._solve_triangular(
            factor, np.eye(len(factor)), lower=True
        )
        return curvature, factor, inverse, unit

    def _tensors(self, weights, bias):
        return _tensor(weights), _tensor(bias)

    def _cross_entropy(self, weights, bias):
        """The mean over rows, and its derivatives (K, F) and (K,)."""
        self.num_passes += 1
        (loss, spread), gradient = self._sum(
            self._add_gradient,
            (len(self.bias), self.rows.dim + 1),
            *self._tensors(weights, bias),
        )
        gradient /= len(self.rows)
        self._curvature = spread / len(self.rows) / self.num_classes
        return (
            loss / len(self.rows),
            gradient[:, :-1],
            gradient[:, -1],
        )

    def _sum(self, add, shape, *arguments):
        """Sums over all rows of what `add` adds, in float64."""
        total = rest = ops.zeros(shape, "float32")
        numbers, before = np.zeros(2), None
        for x, classes in self._labelled_chunks():
            with float32_products():
                two, total, rest = add(
                    total, rest, x, classes, *self._scaling, *arguments
                )
            # A backend that computes later has no more than two chunks to do.
            if before is not None:
                numbers += ops.convert_to_numpy(before)
            before = two
        numbers += ops.convert_to_numpy(before)
        total, rest = (
            ops.convert_to_numpy(each).astype("float64")
            for each in (total, rest)
        )
        return numbers, total + rest

    def _labelled_chunks(self):
        """Pairs of tensors: rows as they are stored, and classes."""
        if self._on_device is not None:
            return self._on_device
        size = self._chunk_rows()
        chunks = zip(
            _chunks(self.rows, size),
            (
                ops.convert_to_tensor(self.classes[start : start + size])
                for start in range(0, len(self.rows), size)
            ),
        )
        item_bytes = self.rows.features.dtype.itemsize
        num_bytes = len(self.rows) * self.rows.dim * item_bytes
        if num_bytes <= resident_bytes():
            self._on_device = chunks = list(chunks)
        return chunks

    def _chunk_rows(self):
        num_bytes = _CHUNK_BYTES
        if has_accelerator():
            num_bytes = _CHUNK_BYTES_ACCELERATOR
        return max(1, num_bytes // (4 * max(self.rows.dim, self.num_classes)))


def _chunks(rows, size):
    """Tensors of rows as they are stored."""
    for start in range(0, len(rows), size):
        yield ops.convert_to_tensor(rows.stored(start, start + size))


def _tensor(array):
    return ops.convert_to_tensor(array.astype("float32"))


def _scaled(x, mean, inverse):
    # Here, and not in the weights: sums of huge numbers would be infinite.
    return (ops.cast(x, "float32") - mean) * inverse


def _logits(x, weights, bias):
    """(n, num_classes); of two classes the first has 0."""
    logits = ops.matmul(x, ops.transpose(weights)) + bias
    if logits.shape[1] == 1:
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=1)
    return logits


def _add_gradient(total, rest, x, classes, mean, inverse, weights, bias):
    """Adds the derivatives of a chunk's cross entropies.

    Args:
        total, rest: Tensors (K, F + 1), the sum of those before.
        x: Tensor (n, F), features as they are stored.
        classes: Integer tensor (n,).
        mean: Tensor (F,).
        inverse: Scalar tensor, 1 / the deviation.
        weights, bias: Tensors (K, F) and (K,).

    Returns:
        The chunk's sums of cross entropies and of p (1 - p) over rows and
        classes, in a tensor (2,), and `total` and `rest`.
    """
    x = _scaled(x, mean, inverse)
    logits = _logits(x, weights, bias)  # (n, C)
    logits = logits - ops.max(logits, axis=1, keepdims=True)
    power = ops.exp(logits)
    normalizer = ops.sum(power, axis=1, keepdims=True)
    is_class = ops.one_hot(classes, logits.shape[1], dtype="float32")
    loss = ops.sum(
        ops.log(normalizer)[:, 0] - ops.sum(is_class * logits, axis=1)
    )
    p = power / normalizer
    spread = ops.sum(p * (1 - p))
    error = p - is_class
    if weights.shape[0] == 1:
        error = error[:, 1:]
    error = ops.transpose(error)  # (K, n)
    gradient = ops.concatenate(
        [ops.matmul(error, x), ops.sum(error, axis=1, keepdims=True)], axis=1
    )
    return ops.stack([loss, spread]), *_add(total, rest, gradient)


def _add_products(total, rest, x, classes, mean, inverse):
    """As `_add_gradient`, of the products (F, F) of scaled features."""
    x = _scaled(x, mean, inverse)
    products = ops.matmul(ops.transpose(x), x)
    return ops.zeros(2), *_add(total, rest, products)


def _add(total, rest, value):
    """Keeps what rounding to float32 takes from a sum (Kahan, Knuth)."""
    new = total + value
    added = new - total
    lost = (total - (new - added)) + (value - added)
    return new, rest + lost


def _compiled(function):
    """A function of tensors, compiled where the backend can."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # One for each regression, whose shapes are its own. TensorFlow counts
        # traces by the code, and would warn of them; a partial has none.
        function = functools.partial(function)
        return tf.function(function, autograph=False, reduce_retracing=True)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function
