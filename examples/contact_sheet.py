"""Small pictures of many images on one sheet, with a caption for each."""

import os
import typing

import numpy as np

# In inches, of a cell with its caption.
WIDTH, HEIGHT, MARGIN = 1.25, 1.5, 0.075
GRAY = 225  # of an image that cannot be read any more


class Cell(typing.NamedTuple):
    """An image of a sheet.

    Attributes:
        image: uint8 array (H, W, 3).
        caption: String of one or two lines, above the image.
        is_framed: Boolean.
    """

    image: np.ndarray
    caption: str
    is_framed: bool = False


def thumbnails(paths, size):
    """The central squares of image files, which is what an encoder sees.

    Call it once for many files: it takes a second to begin.

    Args:
        paths: Sequence of strings (N,).
        size: Positive integer, in pixels.

    Yields:
        uint8 arrays (size, size, 3); gray for what cannot be read.
    """
    import tensorflow as tf

    from simclr_keras.data.image_folder import FileImageSet

    files = FileImageSet(paths, None, (size, size), 3)
    loaded = tf.data.Dataset.range(len(paths)).map(
        files.try_load, tf.data.AUTOTUNE
    )
    for is_valid, image in loaded.as_numpy_iterator():
        yield image if is_valid else np.full_like(image, GRAY)


def short(path, length=18):
    """The name of a file, without its middle if it is long."""
    from encoder_and_images import printable

    name = printable(os.path.basename(path))
    if len(name) <= length:
        return name
    end = length // 2
    return f"{name[: length - end - 1]}…{name[-end:]}"


def draw(path, rows, title=None):
    """Writes a sheet.

    Args:
        path: String, the image file.
        rows: List of lists of `Cell`, or None for an empty place.
        title: String. Defaults to None.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    # A single image must leave room for the title.
    width = max(max(map(len, rows)) * WIDTH, 0.085 * len(title or "") + 0.2)
    top = 0.35 if title else 0.08
    height = len(rows) * HEIGHT + top
    figure = Figure(figsize=(width, height))
    # One panel in inches for all: one for each image takes five times as long.
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    side = WIDTH - 2 * MARGIN
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            if cell is None:
                continue
            left = c * WIDTH + MARGIN
            bottom = height - top - (r + 1) * HEIGHT + MARGIN
            axis.imshow(
                cell.image, extent=(left, left + side, bottom, bottom + side)
            )
            axis.add_patch(
                Rectangle(
                    (left, bottom),
                    side,
                    side,
                    fill=False,
                    linewidth=3 if cell.is_framed else 0.5,
                    edgecolor="#1f5fbf" if cell.is_framed else "#999999",
                )
            )
            axis.text(
                left + side / 2,
                bottom + side + 0.05,
                cell.caption,
                ha="center",
                va="bottom",
                fontsize=7,
                parse_math=False,  # a $ in a file's name is no formula
            )
    if title:
        axis.text(
            MARGIN,
            height - 0.12,
            title,
            va="top",
            fontsize=11,
            parse_math=False,
        )
    # After the images, each of which sets them.
    axis.set_xlim(0, width)
    axis.set_ylim(0, height)
    save(figure, path)


def save(figure, path, **keywords):
    """Writes a figure, without a word on letters that its font lacks."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(path, dpi=120, **keywords)
