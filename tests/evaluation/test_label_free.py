import numpy as np
import pytest

from simclr_keras.evaluation import (
    PairSimilarity,
    alignment,
    contrastive_accuracy,
    feature_std,
    pair_similarity,
    rank_me,
    uniformity,
)

OF_ROWS = [uniformity, rank_me, feature_std]
OF_VIEWS = [alignment, pair_similarity, contrastive_accuracy]


def make_views(num_rows=37, num_features=5, noise=0.7, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(num_rows, num_features)) + 0.3
    z_j = z + noise * rng.normal(size=z.shape)
    return z.astype("float32"), z_j.astype("float32")


def simplex(num_features):
    """The F + 1 vertices of a regular simplex around zero (F + 1, F)."""
    num_rows = num_features + 1
    centred = np.eye(num_rows) - 1 / num_rows
    # In coordinates of the space of F dimensions that they lie in.
    basis = np.linalg.svd(centred)[2][:num_features]
    return centred @ basis.T


def with_spectrum(singular_values, num_rows=50, seed=0):
    rng = np.random.default_rng(seed)
    dim = len(singular_values)
    u = np.linalg.qr(rng.normal(size=(num_rows, dim)))[0]
    v = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return u * singular_values @ v.T


# --- The measures as the papers state them, pair by pair, in float64 ---------
def unit(z):
    z = np.asarray(z, dtype="float64")
    return [row / np.linalg.norm(row) for row in z]


def alignment_loop(z_i, z_j, alpha=2):
    pairs = zip(unit(z_i), unit(z_j))
    return np.mean([np.linalg.norm(u - v) ** alpha for u, v in pairs])


def uniformity_loop(z, t=2):
    u = unit(z)
    n = range(len(u))
    return np.log(
        np.mean(
            [
                np.exp(-t * np.linalg.norm(u[i] - u[j]) ** 2)
                for i in n
                for j in n
                if i != j
            ]
        )
    )


def rank_me_loop(features):
    s = np.linalg.svd(np.asarray(features, "float64"), compute_uv=False)
    p = s / s.sum() + 1e-7
    return np.exp(-sum(p_k * np.log(p_k) for p_k in p))


def feature_std_loop(features):
    return np.mean([np.std(column) for column in zip(*unit(features))])


def cosines(z_i, z_j):
    return np.array([[u @ v for v in unit(z_j)] for u in unit(z_i)])


def pair_similarity_loop(z_i, z_j):
    cosine, is_pair = cosines(z_i, z_j), np.eye(len(z_i), dtype=bool)
    return cosine[is_pair].mean(), cosine[~is_pair].mean()


def contrastive_accuracy_loop(z_i, z_j):
    cosine = cosines(z_i, z_j)
    n = range(len(z_i))
    return np.mean(
        [all(cosine[i, i] > cosine[i, j] for j in n if j != i) for i in n]
    )


@pytest.mark.parametrize("batch_size", [1, 7, 36, 37, 1024])
@pytest.mark.parametrize("num_features", [1, 5, 60])
def test_equal_the_loops(batch_size, num_features):
    z_i, z_j = make_views(num_features=num_features)
    size = {"batch_size": batch_size}
    for measure, loop in (
        (uniformity, uniformity_loop),
        (rank_me, rank_me_loop),
        (feature_std, feature_std_loop),
    ):
        found = measure(z_i, **size)
        assert type(found) is float
        assert found == pytest.approx(loop(z_i), rel=1e-9)
    for measure, loop in (
        (alignment, alignment_loop),
        (pair_similarity, pair_similarity_loop),
    ):
        assert measure(z_i, z_j, **size) == pytest.approx(
            loop(z_i, z_j), rel=1e-9, abs=1e-12
        )
    if num_features > 1:  # Else there is nothing but ties and rounding.
        expected = contrastive_accuracy_loop(z_i, z_j)
        assert 0.1 < expected < 1 or num_features == 60
        assert contrastive_accuracy(z_i, z_j, **size) == expected


@pytest.mark.parametrize("power", [0.5, 1, 2, 3])
def test_powers_and_exponents(power):
    z_i, z_j = make_views()
    assert alignment(z_i, z_j, alpha=power) == pytest.approx(
        alignment_loop(z_i, z_j, power)
    )
    assert uniformity(z_i, t=power) == pytest.approx(
        uniformity_loop(z_i, power)
    )


# --- Closed forms ------------------------------------------------------------
def test_alignment_of_known_pairs():
    z, _ = make_views()
    assert alignment(z, z) == 0
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-12)
    assert alignment(z, -z) == pytest.approx(4)
    assert alignment(z, -z, alpha=1) == pytest.approx(2)
    quarter_turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    assert alignment(z[:, :2], z[:, :2] @ quarter_turn) == pytest.approx(2)
    assert alignment([[1, 0]], [[0, 1]]) == pytest.approx(2)  # A single pair.


@pytest.mark.parametrize("num_features", [1, 2, 3, 16])
@pytest.mark.parametrize("t", [0.5, 2])
def test_uniformity_of_a_simplex(num_features, t):
    # All pairs of vertices have the squared distance 2 (F + 1) / F.
    expected = -t * 2 * (num_features + 1) / num_features
    assert uniformity(simplex(num_features), t) == pytest.approx(expected)


def test_uniformity_of_equal_rows_is_0():
    assert uniformity(np.full((9, 4), 0.3)) == pytest.approx(0, abs=1e-12)


def test_uniformity_of_a_large_t_does_not_underflow():
    # exp(-1000 * 2 * 3 / 2) is 0 in float64.
    assert uniformity(simplex(2), t=1000) == pytest.approx(-3000, rel=1e-6)


@pytest.mark.parametrize(
    "singular_values", [[1, 1, 1], [5, 3, 1], [1, 1e-3, 1e-6], [7, 2, 0]]
)
def test_rank_me_of_known_spectra(singular_values):
    p = np.array(singular_values) / np.sum(singular_values) + 1e-7
    expected = np.prod(p**-p)
    for num_rows in 3, 50:
        features = with_spectrum(singular_values, num_rows)
        assert rank_me(features) == pytest.approx(expected, rel=1e-5)


def test_rank_me_counts_dimensions():
    assert rank_me(with_spectrum(np.ones(16))) == pytest.approx(16, rel=1e-5)
    assert rank_me(np.eye(5, 40)) == pytest.approx(5, rel=1e-5)
    half = np.concatenate([np.ones(8), np.zeros(8)])
    assert rank_me(with_spectrum(half)) == pytest.approx(8, rel=1e-4)
    # Of rank one: rows that are equal, but for their lengths and signs.
    one = np.arange(-5, 6)[:, None] * np.ones(16)
    assert rank_me(one) == pytest.approx(1, rel=1e-4)


def test_rank_me_is_not_centred():
    features = with_spectrum([4, 1])
    assert rank_me(features + 100) == pytest.approx(1, abs=0.1)
    assert rank_me(features) > 1.5


def test_rank_me_of_many_unused_dimensions():
    """What the rounding of the products costs, beside an SVD."""
    z, _ = make_views(300, 20)
    features = z @ np.random.default_rng(1).normal(size=(20, 200))
    features = features.astype("float32")
    assert rank_me(features) == pytest.approx(rank_me_loop(features), rel=1e-5)


@pytest.mark.parametrize("num_features", [2, 8, 64])
def test_feature_std_of_isotropic_normals(num_features):
    z = np.random.default_rng(0).normal(size=(20000, num_features))
    # An estimate of each dimension is off by some 1 / sqrt(2 * 20000).
    assert feature_std(z) == pytest.approx(num_features**-0.5, rel=0.01)


def test_feature_std_of_constant_rows_is_0():
    row = np.random.default_rng(0).normal(size=(1, 30))
    assert feature_std(np.repeat(row, 1000, axis=0), batch_size=300) == 0
    # Nor do lengths count.
    lengths = np.arange(1, 1001)[:, None]
    assert feature_std(lengths * row) == pytest.approx(0, abs=1e-7)


def test_similarity_of_pairs_made_by_hand():
    z_i = [[1, 0], [0, 2]]
    found = pair_similarity(z_i, [[3, 4], [0, -1]])
    # cos(1, 1') = 0.6, cos(2, 2') = -1; cos(1, 2') = 0, cos(2, 1') = 0.8.
    assert isinstance(found, PairSimilarity)
    assert found.positives == pytest.approx(-0.2)
    assert found.negatives == pytest.approx(0.4)
    assert pair_similarity(np.eye(7), np.eye(7)) == (1, 0)
    negatives = pair_similarity(simplex(4), simplex(4)).negatives
    assert negatives == pytest.approx(-1 / 4)


def test_accuracy_of_sets_made_by_hand():
    z = np.eye(6)
    assert contrastive_accuracy(z, z) == 1
    assert contrastive_accuracy(z, z[[1, 0, 2, 3, 4, 5]]) == 4 / 6
    assert contrastive_accuracy(z, np.roll(z, 1, axis=0)) == 0
    # The nearest second view is looked for, not the nearest first view.
    assert contrastive_accuracy([[1, 0], [1, 0.1]], [[1, 0], [0, 1]]) == 0.5


@pytest.mark.parametrize("batch_size", [1, 2, 3, 1024])
def test_ties_count_against_it(batch_size):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 33))
    twice = np.concatenate([z, 2 * z])  # Each second view is there twice.
    assert contrastive_accuracy(twice, twice, batch_size=batch_size) == 0
    assert contrastive_accuracy(z, z, batch_size=batch_size) == 1
    assert contrastive_accuracy(np.ones((9, 4)), np.ones((9, 4))) == 0


def test_rows_of_zeros_have_no_direction():
    z = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert alignment(z, z[::-1]) == 1
    assert uniformity(z, t=2) == pytest.approx(-2)
    assert pair_similarity(z, z) == (0.5, 0)
    assert contrastive_accuracy(z, z) == 0.5
    assert feature_std(z) == pytest.approx(0.25)
    zeros = np.zeros((4, 3))
    assert rank_me(zeros) == pytest.approx(1, abs=1e-4)
    assert feature_std(zeros) == 0
    assert uniformity(zeros) == 0


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_features_of_any_scale(scale):
    z_i, z_j = make_views()
    for measure in OF_ROWS:
        assert measure(z_i * scale) == pytest.approx(measure(z_i), rel=1e-5)
    for measure in OF_VIEWS:
        expected = pytest.approx(measure(z_i, z_j), rel=1e-5)
        assert measure(z_i * scale, z_j) == expected
        assert measure(z_i, z_j * scale) == expected


def test_16_bits_are_summed_in_64():
    z_i, z_j = (z.astype("float16") for z in make_views(100))
    assert uniformity(z_i) == pytest.approx(uniformity_loop(z_i))
    assert alignment(z_i, z_j) == pytest.approx(alignment_loop(z_i, z_j))


# --- What is refused ---------------------------------------------------------
def calls(z_i, z_j=None):
    z_j = z_i if z_j is None else z_j
    for measure in OF_ROWS:
        yield lambda: measure(z_i)  # noqa: B023
    for measure in OF_VIEWS:
        yield lambda: measure(z_i, z_j)  # noqa: B023


def test_shapes_and_values_are_checked():
    z, _ = make_views()
    for call in calls(z.reshape(37, 5, 1)):
        with pytest.raises(ValueError, match=r"shape=\(37, 5, 1\)"):
            call()
    for call in calls(np.where(z == z[0, 0], np.nan, z)):
        with pytest.raises(ValueError, match="1 values that are NaN"):
            call()
    for measure in OF_VIEWS:
        for other in z[:36], z[:, :4]:
            with pytest.raises(
                ValueError, match=r"same shape \(N, D\).*z_i.shape=\(37, 5\)"
            ):
                measure(z, other)


def test_a_single_row_is_refused():
    z, _ = make_views(1)
    for measure in OF_ROWS:
        with pytest.raises(ValueError, match=r"2 rows or more.*\(1, 5\)"):
            measure(z)
    for measure in pair_similarity, contrastive_accuracy:
        with pytest.raises(ValueError, match=r"2 rows or more.*\(1, 5\)"):
            measure(z, z)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_alpha_and_t_must_be_positive(value):
    z, _ = make_views()
    with pytest.raises(ValueError, match=f"`alpha`.*alpha={value}"):
        alignment(z, z, alpha=value)
    with pytest.raises(ValueError, match=f"`t`.*t={value}"):
        uniformity(z, t=value)


@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_batch_size_must_be_a_positive_integer(value):
    z, _ = make_views()
    for measure in OF_ROWS:
        with pytest.raises(ValueError, match=f"Received: batch_size={value}"):
            measure(z, batch_size=value)
    for measure in OF_VIEWS:
        with pytest.raises(ValueError, match=f"Received: batch_size={value}"):
            measure(z, z, batch_size=value)


@pytest.mark.parametrize("function", OF_ROWS)
@pytest.mark.parametrize(
    "features", ["abc", {}, [["a"]], [[1, 2], [3]], np.ones((3, 2), complex)]
)
def test_what_are_no_numbers(function, features):
    with pytest.raises(TypeError, match="must be an array of numbers"):
        function(features)


def test_powers_and_widths_that_are_no_numbers():
    z = np.eye(3)
    with pytest.raises(TypeError, match="`t` must be a positive number"):
        uniformity(z, t="2")
    with pytest.raises(TypeError, match="`alpha` must be a positive number"):
        alignment(z, z, alpha=None)
    with pytest.raises(ValueError, match="at most 100"):  # 2**1e9 is infinite
        alignment(z, z, alpha=1e9)
