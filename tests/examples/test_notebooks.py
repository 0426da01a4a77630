"""The notebooks run from first to last cell, as they are written."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# What must hold when a notebook has run, of its own variables.
EXPECTED = {
    "quickstart": "after > 0.75 > 0.5 > before",
    "own_images": "losses[-1] < losses[0] and result.accuracy > 0.8",
    "transfer": "result.accuracy > from_scratch and fine_tuned > 0.5",
}


def cells(name):
    path = FOLDER / f"{name}.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_there_are_three():
    assert sorted(EXPECTED) == NOTEBOOKS


# Where in a cell's outputs a result stands, that a reader is to see.
SHOWN = {
    "quickstart": r"accuracy before \d+\.\d%, after \d+\.\d%",
    "own_images": r"accuracy of a linear classifier \d+\.\d%",
    "transfer": r"fine-tuned \d+\.\d%, from scratch \d+\.\d%",
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_came_out_is_kept(name):
    """Of one run from first to last, and nothing of the machine it ran on."""
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [each for each in outputs if each.get("name") == "stderr"]
    text = "".join(
        "".join(each.get("text", "")) for each in outputs if "text" in each
    )
    assert re.search(SHOWN[name], text)
    assert not re.search(r"/tmp/|/home/|/root/|INFO:|WARNING", text)
    pictures = sum("image/png" in each.get("data", {}) for each in outputs)
    draws = sum("subplots(" in "".join(cell["source"]) for cell in code)
    assert pictures == draws


@pytest.mark.slow  # Half a minute each, most of it compiling.
@pytest.mark.parametrize("name", ["own_images", "quickstart", "transfer"])
def test_runs(name, tmp_path):
    sources = [
        "".join(cell["source"])
        for cell in cells(name)
        if cell["cell_type"] == "code"
    ]
    sources.append(f"assert {EXPECTED[name]}")
    script = tmp_path / f"{name}.py"
    script.write_text("\n\n".join(sources), encoding="utf-8")
    process = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "MPLBACKEND": "agg",  # without a display
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )
    assert process.returncode == 0, process.stderr[-3000:]
    print(process.stdout)
