"""The page of `cluster.py`: one file that needs no network."""

import base64
import html
import io
import json
import pathlib

import contact_sheet
import image_map
import numpy as np
from encoder_and_images import printable

TEMPLATE = pathlib.Path(__file__).with_suffix(".html")
MAX_POINTS = 2000
PIXELS = 64  # of a picture
NEIGHBOURS = 8


def write(path, title, note, features, points, clusters, paths, seed):
    """Writes the page.

    Args:
        path: String, the file.
        title, note: Strings.
        features: Float array (N, F). The nearest images are found among those
            that are shown: at most 2,000, drawn at random.
        points: Float array (N, 2) in [0, 1].
        clusters: Integer array (N,), from 0.
        paths: List of N strings.
        seed: Integer, draws which images are shown.
    """
    shown = np.arange(len(paths))
    if len(paths) > MAX_POINTS:
        draw = np.random.default_rng(seed)
        shown = np.sort(draw.choice(len(paths), MAX_POINTS, replace=False))
        note += f" {MAX_POINTS:,} of {len(paths):,} images, drawn at random."
    data = _data(features, points, clusters, paths, shown)
    # No name of a file can end the script that it stands in.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = TEMPLATE.read_text(encoding="utf-8")
    for mark, value in (
        ("@@title@@", html.escape(title)),
        ("@@note@@", html.escape(note)),
        ("@@data@@", text),  # last: it may hold anything
    ):
        page = page.replace(mark, value)
    pathlib.Path(path).write_text(page, encoding="utf-8")


def _data(features, points, clusters, paths, shown):
    """What the page knows, as JSON can hold it."""
    from simclr_keras import evaluation

    near = [([], [])] * len(shown)
    if len(shown) > 1:
        found = evaluation.nearest_neighbours(features[shown], k=NEIGHBOURS)
        near = zip(found.index.tolist(), found.similarity.tolist())
    sizes = np.bincount(clusters).tolist()
    pictures = _pictures([paths[k] for k in shown])
    return {
        "clusters": [
            {"color": color, "size": size}
            for color, size in zip(image_map.colors(len(sizes)), sizes)
        ],
        "points": [
            {
                "x": round(float(points[k, 0]), 4),
                "y": round(1 - float(points[k, 1]), 4),  # down, on a screen
                "cluster": int(clusters[k]),
                "path": printable(paths[k]),
                "near": index,
                "similarity": [round(value, 3) for value in similarity],
                "image": picture,
            }
            for k, (index, similarity), picture in zip(shown, near, pictures)
        ],
    }


def _pictures(paths):
    """Data URIs of small JPEGs."""
    from PIL import Image

    for image in contact_sheet.thumbnails(paths, PIXELS):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=80)
        text = base64.b64encode(file.getvalue()).decode("ascii")
        yield f"data:image/jpeg;base64,{text}"
