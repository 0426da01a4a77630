"""What holds for every test."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _collections_stay_short():
    """Takes what a file's tests have left out of garbage collection.

    TensorFlow keeps traced functions for good. A collection, of which Keras
    makes one in each `clear_session`, would go through those of all files:
    up to a minute at the end.
    """
    yield
    gc.freeze()
