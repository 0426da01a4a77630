"""Figures of what a model is trained on, how it learned, and what it learned.

Each function returns a `matplotlib.figure.Figure` and, if it is given a `path`,
writes it to a file. The figures do not belong to `pyplot`: nothing is left
open, and no display is needed. They need Matplotlib, and the map of the
representations scikit-learn: `pip install "simclr_keras[plots]"`.
"""

import collections.abc
import os

import numpy as np

from simclr_keras.argument_checks import check_names, to_array, to_labels
from simclr_keras.points_in_plane import points_in_plane
from simclr_keras.value_range import standardize_value_range

# More points than this overlap on a map.
MAX_POINTS = 1000
# As many as there are colors that can be told apart.
MAX_CLASSES_IN_LEGEND = 20
# Columns of `callbacks.HistoryCSV` that are no quantities of their own.
NOT_DRAWN = ("epoch", "step", "seconds")


def plot_views(images, views, value_range=(0, 255), path=None):
    """Images in the top row, and their random views in the rows below.

    What the augmentation does to the images of a data set is worth a look
    before training: a view should still show what its image shows.

    Args:
        images: Array (N, H, W, C), a few images: each is a column. One or
            three channels are drawn; of another number only the first is.
        views: Sequence of arrays (N, h, w, C), such as a positive pair.
        value_range: Pair (low, high), the values of black and white in both.
            Defaults to (0, 255).
        path: String, the image file to write. None writes none. Defaults to
            None.

    Returns:
        A `matplotlib.figure.Figure`, with one panel per image and per view.

    Raises:
        ImportError: If Matplotlib is not installed.
        ValueError: If the arrays are not of the same number of images.

    Example:
        >>> import numpy as np, simclr_keras
        >>> images = np.random.randint(0, 256, (6, 32, 32, 3), "uint8")
        >>> augmentation = simclr_keras.SimCLRAugmentation(32, 32)
        >>> figure = simclr_keras.plots.plot_views(
        ...     images,
        ...     [augmentation(images), augmentation(images)],
        ...     path="views.png",
        ... )
    """
    if not np.iterable(views) or isinstance(views, (str, bytes, dict)):
        raise TypeError(
            "`views` must be a sequence of arrays. Received: views of type "
            f"{type(views).__name__}."
        )
    images = to_array("images", images, "float32")
    views = [
        to_array(f"views[{k}]", view, "float32") for k, view in enumerate(views)
    ]
    shapes = [x.shape for x in (images, *views)]
    if any(
        len(shape) != 4 or 0 in shape or shape[0] != shapes[0][0]
        for shape in shapes
    ):
        raise ValueError(
            "`images` and each of `views` must be arrays (N, H, W, C) with the "
            f"same N, and not empty. Received: shapes {shapes}."
        )
    value_range = standardize_value_range(value_range)
    rows = {"image": images}
    rows.update((f"view {n}", view) for n, view in enumerate(views, 1))
    low, high = value_range
    figure = _figure(figsize=(1.2 * len(images), 1.25 * len(rows)))
    panels = figure.subplots(len(rows), len(images), squeeze=False)
    for row, (name, batch) in zip(panels, rows.items()):
        row[0].set_ylabel(name)
        for panel, image in zip(row, batch):
            image = np.clip((image - low) / (high - low), 0, 1)
            if image.shape[-1] != 3:
                image = image[..., 0]
            panel.imshow(image, cmap="gray", vmin=0, vmax=1)
            panel.set_xticks([])
            panel.set_yticks([])
    return _save(figure, path)


def plot_history(history, path=None):
    """How the losses, the accuracies and the other logs went over the epochs.

    All losses share a panel, and so do all accuracies; every other quantity
    has one of its own. Values of the validation are dashed.

    Args:
        history: Dictionary from a name to its values, one per epoch: the
            `history` of what `fit` returns, of `callbacks.HistoryCSV` or of
            `callbacks.Checkpoints`. If it has "epoch", those are the numbers
            on the axis; otherwise they begin at 1.
        path: As in `plot_views`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If Matplotlib is not installed.
        ValueError: If there is nothing to draw.

    Example:
        >>> import simclr_keras
        >>> history = {
        ...     "loss": [4.2, 3.1, 2.8],
        ...     "contrastive_accuracy": [0.1, 0.4, 0.5],
        ... }
        >>> figure = simclr_keras.plots.plot_history(
        ...     history, path="history.png"
        ... )
    """
    if not isinstance(history, collections.abc.Mapping) or not all(
        isinstance(name, str) and np.ndim(to_array(name, values)) == 1
        for name, values in history.items()
    ):
        raise TypeError(
            "`history` must be a dictionary from names to their values, one "
            f"per epoch. Received: history={history!r}."
        )
    curves = {
        name: np.asarray(values, "float64")
        for name, values in history.items()
        if name not in NOT_DRAWN and len(values)
    }
    if not curves:
        raise ValueError(
            "`history` must have the values of at least one epoch. Received: "
            f"history={dict(history)!r}."
        )
    panels = {"loss": [], "accuracy": []}  # first, where there are any
    for name in curves:
        panels.setdefault(_quantity(name), []).append(name)
    panels = {quantity: names for quantity, names in panels.items() if names}
    num_epochs = max(map(len, curves.values()))
    epochs = np.asarray(history.get("epoch", range(1, num_epochs + 1)))

    figure = _figure(figsize=(6, 1 + 2.2 * len(panels)))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (quantity, names) in zip(axes, panels.items()):
        for name in names:
            values = curves[name]
            # Every so many epochs only: `fit(validation_freq=...)`.
            every = max(1, len(epochs) // len(values))
            axis.plot(
                epochs[every - 1 :: every][: len(values)],
                values,
                "--" if name.startswith("val_") else "-",
                # A line through one point is not seen.
                marker="o" if len(values) == 1 else None,
                label=name.replace("_", " "),
            )
        axis.set_ylabel(quantity)
        if quantity == "accuracy":
            axis.set_ylim(0, 1)
        if names != [quantity.replace(" ", "_")]:  # the axis says it already
            axis.legend(frameon=False)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return _save(figure, path)


def plot_representations(
    features, labels=None, class_names=None, title=None, path=None
):
    """A map on which images with similar representations lie together.

    The first 50 principal components are laid out in the plane by t-SNE
    ([van der Maaten and Hinton,
    2008](https://www.jmlr.org/papers/v9/vandermaaten08a.html)). Neighbors on
    the map are neighbors in the representation; distances between groups and
    their sizes mean little. The same features give the same map.

    Args:
        features: Float array (N, F), representations, such as those of
            `evaluation.extract_features`. At most 1,000 are drawn, chosen at
            random. Of 10 or fewer the first two principal components are.
        labels: Integer array (N,), the classes that color the points, or None.
            Defaults to None.
        class_names: Sequence of strings, the name of every class, for the
            legend, which up to 20 classes have. None takes the labels
            themselves. Defaults to None.
        title: String, put above the map. Defaults to None.
        path: As in `plot_views`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If Matplotlib or scikit-learn is not installed.
        ValueError: If the features are not an array (N, F) of finite numbers
            with N of at least 2, or the labels are not of as many images.

    Example:
        >>> import numpy as np, simclr_keras
        >>> figure = simclr_keras.plots.plot_representations(
        ...     np.random.normal(size=(30, 8)),
        ...     labels=np.arange(30) % 3,
        ...     class_names=["cat", "dog", "hen"],
        ...     path="representations.png",
        ... )
    """
    features = to_array("features", features)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            "`features` must be an array (N, F) with N of at least 2. "
            f"Received: features.shape={features.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("`features` must be finite. Received: NaN or inf.")
    if labels is not None:
        labels = to_labels("labels", labels)
    if labels is not None and labels.shape != features.shape[:1]:
        raise ValueError(
            "`labels` must be an array (N,), as many as `features`. Received: "
            f"labels.shape={labels.shape}, features.shape={features.shape}."
        )
    if class_names is not None:
        check_names("class_names", class_names)
    if labels is not None and class_names is not None:
        _check_places("labels", labels, len(class_names))
    chosen = np.random.default_rng(0).permutation(len(features))[:MAX_POINTS]
    try:
        points, method = points_in_plane(features[chosen])
    except ImportError as error:
        raise _missing("scikit-learn") from error
    figure = _figure(figsize=(6, 6))
    axis = figure.subplots()
    if labels is None:
        axis.scatter(*points.T, s=8)
    else:
        _scatter_classes(axis, points, np.asarray(labels)[chosen], class_names)
    axis.set_xticks([])
    axis.set_yticks([])
    heading = f"{len(points):,} images, {method}"
    axis.set_title(heading if title is None else f"{title} ({heading})")
    return _save(figure, path)


def plot_confusion(labels, predicted, class_names=None, path=None):
    """Which classes are taken for which: a row for each class.

    The shade is a part of the row, so that a large class does not hide others;
    with up to 20 classes the numbers of images stand in the cells.

    Args:
        labels: Integer array (N,), the classes of images.
        predicted: Integer array (N,), what they were taken for. Both may be
            the classes' names instead.
        class_names: Sequence of strings, the name of every class, which labels
            are the places of. None takes the labels themselves. Defaults to
            None.
        path: As in `plot_views`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If labels are neither integers nor names.
        ValueError: If the arrays are not two (N,) with N of at least 1, or a
            label is none of `class_names`.

    Example:
        >>> import simclr_keras
        >>> figure = simclr_keras.plots.plot_confusion(
        ...     [0, 0, 1, 1], [0, 1, 1, 1], ["cat", "dog"], "confusion.png"
        ... )
    """
    if class_names is not None:
        check_names("class_names", class_names)
    labels, predicted = (
        _places(values, name, class_names)
        for values, name in ((labels, "labels"), (predicted, "predicted"))
    )
    if labels.ndim != 1 or not len(labels) or labels.shape != predicted.shape:
        raise ValueError(
            "`labels` and `predicted` must be arrays (N,) with N of at least "
            f"1. Received: labels.shape={labels.shape}, predicted.shape="
            f"{predicted.shape}."
        )
    if labels.dtype.kind != predicted.dtype.kind:
        raise TypeError(
            "`labels` and `predicted` must both be numbers or both names, "
            f"unless `class_names` tells which is which. Received: dtypes "
            f"{labels.dtype} and {predicted.dtype}."
        )
    if class_names is None:
        class_names, places = np.unique(
            np.concatenate([labels, predicted]), return_inverse=True
        )
        labels, predicted = np.split(places, 2)
    count = len(class_names)
    for name, values in (("labels", labels), ("predicted", predicted)):
        _check_places(name, values, count)
    numbers = np.zeros((count, count), int)
    np.add.at(numbers, (labels, predicted), 1)
    parts = numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1)
    side = min(max(3.0, 0.55 * count), 12.0)
    figure = _figure(figsize=(side + 2, side + 2))
    axis = figure.subplots()
    axis.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    has_numbers = count <= MAX_CLASSES_IN_LEGEND
    # A name is a name, whatever dollar signs it has.
    style = {"fontsize": 9 if has_numbers else 5, "parse_math": False}
    names = [str(name) for name in class_names]
    axis.set_xticks(range(count), names, rotation=90, **style)
    axis.set_yticks(range(count), names, **style)
    axis.set_xlabel("taken for")
    axis.set_ylabel("is")
    right = int(np.trace(numbers))
    axis.set_title(f"{right:,} of {len(labels):,} right")
    for (row, column), number in np.ndenumerate(numbers):
        if has_numbers and number:
            axis.text(
                column,
                row,
                f"{number:,}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if parts[row, column] > 0.5 else "black",
            )
    return _save(figure, path)


def _places(values, name, class_names):
    """Labels as an array (N,): places of their names, if these are known."""
    values = to_labels(name, values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind == "u":
        values = values.astype("int64")
    if values.dtype.kind not in "iU" and values.size:
        raise TypeError(
            f"`{name}` must be integers or names of classes. Received: dtype "
            f"{values.dtype}."
        )
    if values.dtype.kind == "U" and class_names is not None:
        places = {str(each): k for k, each in enumerate(class_names)}
        unknown = sorted(set(values.tolist()) - set(places))
        if unknown:
            raise ValueError(
                f"`{name}` must be names of `class_names`. Received: "
                f"{unknown[:5]}."
            )
        values = np.array([places[each] for each in values.tolist()])
    return values


def _check_places(name, values, count):
    if values.dtype.kind not in "iu":
        raise TypeError(
            f"`{name}` must be integers, the places of `class_names`. "
            f"Received: dtype {values.dtype}."
        )
    if values.min() < 0 or values.max() >= count:
        raise ValueError(
            f"`{name}` must be places of `class_names`, from 0 to "
            f"{count - 1}. Received: from {values.min()} to {values.max()}."
        )


def _quantity(name):
    """What the values of one panel have in common."""
    name = name.removeprefix("val_")
    for quantity in ("loss", "accuracy"):
        if name == quantity or name.endswith(f"_{quantity}"):
            return quantity
    return name.replace("_", " ")


def _scatter_classes(axis, points, labels, class_names):
    classes = np.unique(labels)
    if len(classes) > MAX_CLASSES_IN_LEGEND:
        axis.scatter(*points.T, s=8, c=labels, cmap="turbo")
        return
    colors = "tab10" if len(classes) <= 10 else "tab20"
    axis.set_prop_cycle(color=_colors(colors))
    for label in classes:
        name = label if class_names is None else class_names[label]
        axis.scatter(*points[labels == label].T, s=8, label=str(name))
    axis.legend(
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1, 1),  # beside the map, not on it
    )


def _colors(name):
    import matplotlib

    return matplotlib.colormaps[name].colors


def _figure(figsize):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _missing("Matplotlib") from error
    return Figure(figsize=figsize, layout="constrained")


def _save(figure, path):
    if path is not None:
        figure.savefig(os.fspath(path), dpi=120, bbox_inches="tight")
    return figure


def _missing(package):
    return ImportError(
        f"`simclr_keras.plots` needs {package}. Install it with "
        'pip install "simclr_keras[plots]".'
    )
