"""The examples of the docstrings run as they are written."""

import doctest
import importlib
import pathlib
import pkgutil

import keras
import pytest

import simclr_keras

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    names = [simclr_keras.__name__]
    for info in pkgutil.walk_packages(
        simclr_keras.__path__, f"{simclr_keras.__name__}."
    ):
        names.append(info.name)
    other_backends = {"tensorflow", "jax", "torch"} - {keras.backend.backend()}
    return [
        name
        for name in names
        if not name.endswith(tuple(f"{b}_step" for b in other_backends))
    ]


def examples():
    finder = doctest.DocTestFinder()
    for name in modules():
        module = importlib.import_module(name)
        # Nothing is there that the example does not import itself.
        for test in finder.find(module, name, globs={"__name__": "__main__"}):
            if test.examples:
                # Exports compare what they write, which takes a while.
                is_slow = test.name.startswith("simclr_keras.export.")
                marks = pytest.mark.slow if is_slow else ()
                yield pytest.param(test, id=test.name, marks=marks)


@pytest.mark.parametrize("test", examples())
def test_example(test, monkeypatch, tmp_path):
    # Some of them write, and some read what the repository holds.
    (tmp_path / "tests").symlink_to(pathlib.Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    report = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in simclr_keras.__all__
        if callable(getattr(simclr_keras, name))
    ],
)
def test_public_names_have_an_example(name):
    assert ">>> " in getattr(simclr_keras, name).__doc__
