r"""Sorts images into groups that look alike to the encoder.

    python examples/cluster.py --encoder=runs/photos --images=photos \
        --clusters=10 --output=clusters
    python examples/cluster.py --features=features.npz --output=clusters

Writes into --output:

    index.html       a map to explore in a browser, one file, without network
    clusters.csv     path, cluster, similarity (cosine to the cluster's centre)
    cluster_00.png   the images nearest to the centre; one sheet a cluster
    map.png          the map as a picture

k-means on features of length 1. Cluster 0 is the largest.
"""

import csv
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cluster_page
import command_line
import contact_sheet
import encoder_and_images
import features_file
import image_map
import numpy as np
from command_line import UsageError
from encoder_and_images import printable

ACROSS, DOWN = 5, 5  # images on the sheet of a cluster
# Draws of the first centres, of which the best is taken.
STARTS = 10


def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser, required=False)
    encoder_and_images.add_images(parser, required=False)
    encoder_and_images.add_features(parser)
    parser.add_argument(
        "--clusters",
        type=command_line.positive,
        default=10,
        help="how many groups",
    )
    parser.add_argument(
        "--map",
        choices=("pca", "tsne"),
        default="pca",
        help="how the map is laid out; t-SNE tells more groups apart and takes "
        "longer",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    command_line.add_output(parser, "folder to write")
    return parser


def check(options):
    """Raises a `UsageError` for what can be known before anything is loaded."""
    encoder_and_images.check_source(options)
    if options.features:
        features_file.check(options.features)
    command_line.check_output_folder(options, options.images)
    if not 0 <= options.seed < 2**32:
        raise UsageError(
            f"--seed must lie in 0 ... 2**32 - 1. Received: {options.seed}"
        )


def find_clusters(unit, count, seed):
    """k-means, the largest cluster first.

    Args:
        unit: Float array (N, F), of length 1.
        count: Integer, how many clusters.
        seed: Integer.

    Returns:
        (clusters (N,), similarity (N,) of each to the centre of its own).
    """
    from sklearn.cluster import KMeans

    if count > len(unit):
        raise UsageError(
            f"--clusters must be at most the number of images, {len(unit)}. "
            f"Received: {count}"
        )
    means = KMeans(count, n_init=STARTS, random_state=seed).fit(unit)
    # Of images that are all alike there are fewer groups than asked for.
    sizes = np.bincount(means.labels_, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    place = np.empty(count, int)
    place[order] = np.arange(count)
    centres = encoder_and_images.unit_length(means.cluster_centers_)
    similarity = np.einsum("nf,nf->n", unit, centres[means.labels_])
    return place[means.labels_], np.clip(similarity, -1, 1)


def draw_clusters(folder, clusters, similarity, paths):
    """A sheet for each cluster, of the images nearest to its centre."""
    # Most similar first, within each cluster.
    order = np.lexsort((-similarity, clusters))
    sizes = np.bincount(clusters)
    nearest = [
        order[start : start + min(size, ACROSS * DOWN)]
        for start, size in zip(np.cumsum(sizes) - sizes, sizes)
    ]
    images = contact_sheet.thumbnails(
        [paths[k] for k in np.concatenate(nearest)], 128
    )
    for cluster, (members, size) in enumerate(zip(nearest, sizes)):
        cells = [
            contact_sheet.Cell(
                next(images),
                f"{similarity[k]:.3f}\n{contact_sheet.short(paths[k])}",
            )
            for k in members
        ]
        title = f"Cluster {cluster}: {size:,} images"
        if len(members) < size:
            title += f", the {len(members)} nearest to its centre"
        contact_sheet.draw(
            os.path.join(folder, f"cluster_{cluster:02d}.png"),
            [cells[k : k + ACROSS] for k in range(0, len(cells), ACROSS)],
            title,
        )


def name_of_source(options, paths):
    """The name of the images' folder, or of their features if it has none."""
    folder = options.images
    try:
        folder = folder or os.path.commonpath(map(os.path.dirname, paths))
    except ValueError:  # Some paths begin at the root, others here.
        return os.path.basename(options.features)
    name = os.path.basename(os.path.abspath(folder))
    return name or os.path.basename(options.features or folder)


def main(arguments=None):
    """Clusters, writes and draws."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(options)
        with command_line.said_of("--images"):
            found = encoder_and_images.find_features(options)
        unit = encoder_and_images.unit_length(found.features)
        clusters, similarity = find_clusters(
            unit, options.clusters, options.seed
        )
        points, method = image_map.layout(unit, options.map, options.seed)
        stale = re.compile(r"cluster_\d+\.png")
        with command_line.folder_aside(
            options.output, options.overwrite, stale
        ) as folder:
            write(folder, found, clusters, similarity, points, method, options)
        print(
            f"{len(clusters):,} images in {clusters.max() + 1} clusters: "
            f"{os.path.join(options.output, 'index.html')}"
        )


def write(folder, found, clusters, similarity, points, method, options):
    """Writes all files."""
    name = os.path.join(folder, "clusters.csv")
    with open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "cluster", "similarity"])
        for path, cluster, value in zip(found.paths, clusters, similarity):
            writer.writerow([printable(path), cluster, f"{value:.6f}"])
    draw_clusters(folder, clusters, similarity, found.paths)
    source = printable(name_of_source(options, found.paths))
    image_map.draw(
        os.path.join(folder, "map.png"),
        points,
        clusters,
        found.paths,
        f"{source}: {len(clusters):,} images, {method}",
        options.seed,
    )
    cluster_page.write(
        os.path.join(folder, "index.html"),
        f"{source}: {len(clusters):,} images",
        f"Map by {method}: images that look alike to the encoder lie together.",
        found.features,
        points,
        clusters,
        found.paths,
        options.seed,
    )


if __name__ == "__main__":
    main()
