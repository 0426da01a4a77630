"""A map of images in the plane, on which similar ones lie together."""

import colorsys

import contact_sheet
import numpy as np

MAX_PICTURES = 400  # of a drawn map; more would not find room
SIDE = 8.0  # inches
PICTURE = 0.42  # inches, with its frame


def layout(features, method, seed):
    """Points (N, 2) in [0, 1], and the name of the method.

    Args:
        features: Float array (N, F), of length 1.
        method: "pca" or "tsne".
        seed: Integer.
    """
    from simclr_keras.points_in_plane import points_in_plane

    if len(features) < 2:
        return np.full((len(features), 2), 0.5), "PCA"
    points, name = points_in_plane(features, method, seed)
    points = points - points.min(axis=0)
    extent = points.max(axis=0)
    # Each axis fills the map: what counts is what lies near what.
    points = np.where(extent > 0, points / np.where(extent > 0, extent, 1), 0.5)
    return points, name


def colors(count):
    """So many colors as strings "#rrggbb", as far apart as may be."""
    import matplotlib
    from matplotlib.colors import to_hex

    if count <= 20:
        name = "tab10" if count <= 10 else "tab20"
        return [to_hex(c) for c in matplotlib.colormaps[name].colors[:count]]
    # Steps of the golden ratio never come back to the same hue.
    return [
        to_hex(
            colorsys.hsv_to_rgb(0.618034 * k % 1, 0.75, 0.55 + 0.3 * (k % 2))
        )
        for k in range(count)
    ]


def without_overlap(points, width, limit, seed):
    """Indices of points whose pictures, `width` wide, do not overlap."""
    chosen = []
    for index in np.random.default_rng(seed).permutation(len(points)):
        apart = np.abs(points[chosen] - points[index]).max(axis=1)
        if not len(chosen) or apart.min() >= width:
            chosen.append(index)
        if len(chosen) == limit:
            break
    return np.array(chosen)


def draw(path, points, clusters, paths, title, seed):
    """Writes the map: pictures where there is room, and points.

    Args:
        path: String, the image file.
        points: Float array (N, 2) in [0, 1].
        clusters: Integer array (N,), from 0.
        paths: List of N strings.
        title: String.
        seed: Integer, draws which images are shown as pictures.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    palette = colors(int(clusters.max()) + 1)
    figure = Figure(figsize=(SIDE + 1.5, SIDE + 0.5))
    axis = figure.add_axes(
        (0.1 / (SIDE + 1.5), 0.05, SIDE / (SIDE + 1.5), SIDE / (SIDE + 0.5))
    )
    margin = PICTURE / SIDE
    axis.set_xlim(-margin, 1 + margin)
    axis.set_ylim(-margin, 1 + margin)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=11, loc="left", parse_math=False)
    point_colors = [palette[c] for c in clusters]
    axis.scatter(*points.T, s=10, c=point_colors, linewidths=0)
    width = PICTURE / SIDE * (1 + 2 * margin)
    shown = without_overlap(points, width, MAX_PICTURES, seed)
    pixels = 96
    images = contact_sheet.thumbnails([paths[k] for k in shown], pixels)
    # OffsetImage counts in points, 72 to an inch.
    zoom = 72 * PICTURE * 0.88 / pixels
    for index, image in zip(shown, images):
        box = AnnotationBbox(
            OffsetImage(image, zoom=zoom),
            points[index],
            pad=0.1,
            bboxprops={"edgecolor": point_colors[index], "linewidth": 2},
        )
        axis.add_artist(box)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=color, label=str(k))
        for k, color in enumerate(palette)
    ]
    # Four columns of fifty have room beside the map.
    axis.legend(
        handles=handles,
        title="cluster",
        fontsize=8 if len(palette) <= 40 else 5,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
        ncols=1 + (len(palette) - 1) // 40,
        columnspacing=0.8,
        handletextpad=0.2,
    )
    contact_sheet.save(figure, path, bbox_inches="tight")
