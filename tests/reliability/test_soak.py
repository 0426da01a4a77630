"""A long run takes no more than a short one.

`SIMCLR_KERAS_SOAK_STEPS` says how many steps it has; 1,000 if it is not set.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.distribution.results import environment
from tests.reliability import soak

pytestmark = pytest.mark.slow
STEPS = int(os.environ.get("SIMCLR_KERAS_SOAK_STEPS", 1000))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak")
    subprocess.run(
        [sys.executable, soak.__file__, str(folder), str(STEPS)],
        check=True,
        env={**environment(), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return json.loads((folder / "measured.json").read_text())


def after_warm_up(measured, name):
    values = [epoch[name] for epoch in measured["epochs"]]
    assert len(values) == STEPS // soak.STEPS_PER_EPOCH
    return values[len(values) // 5 :]


def test_memory_does_not_grow(measured):
    megabytes = after_warm_up(measured, "megabytes")
    tenth = max(1, len(megabytes) // 10)
    first = sum(megabytes[:tenth]) / tenth
    last = sum(megabytes[-tenth:]) / tenth
    print(f"{first:.1f} MB, after {STEPS} steps {last:.1f} MB")
    assert last < 1.02 * first


@pytest.mark.parametrize("name", ["traces", "functions"])
def test_nothing_is_traced_again(name, measured):
    # Not even by the callbacks at the end of the first epoch: an earlier `fit`
    # has done so.
    numbers = {epoch[name] for epoch in measured["epochs"]}
    assert len(numbers) == 1, numbers


def test_nothing_is_left_open(measured):
    before, after = measured["before"], measured["after"]
    assert after["python threads"] == before["python threads"] == ["MainThread"]
    assert after["threads"] <= before["threads"]
    assert after["files"] <= before["files"]
