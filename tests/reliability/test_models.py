"""A model that is dropped leaves nothing, as in a search over many.

`SIMCLR_KERAS_MODELS` says how many are made of each kind; 8 if it is not set.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.distribution.results import environment
from tests.reliability import models

pytestmark = pytest.mark.slow
COUNT = int(os.environ.get("SIMCLR_KERAS_MODELS", 8))


def measure(kind):
    result = subprocess.run(
        [sys.executable, models.__file__, kind, str(COUNT)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def ours():
    return measure("ours")


@pytest.mark.parametrize("name", ["graphs", "functions"])
def test_no_graph_of_a_model_stays(name, ours):
    early, late = ours[name]
    assert late == early


def test_it_leaves_no_more_than_a_model_of_keras(ours):
    found, of_keras = ours["megabytes"], measure("keras")["megabytes"]
    print(f"{found:.1f} MB each, and {of_keras:.1f} MB of Keras's own")
    # By chance of the allocator's, a megabyte or two more or less. A defect was
    # seen at three times of Keras's own.
    assert found <= 1.25 * of_keras
