r"""Writes what an encoder makes of each image of a folder, as a table.

    python examples/features.py --encoder=runs/photos --images=photos \
        --output=features.npz

The ending of --output says what is written:

    .npz      arrays: features (N, F), paths (N,); for neighbours.py, cluster.py
    .csv      path, f0, f1, ...; a line for each image
    .parquet  the same columns; needs pyarrow
"""

import csv
import importlib.util
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import command_line
import encoder_and_images
import numpy as np
from command_line import UsageError
from encoder_and_images import printable

SUFFIXES = (".npz", ".csv", ".parquet")


def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser)
    encoder_and_images.add_images(parser)
    command_line.add_output(
        parser, "file to write: .npz, .csv or .parquet", is_folder=False
    )
    return parser


def check(options):
    """Raises a `UsageError` for what can be known before anything is loaded."""
    suffix = os.path.splitext(options.output)[1]
    if suffix not in SUFFIXES:
        raise UsageError(
            f"--output must end in {', '.join(SUFFIXES)}. Received: "
            f"{options.output}"
        )
    if suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise UsageError(".parquet files need pyarrow: pip install pyarrow")
    command_line.check_output_file(options)
    encoder_and_images.check_encoder(options)
    encoder_and_images.check_images("--images", options.images)


def write(name, found, overwrite=True):
    """Writes `Features`, in the format that the file's ending says.

    Args:
        name: String, the file.
        found: `Features`.
        overwrite: Boolean, whether a file that is there may be replaced.
            Defaults to True.
    """
    suffix = os.path.splitext(name)[1]
    from simclr_keras.write_aside import write_aside

    with write_aside(name, suffix) as aside:
        if suffix == ".npz":
            np.savez(aside, features=found.features, paths=found.paths)
        elif suffix == ".csv":
            _write_csv(aside, found)
        else:
            _write_parquet(aside, found)
        # Another call may have written it since this one began.
        command_line.check_is_free(name, overwrite)


def _columns(found):
    return [f"f{k}" for k in range(found.features.shape[1])]


def _write_csv(name, found):
    with open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *_columns(found)])
        for path, row in zip(found.paths, found.features):
            # Nine digits are enough to read the same float32 back.
            writer.writerow([printable(path), *(f"{x:.9g}" for x in row)])


def _write_parquet(name, found):
    import pyarrow
    import pyarrow.parquet

    columns = {"path": list(map(printable, found.paths))}
    columns.update(zip(_columns(found), found.features.T))
    pyarrow.parquet.write_table(pyarrow.table(columns), name)


def main(arguments=None):
    """Extracts and writes."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    options.features = None
    with command_line.one_line_errors(parser):
        check(options)
        with command_line.said_of("--images"):
            found = encoder_and_images.find_features(options)
        write(options.output, found, options.overwrite)
        print(
            f"{len(found.paths):,} images, {found.features.shape[1]:,} "
            f"features each: {options.output}"
        )


if __name__ == "__main__":
    main()
