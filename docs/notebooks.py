"""Runs the notebooks and writes what came out into them: `make notebooks`."""

import os
import pathlib
import tempfile

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parents[1] / "examples" / "notebooks"


def run(path):
    """Runs a notebook in an empty folder, and replaces it."""
    notebook = nbformat.read(path, 4)
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(
            notebook,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not is_log(o)]
    nbformat.write(notebook, path)


def is_log(output):
    """Whether an output is what TensorFlow says of this machine."""
    return output.get("name") == "stderr" or "INFO:tensorflow" in output.get(
        "text", ""
    )


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for each in sorted(FOLDER.glob("*.ipynb")):
        run(each)
        print(f"Ran {each.name}.")
