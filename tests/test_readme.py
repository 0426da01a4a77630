"""The code of the README and of the other documents runs as it is written."""

import ast
import importlib.util
import pathlib
import re

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
# What takes long to compile.
SLOW = ("From KerasCV's SimCLRTrainer", "From TensorFlow Similarity")
SLOW_GUIDES = ("evaluation", "export", "own_images")
# What a guide says for an accelerator, and what is run here in its place.
SMALL = {
    "own_images": (
        ("width_multiplier=0.5", "width_multiplier=1 / 16"),
        ("batch_size, steps = 64, 3000", "batch_size, steps = 8, 20"),
    ),
}


def code_blocks():
    return BLOCK.findall(README.read_text(encoding="utf-8"))


def documented_blocks():
    """The blocks of docs/, each named by the heading it stands under."""
    for path in sorted(ROOT.glob("docs/*.md")):
        if path.stem in ("extending", "index"):
            # In tests/backends, one after the other; the README's, below.
            continue
        text = path.read_text(encoding="utf-8")
        sections = re.split(r"^##+ ", text, flags=re.MULTILINE)
        for heading, _, section in (s.partition("\n") for s in sections):
            for number, block in enumerate(BLOCK.findall(section), 1):
                yield pytest.param(
                    block,
                    id=f"{path.stem}: {heading} {number}",
                    marks=[pytest.mark.slow] if heading in SLOW else [],
                )


def missing_packages(source):
    """The packages that a block imports and that are not installed."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    packages = {name.partition(".")[0] for name in names}
    return sorted(p for p in packages if importlib.util.find_spec(p) is None)


@pytest.mark.parametrize("block", documented_blocks())
def test_the_documents_blocks_run(block, monkeypatch, tmp_path):
    missing = missing_packages(block)
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    exec(block, {"__name__": "__main__"})


@pytest.fixture
def photos(monkeypatch, tmp_path):
    """A folder in which `photos` has two classes of images of many sizes."""
    rng = np.random.default_rng(0)
    for k in range(24):
        path = tmp_path / "photos" / ("cats", "dogs")[k % 2] / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40 + k, 80 - k, 3), "uint8")
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.stem,
            marks=[pytest.mark.slow] if path.stem in SLOW_GUIDES else [],
        )
        for path in GUIDES
    ],
)
def test_the_guides_run_as_one_program(path, photos):
    """A guide's blocks, one after the other, in one namespace."""
    text = path.read_text(encoding="utf-8")
    for written, small in SMALL.get(path.stem, ()):
        assert written in text
        text = text.replace(written, small)
    missing = missing_packages("\n".join(BLOCK.findall(text)))
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    keras.utils.set_random_seed(0)
    namespace = {"__name__": "__main__"}
    for match in BLOCK.finditer(text):
        # Empty lines before it, so that an error names the guide's line.
        above = "\n" * text.count("\n", 0, match.start(1))
        exec(compile(above + match[1], str(path), "exec"), namespace)


def test_the_first_page_shows_the_readmes_example():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert BLOCK.findall(index) == code_blocks()[:1]


def test_the_examples_are_as_short_as_they_say():
    for block, limit in zip(code_blocks(), (15, 10), strict=True):
        lines = [
            line for line in block.splitlines() if line and "import" not in line
        ]
        assert len(lines) <= limit


def test_nothing_is_left_to_fill_in():
    assert "@@" not in README.read_text(encoding="utf-8")


def test_the_examples_run(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)

    def cifar10():  # in small, for there is no network
        images = rng.integers(0, 256, (64, 32, 32, 3), dtype="uint8")
        labels = rng.integers(0, 10, (64, 1), dtype="uint8")
        return (images, labels), (images[:16], labels[:16])

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", cifar10)
    monkeypatch.chdir(tmp_path)
    source = "\n".join(code_blocks())
    for written, small in (
        ("ResNet18(", "ResNet18(width_multiplier=1 / 16, "),
        ("batch_size=512, epochs=100", "batch_size=16, epochs=1"),
        ("epochs=20", "epochs=1"),
    ):
        assert written in source
        source = source.replace(written, small)
    namespace = {}
    exec(source, namespace)
    assert (tmp_path / "encoder.keras").exists()
    assert namespace["test_features"].shape == (16, 32)
    assert int(namespace["model"].optimizer.iterations) == 4
