"""The page of `cluster.py` in a browser."""

import cluster_page
import numpy as np
import pytest
from PIL import Image

from tests.browser import chromium


@pytest.fixture
def index(tmp_path):
    """A page of forty images in three clusters."""
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"image {k} <ü>.png") for k in range(40)]
    for path in paths:
        pixels = rng.integers(0, 256, (20, 30, 3), dtype="uint8")
        Image.fromarray(pixels).save(path)
    cluster_page.write(
        tmp_path / "index.html",
        "Forty images",
        "Of noise.",
        rng.normal(size=(40, 5)).astype("float32"),
        rng.random((40, 2)),
        np.arange(40) % 3,
        paths,
        seed=0,
    )
    return tmp_path / "index.html"


def test_it_is_used_as_a_reader_does(index):
    chromium.check_map(index, 40)


def test_a_request_would_be_seen(index):
    text = index.read_text(encoding="utf-8")
    link = '<img src="http://127.0.0.1:9/outside.png"></body>'
    index.write_text(text.replace("</body>", link), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"outside\.png"):
        chromium.check_map(index, 40)
