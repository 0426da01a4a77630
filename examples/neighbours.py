r"""Finds the images that are most alike, as the encoder sees them.

    python examples/neighbours.py --encoder=runs/photos --images=photos \
        --query holiday.jpg --output=alike
    python examples/neighbours.py --features=features.npz --duplicates=0.98 \
        --output=alike

Writes into --output:

    neighbours.csv  query, rank, neighbour, similarity (cosine); the nearest
                    images to each query, or to every image without --query
    neighbours.png  a row for each of up to 12 queries: itself, then those
    duplicates.csv  with --duplicates: first, second, similarity; each pair once
    duplicates.png  the most similar ones of these pairs, side by side

An image is not its own neighbour.
"""

import argparse
import csv
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import command_line
import contact_sheet
import encoder_and_images
import features_file
import numpy as np
from command_line import UsageError
from encoder_and_images import printable

ROWS, COLUMNS = 12, 12  # of the sheet, at most
PAIRS_DOWN, PAIRS_ACROSS = 12, 3  # of the sheet of duplicates, at most
MAX_PAIRS = 100_000  # of duplicates; the most similar ones
BLOCK = 4_000_000  # similarities that are held at a time
# Copies of one image may differ in the last digits of float32.
TOLERANCE = 1e-6


def similarity(text):
    """A cosine of the command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"must lie between 0 and 1. Received: {text}"
        )
    return value


def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser, required=False)
    encoder_and_images.add_images(parser, required=False)
    encoder_and_images.add_features(parser)
    parser.add_argument(
        "--query",
        type=command_line.path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="image files to find the nearest images to, in the folder or "
        "elsewhere. Default: every image of the folder",
    )
    parser.add_argument(
        "--k", type=command_line.positive, default=8, help="how many nearest"
    )
    parser.add_argument(
        "--duplicates",
        type=similarity,
        metavar="SIMILARITY",
        help="also list and draw pairs at least so similar, such as 0.98. "
        "Default: none",
    )
    command_line.add_output(parser, "folder to write")
    return parser


def check(options):
    """Raises a `UsageError` for what can be known before anything is loaded."""
    encoder_and_images.check_source(options, takes_both=bool(options.query))
    if options.features:
        features_file.check(options.features)
    command_line.check_output_folder(options, options.images)
    for name in options.query or ():
        command_line.check_exists("--query", name, is_folder=False)


def find_queries(options, found):
    """Features of the queries, their paths, and their rows (or -1).

    Args:
        options: The arguments.
        found: `Features` of the images.
    """
    rows = {os.path.realpath(name): k for k, name in enumerate(found.paths)}
    index = [rows.get(os.path.realpath(name), -1) for name in options.query]
    others = [name for name, k in zip(options.query, index) if k < 0]
    extracted = {}
    if others:
        if not options.encoder:
            raise UsageError(
                f"--query is not among the images of --features: {others[0]}. "
                "Give the --encoder that made them too."
            )
        encoder = encoder_and_images.load_encoder(options)
        images, is_valid = encoder_and_images.load_files(others, encoder)
        if not is_valid.all():
            name = others[int(np.argmin(is_valid))]
            raise ValueError(f"--query cannot be read: {name}")
        features = encoder_and_images.extract(
            encoder, images, options.batch_size
        )
        if features.shape[1] != found.features.shape[1]:
            raise UsageError(
                "--encoder must be the one that made --features. Received one "
                f"of {features.shape[1]} features for files of "
                f"{found.features.shape[1]}."
            )
        extracted = dict(zip(others, features))
    queries = [
        found.features[k] if k >= 0 else extracted[name]
        for name, k in zip(options.query, index)
    ]
    return np.stack(queries), options.query, np.array(index)


def find_neighbours(found, queries, rows, k):
    """The nearest images of each query, without the query itself.

    Args:
        found: `Features` of the images.
        queries: Float array (M, F), or None for all images.
        rows: Integer array (M,), the row of each query or -1.
        k: Positive integer.

    Returns:
        List of M lists of pairs (similarity, row), the most similar first.
    """
    from simclr_keras import evaluation

    if queries is None:
        nearest = evaluation.nearest_neighbours(found.features, k=k)
    else:
        # One more, in place of the query.
        nearest = evaluation.nearest_neighbours(found.features, queries, k + 1)
    return [
        [(s, i) for s, i in zip(*pair) if i != row][:k]
        for *pair, row in zip(nearest.similarity, nearest.index, rows)
    ]


def find_duplicates(features, threshold):
    """Pairs of rows that are at least so similar, each once.

    Returns:
        (similarity (P,), first (P,), second (P,), number of all), the most
        similar first, and at most `MAX_PAIRS`.
    """
    unit = encoder_and_images.unit_length(features).astype("float32")
    kept, total, bound = np.zeros((0, 3)), 0, threshold - TOLERANCE
    step = max(1, BLOCK // len(unit))
    for start in range(0, len(unit), step):
        cosine = unit[start : start + step] @ unit[start:].T
        # A pair stands above the diagonal; below is its mirror image.
        above = np.triu(cosine >= threshold - TOLERANCE, k=1)
        total += np.count_nonzero(above)
        first, second = np.nonzero(above & (cosine >= bound))
        found = (cosine[first, second], first + start, second + start)
        kept = np.concatenate([kept, np.stack(found, axis=1)])
        # Of equals those that come first.
        order = np.lexsort((kept[:, 2], kept[:, 1], -kept[:, 0]))
        kept = kept[order[:MAX_PAIRS]]
        if len(kept) == MAX_PAIRS:
            bound = kept[-1, 0]
    values, first, second = kept.T
    return np.minimum(values, 1), first.astype(int), second.astype(int), total


def write_csv(name, header, rows):
    """Writes a table."""
    with open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def draw(name, names, nearest, paths):
    """The sheet of up to 12 queries with their neighbours."""
    # Evenly over the folder, where there are more.
    count = min(ROWS, len(names))
    chosen = np.linspace(0, len(names) - 1, count).astype(int)
    rows = [
        [(names[q], "query", True)]
        + [(paths[i], f"{s:.3f}", False) for s, i in nearest[q][: COLUMNS - 1]]
        for q in chosen
    ]
    files = list(dict.fromkeys(path for row in rows for path, *_ in row))
    images = dict(zip(files, contact_sheet.thumbnails(files, 128)))
    contact_sheet.draw(
        name,
        [
            [
                contact_sheet.Cell(
                    images[path],
                    f"{text}\n{contact_sheet.short(path)}",
                    is_framed,
                )
                for path, text, is_framed in row
            ]
            for row in rows
        ],
    )


def draw_duplicates(name, values, first, second, paths):
    """The sheet of the most similar pairs.

    Args:
        name: String, the image file.
        values: Float array (P,), similarities, the highest first.
        first, second: Integer arrays (P,), rows.
        paths: List of N strings.
    """
    count = min(len(values), PAIRS_DOWN * PAIRS_ACROSS)
    pairs = np.stack([first, second], axis=1)[:count]
    # An image may be in several pairs.
    shown = np.unique(pairs)
    files = [paths[k] for k in shown]
    images = dict(zip(shown, contact_sheet.thumbnails(files, 128)))
    cells = [
        [
            contact_sheet.Cell(
                images[k], f"{value:.4f}\n{contact_sheet.short(paths[k])}"
            )
            for k in pair
        ]
        for value, pair in zip(values, pairs)
    ]
    rows = []
    for start in range(0, count, PAIRS_ACROSS):
        row = []
        for pair in cells[start : start + PAIRS_ACROSS]:
            # A gap tells where a pair ends.
            row += [None, *pair] if row else pair
        rows.append(row)
    title = f"Duplicates: {count:,} pairs"
    if count < len(values):
        title = f"Duplicates: the {count:,} most similar pairs"
    contact_sheet.draw(name, rows, title)


def check_can_compare(options, found):
    """Raises a `ValueError` if there is nothing to compare an image with."""
    if len(found.paths) < 2 and not options.query:
        flag = "--features" if options.features else "--images"
        raise ValueError(
            f"{flag} must have at least two readable images, to compare each "
            "with the others; with --query one is enough. Received one: "
            f"{found.paths[0]}"
        )


def main(arguments=None):
    """Searches, writes and draws."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(options)
        with command_line.said_of("--images"):
            found = encoder_and_images.find_features(options)
        check_can_compare(options, found)
        queries, names = None, found.paths
        rows = np.arange(len(names))
        if options.query:
            queries, names, rows = find_queries(options, found)
        nearest = find_neighbours(found, queries, rows, options.k)
        with command_line.folder_aside(
            options.output,
            options.overwrite,
            re.compile(r"duplicates\.(csv|png)"),
        ) as folder:
            write_csv(
                os.path.join(folder, "neighbours.csv"),
                ("query", "rank", "neighbour", "similarity"),
                (
                    (
                        printable(names[q]),
                        rank,
                        printable(found.paths[i]),
                        f"{s:.6f}",
                    )
                    for q, pairs in enumerate(nearest)
                    for rank, (s, i) in enumerate(pairs, 1)
                ),
            )
            draw(
                os.path.join(folder, "neighbours.png"),
                names,
                nearest,
                found.paths,
            )
            if options.duplicates is not None:
                write_duplicates(folder, found, options.duplicates)
        print(f"Neighbours of {len(names):,} images: {options.output}")


def write_duplicates(folder, found, threshold):
    """Writes and draws the duplicates, and says how many there are."""
    values, first, second, total = find_duplicates(found.features, threshold)
    write_csv(
        os.path.join(folder, "duplicates.csv"),
        ("first", "second", "similarity"),
        (
            (printable(found.paths[i]), printable(found.paths[j]), f"{s:.6f}")
            for s, i, j in zip(values, first, second)
        ),
    )
    if len(values):
        draw_duplicates(
            os.path.join(folder, "duplicates.png"),
            values,
            first,
            second,
            found.paths,
        )
    print(f"{total:,} pairs of a similarity of {threshold:g} or more.")
    if total > len(values):
        print(
            f"duplicates.csv has the {len(values):,} most similar ones: the "
            "encoder tells these images too little apart for this threshold."
        )


if __name__ == "__main__":
    main()
