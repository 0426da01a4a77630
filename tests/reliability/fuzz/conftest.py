"""Failures that can be read, and tracebacks that say where an error is from."""

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="package")
def _whole_tracebacks_short_arrays():
    # Keras shortens tracebacks, of which fuzzing asks where they end.
    was_enabled = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    with np.printoptions(threshold=6, edgeitems=1):
        yield
    if was_enabled:
        keras.config.enable_traceback_filtering()
