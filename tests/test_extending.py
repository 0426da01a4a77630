"""docs/extending.md: what its examples look like, and what replicas make of it.

That they run, and do what they say on every backend, is in
tests/backends/test_extending.py.
"""

import ast
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras import data, encoders, evaluation
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


@pytest.mark.slow
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


# --- What labels are worth ---------------------------------------------------
@pytest.mark.slow
def test_supervised_contrastive_is_ahead_on_digits():
    """As the document's table says, after a third of its epochs."""
    supervised = extending.definitions(SUPCON)["SupConLoss"]
    digits = data.load_digits()
    train, test = digits.train.arrays(), digits.test.arrays()
    epochs, batch_size = 7, 64
    steps = epochs * digits.train.steps_per_epoch(batch_size)
    accuracies = {}
    for loss in simclr_keras.NTXentLoss, supervised:
        keras.utils.set_random_seed(0)
        model = simclr_keras.SimCLRModel(
            encoders.ResNet18(
                input_shape=(8, 8, 1), stem="cifar", width_multiplier=0.25
            ),
            simclr_keras.ProjectionHead(64),
            simclr_keras.SimCLRAugmentation(
                8, 8, blur=False, flip=False, area_range=(0.5, 1), seed=0
            ),
        )
        schedule = simclr_keras.WarmupCosineDecay(0.2, steps, steps // 8)
        model.compile(keras.optimizers.SGD(schedule, 0.9), loss(0.5))
        dataset = data.training_dataset(
            digits.train, batch_size, seed=0, with_labels=True
        )
        model.fit(dataset, epochs=epochs, verbose=0)
        representations = (
            model.predict(x, verbose=0) for x, _ in (train, test)
        )
        train_features, test_features = representations
        accuracies[loss.__name__] = evaluation.linear_evaluation(
            train_features,
            train[1],
            test_features,
            test[1],
            l2_values=np.logspace(0, -6, 7),
        ).accuracy
    assert accuracies["NTXentLoss"] > 0.9, accuracies  # It has learned.
    assert accuracies["SupConLoss"] > accuracies["NTXentLoss"], accuracies
