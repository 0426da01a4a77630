import ast
import importlib
import inspect
import pathlib
import subprocess
import sys

import keras
import pytest

import simclr_keras

PACKAGES = (
    "augmentation",
    "callbacks",
    "data",
    "distribution",
    "encoders",
    "evaluation",
    "export",
    "losses",
    "metrics",
    "optimizers",
    "plots",
)


def run(code):
    """What a fresh interpreter prints in its last line."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        # Where the package under test is, installed or not.
        cwd=pathlib.Path(simclr_keras.__file__).parents[1],
    )
    return result.stdout.strip().splitlines()[-1]


IMPORT = """
import sys, time
start = time.process_time()
import keras
before = set(sys.modules)
middle = time.process_time()
import simclr_keras
share = (time.process_time() - middle) / (middle - start)
print(share, *(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def imports():
    """Time, as a share of Keras's, and the names of new modules."""
    share, *names = run(IMPORT).split()
    return float(share), set(names)


def test_import_takes_little_of_what_keras_takes(imports):
    # Of the process's own time, whatever speed the machine has today. It is
    # a tenth of a second beside some five.
    assert imports[0] <= 0.05


def test_import_leaves_optional_packages_alone(imports):
    found = {name.split(".")[0] for name in imports[1]}
    assert "simclr_keras" in found
    optional = {"tensorflow_datasets", "sklearn", "matplotlib", "scipy", "PIL"}
    assert not found & optional


def test_data_is_imported_when_it_is_used(imports):
    assert "simclr_keras.augmentation" in imports[1]
    assert not any(n.startswith("simclr_keras.data") for n in imports[1])
    assert simclr_keras.data is importlib.import_module("simclr_keras.data")


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'SimSiam'"):
        simclr_keras.SimSiam  # noqa: B018


@pytest.mark.parametrize("name", simclr_keras.__all__)
def test_public_names(name):
    assert getattr(simclr_keras, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_of(package):
    module = getattr(simclr_keras, package)
    assert inspect.ismodule(module)
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None


def test_all_is_sorted_and_complete():
    assert simclr_keras.__all__ == sorted(simclr_keras.__all__)
    assert set(PACKAGES) <= set(simclr_keras.__all__)


def keras_classes():
    """Public classes that Keras's files may hold."""
    bases = (
        keras.layers.Layer,
        keras.losses.Loss,
        keras.metrics.Metric,
        keras.optimizers.Optimizer,
        keras.optimizers.schedules.LearningRateSchedule,
    )
    modules = [simclr_keras]
    modules += [getattr(simclr_keras, package) for package in PACKAGES]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, bases)
        and value.__module__.startswith("simclr_keras")
        and not value.__name__.startswith("_")
    }
    return sorted(found, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", keras_classes(), ids=lambda cls: cls.__name__)
def test_classes_are_registered(cls):
    if cls in (
        simclr_keras.augmentation.RandomImageLayer,
        simclr_keras.losses.ContrastiveLoss,
    ):
        return  # base classes
    name = keras.saving.get_registered_name(cls)
    assert name == f"simclr_keras>{cls.__name__}"
    assert keras.saving.get_registered_object(name) is cls


def test_nothing_below_imports_what_is_above():
    """The package's own names are for its users; modules import modules."""
    folder = pathlib.Path(simclr_keras.__file__).parent
    modules = {path.stem for path in folder.iterdir()}
    found = []
    for path in folder.rglob("*.py"):
        if path == folder / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            names = [name.name for name in node.names]
            if isinstance(node, ast.Import) and "simclr_keras" in names:
                found.append((path.name, "import simclr_keras"))
            elif getattr(node, "module", None) == "simclr_keras":
                found += [(path.name, n) for n in names if n not in modules]
    assert not found


def test_version():
    assert all(part.isdigit() for part in simclr_keras.__version__.split("."))
