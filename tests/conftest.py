"""What holds for every test."""

import gc

import keras
import pytest


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_behind():
    """Frees the models of a file; a process slows down under those of all."""
    yield
    keras.utils.clear_session()
    gc.collect()
