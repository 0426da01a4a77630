"""docs/extending.md: what its examples look like, and what replicas make of it.

That they run, and do what they say on every backend, is in
tests/backends/test_extending.py.
"""

import ast
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests import extending
from tests.extending import BYOL, SHARED, SUPCON, VICREG

ROOT = extending.DOCUMENT.parents[1]
EXAMPLES = {
    heading: "\n".join(blocks)
    for heading, blocks in extending.sections().items()
}


# --- What they look like -----------------------------------------------------
@pytest.mark.parametrize("heading", EXAMPLES)
def test_examples_are_short_and_of_public_names(heading):
    lines = EXAMPLES[heading].splitlines()
    assert max(map(len, lines)) <= 80
    if heading == SHARED:
        return
    for block in extending.sections()[heading]:
        assert len([line for line in block.splitlines() if line]) <= 20
    tree = ast.parse(EXAMPLES[heading])
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
    names += [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    assert not [n for n in names if n.startswith("_") and n != "__init__"]


def test_the_contents_name_every_section():
    text = extending.DOCUMENT.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    entries = re.findall(r"^- \[(.*)\]\(#(.*)\)$", text, flags=re.MULTILINE)
    assert [name for name, _ in entries] == headings
    for name, anchor in entries:
        assert anchor == re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")


# --- Replicas ----------------------------------------------------------------
@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Function (example, "one" or "two") -> arrays."""
    # A process of its own: TensorFlow divides a processor only before it
    # starts.
    path = tmp_path_factory.mktemp("extending") / "arrays.npz"
    result = subprocess.run(
        [sys.executable, "-m", "tests.extending", path, SUPCON, BYOL, VICREG],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr
    arrays = dict(np.load(path))

    def of(example, strategy):
        start = f"{example}/{strategy}/"
        return {
            key.removeprefix(start): value
            for key, value in arrays.items()
            if key.startswith(start)
        }

    return of


@pytest.mark.parametrize("example", [SUPCON, BYOL, VICREG])
def test_two_replicas_are_one_device(trained, example):
    one, two = trained(example, "one"), trained(example, "two")
    assert set(one) == set(two)
    assert any("kernel" in key for key in one)
    for key, value in one.items():
        # float64, which adds up in another order
        np.testing.assert_allclose(
            two[key], value, rtol=1e-9, atol=1e-10, err_msg=key
        )
