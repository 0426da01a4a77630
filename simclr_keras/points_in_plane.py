"""Features as points in the plane, for a map of them."""

import numpy as np

# Fewer different points than this have too few neighbours for t-SNE.
MIN_POINTS_FOR_TSNE = 11


def points_in_plane(features, method="tsne", seed=0):
    """Points near each other where features are, and how they were found.

    Args:
        features: Finite float array (N, F), N of at least 2.
        method: "tsne", which keeps neighbours together, or "pca". Few points,
            and those of which nearly all are equal, are placed by PCA. Defaults
            to "tsne".
        seed: Integer. Defaults to 0.

    Returns:
        Float array (N, 2), and "t-SNE" or "PCA".

    Raises:
        ImportError: If scikit-learn is missing.
    """
    import threadpoolctl  # scikit-learn depends on it
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    # Squares of huge numbers would be infinite.
    features = np.asarray(features, "float64")
    features = features / max(np.abs(features).max(initial=0.0), 1e-300)
    count = min(50 if method == "tsne" else 2, *features.shape)
    with np.errstate(invalid="ignore"):  # shares of no variance
        points = PCA(count, random_state=seed).fit_transform(features)
    # Of a collapsed encoder all are equal, on which scikit-learn's t-SNE ends
    # the process by a segmentation fault (seen in 1.9.1).
    num_different = len(np.unique(points.astype("float32"), axis=0))
    if method != "tsne" or num_different < MIN_POINTS_FOR_TSNE:
        missing = max(0, 2 - points.shape[1])
        return np.pad(points[:, :2], ((0, 0), (0, missing))), "PCA"
    tsne = TSNE(
        perplexity=min(30, (len(points) - 1) / 3),
        init="pca" if count > 1 else "random",
        random_state=seed,
    )
    # On a busy machine its threads mostly wait for each other.
    with threadpoolctl.threadpool_limits(1):
        return tsne.fit_transform(points), "t-SNE"
