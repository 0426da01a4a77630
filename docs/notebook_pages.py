"""Makes pages of the notebooks, with what came out when they were run.

A hook of MkDocs. `make notebooks` runs them.
"""

import pathlib

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

FOLDER = pathlib.Path(__file__).parents[1] / "examples" / "notebooks"


def on_files(files, config):
    """Adds a page for each notebook, and its pictures."""
    exporter = MarkdownExporter()
    for path in sorted(FOLDER.glob("*.ipynb")):
        names = {"unique_key": path.stem, "output_files_dir": path.stem}
        text, found = exporter.from_filename(str(path), resources=names)
        pages = {f"{path.stem}.md": text, **found["outputs"]}
        for name, content in pages.items():
            name = f"notebooks/{name}"
            files.append(File.generated(config, name, content=content))
    return files
