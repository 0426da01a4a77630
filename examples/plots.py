"""The pictures of a run: views, loss curve, map of the representations."""

import numpy as np

MAX_POINTS = 1000


def plot_views(path, images, views, value_range):
    """Images in the top row, two random views of each below.

    Args:
        path: String, the PNG file to write.
        images: Array (N, H, W, C).
        views: Pair of arrays (N, h, w, C): a positive pair for each image.
        value_range: Pair (low, high): the values of black and white.
    """
    plt = _pyplot()
    low, high = value_range
    rows = [np.asarray(batch, "float32") for batch in (images, *views)]
    figure, axes = plt.subplots(
        3, len(images), figsize=(1.2 * len(images), 3.8), squeeze=False
    )
    for row, batch, title in zip(
        axes, rows, ("image", "view 1", "view 2"), strict=True
    ):
        row[0].set_ylabel(title)
        for axis, image in zip(row, batch, strict=True):
            image = np.clip((image - low) / (high - low), 0, 1)
            if image.shape[-1] not in (1, 3):
                image = image[..., :1]
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
    _save(figure, path)


def plot_history(path, history):
    """The loss, and how often a view finds its partner, over the epochs.

    Args:
        path: String, the PNG file to write.
        history: A `HistoryFile`.
    """
    plt = _pyplot()
    epochs = history.column("epoch")
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    axis.plot(epochs, history.column("loss"), color="C0", label="loss")
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss (nats)")
    share = axis.twinx()
    for color, name in (
        ("C1", "contrastive_accuracy"),
        ("C2", "probe_accuracy"),
    ):
        values = history.column(name)
        if values:
            label = name.replace("_", " ")
            share.plot(epochs, values, color=color, label=label)
    share.set_ylim(0, 1)
    share.set_ylabel("accuracy")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    _save(figure, path)


def plot_representations(path, features, labels, class_names, title):
    """A map in which images with similar representations lie together.

    By t-SNE, from the first principal components.

    Args:
        path: String, the PNG file to write.
        features: Float array (N, F); at most 1,000 of them are drawn.
        labels: Integer array (N,), which colours the points, or None.
        class_names: Sequence of strings, or None.
        title: String.
    """
    import threadpoolctl  # scikit-learn depends on it
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    plt = _pyplot()
    chosen = np.random.default_rng(0).permutation(len(features))[:MAX_POINTS]
    points = features[chosen]
    num_components = min(50, *points.shape)
    points = PCA(num_components, random_state=0).fit_transform(points)
    if len(points) > 10:  # t-SNE needs some neighbours
        perplexity = min(30, (len(points) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
        # On a busy machine its threads mostly wait for each other.
        with threadpoolctl.threadpool_limits(1):
            points = tsne.fit_transform(points)
    figure, axis = plt.subplots(figsize=(6, 6), layout="constrained")
    if labels is None:
        axis.scatter(*points[:, :2].T, s=8)
    else:
        labels = labels[chosen]
        scatter = axis.scatter(*points[:, :2].T, s=8, c=labels, cmap="tab10")
        classes = np.unique(labels)
        if len(classes) <= 20:
            names = [class_names[label] for label in classes]
            handles, _ = scatter.legend_elements(num=list(classes))
            axis.legend(
                handles,
                names,
                fontsize=8,
                loc="upper left",
                bbox_to_anchor=(1, 1),  # beside the map, not on it
            )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(f"{title} ({len(points)} images, t-SNE)")
    _save(figure, path)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")  # files only: there may be no screen
    import matplotlib.pyplot as plt

    return plt


def _save(figure, path):
    figure.savefig(path, dpi=120, bbox_inches="tight")
    _pyplot().close(figure)
