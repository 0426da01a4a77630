"""Maps of features that are hard: a collapsed encoder's, huge ones."""

import numpy as np
import pytest

from simclr_keras.points_in_plane import points_in_plane

pytest.importorskip("sklearn")
RNG = np.random.default_rng(0)
ROW = RNG.normal(size=(1, 10))
# Name -> features (60, F), and by what they are placed.
FEATURES = {
    "zeros": (np.zeros((60, 10)), "PCA"),
    "all equal": (np.repeat(ROW, 60, axis=0), "PCA"),
    "equal but for rounding": (ROW + 1e-7 * RNG.normal(size=(60, 10)), "t-SNE"),
    "two": (RNG.normal(size=(2, 10))[RNG.integers(0, 2, 60)], "PCA"),
    "many zeros": (np.maximum(RNG.normal(size=(60, 10)) - 1, 0), "t-SNE"),
    "huge": (1e30 * RNG.normal(size=(60, 10)), "t-SNE"),
    "tiny": (1e-30 * RNG.normal(size=(60, 10)), "t-SNE"),
    "one column": (RNG.normal(size=(60, 1)), "t-SNE"),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float32") for name in FEATURES),
        # What float16 can hold.
        *((name, "float16") for name in FEATURES if name != "huge"),
    ],
)
def test_every_kind_of_features_has_points(name, dtype):
    features, expected = FEATURES[name]
    features = features.astype(dtype)
    if not np.ptp(features, axis=0).any():
        expected = "PCA"  # rounded to one value
    points, method = points_in_plane(features)
    assert points.shape == (60, 2)
    assert np.isfinite(points).all()
    assert method == expected


def test_pca_is_a_projection():
    features = RNG.normal(size=(20, 5))
    points, method = points_in_plane(features, "pca")
    assert method == "PCA"
    centred = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = np.abs(centred @ axes[:2].T) / np.abs(features).max()
    np.testing.assert_allclose(np.abs(points), expected, atol=1e-9)
