"""The README's code runs as it is written."""

import pathlib
import re

import keras
import numpy as np

README = pathlib.Path(__file__).parents[1] / "README.md"


def code_blocks():
    text = README.read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_the_examples_are_as_short_as_they_say():
    pretraining, probe = code_blocks()
    lines = [
        line
        for line in pretraining.splitlines()
        if line and "import" not in line
    ]
    assert len(lines) <= 15
    assert len(probe.splitlines()) <= 10


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
