"""Losses and means on replicas against formulas in NumPy."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.distribution import results
from tests.distribution.loss_alone import (
    CASES,
    DIM,
    OTHERS,
    UNEVEN,
    labels,
    projections,
)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    path = tmp_path_factory.mktemp("loss") / "loss.npz"
    script = results.SCRIPT.with_name("loss_alone.py")
    subprocess.run(
        [sys.executable, script, path],
        check=True,
        timeout=300,
        env=results.environment(),
    )
    with np.load(path) as arrays:
        return dict(arrays)


def nt_xent(z, temperature):
    """Equation 1 over the global batch, in loops; z is (2, N, D)."""
    z = z.reshape(-1, z.shape[-1])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    count = len(z)
    losses = []
    for i in range(count):
        partner = (i + count // 2) % count
        terms = [
            np.exp(z[i] @ z[k] / temperature) for k in range(count) if k != i
        ]
        positive = np.exp(z[i] @ z[partner] / temperature)
        losses.append(-np.log(positive / sum(terms)))
    return np.mean(losses)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_replicas_add_up_to_the_global_loss(computed, case):
    i = CASES.index(case)
    assert len(computed[f"{i}/sizes"]) == case[0]
    assert computed[f"{i}/sizes"].sum() == case[1]
    # Float64, but for Keras's 1 / R.
    np.testing.assert_allclose(
        computed[f"{i}/losses"].sum(),
        nt_xent(projections(case), case[2]),
        rtol=1e-7,
    )


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_the_global_loss(computed, case):
    z, step = projections(case), 1e-6
    gradient = np.zeros_like(z)
    for place in np.ndindex(2, case[1], DIM):
        shift = np.zeros_like(z)
        shift[place] = step
        gradient[place] = (
            nt_xent(z + shift, case[2]) - nt_xent(z - shift, case[2])
        ) / (2 * step)
    # Of central differences: step**2, and 1e-16 / step.
    np.testing.assert_allclose(
        computed[f"{CASES.index(case)}/gradient"], gradient, atol=1e-8
    )


@pytest.mark.parametrize("case", CASES)
def test_dense_form_equals_blocks(computed, case):
    i = CASES.index(case)
    for name in ("losses", "gradient"):
        # float64
        np.testing.assert_allclose(
            computed[f"{i}/dense_{name}"],
            computed[f"{i}/{name}"],
            rtol=1e-10,
            atol=1e-14,
        )


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("case", UNEVEN)
def test_other_losses_are_those_of_one_device(computed, case, name):
    loss = OTHERS[name]
    z = tf.constant(projections(case))
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = loss(
            z[0], z[1], labels=labels(case) if loss.uses_labels else None
        )
    i = CASES.index(case)
    # Float64, but for Keras's 1 / R.
    np.testing.assert_allclose(computed[f"{i}/{name}"].sum(), value, rtol=1e-7)
    np.testing.assert_allclose(
        computed[f"{i}/{name}_gradient"],
        tape.gradient(value, z),
        rtol=1e-7,
        atol=1e-10,
    )


def test_some_cases_are_uneven(computed):
    sizes = [computed[f"{i}/sizes"] for i in range(len(CASES))]
    assert sum(len(set(s)) > 1 for s in sizes) >= 2


@pytest.mark.parametrize("case", CASES)
def test_labels_of_all_replicas_are_compared(computed, case):
    z = projections(case)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    z, classes = np.concatenate(z), np.tile(labels(case), 2)
    expected = np.mean(
        [
            np.mean([z[i] @ z[k] for k in np.flatnonzero(classes == one)])
            for i, one in enumerate(classes)
        ]
    )
    np.testing.assert_allclose(
        computed[f"{CASES.index(case)}/labelled"].sum(), expected, rtol=1e-7
    )


@pytest.mark.parametrize("case", CASES)
def test_shares_of_a_mean_add_up_to_it(computed, case):
    i = CASES.index(case)
    z_i, z_j = projections(case)
    # Of numbers, and of rows of them; in float64.
    np.testing.assert_allclose(
        computed[f"{i}/means"].sum(axis=1),
        [z_i[:, 0].mean(), z_j.mean()],
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        computed[f"{i}/gradient_of_mean"], 1 / z_j.size, rtol=1e-12
    )
