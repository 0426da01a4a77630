"""Each test begins with Python's own handlers of signals."""

import signal

import pytest

_DEFAULTS = {
    # A process that was started in the background may ignore it.
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@pytest.fixture(autouse=True)
def _signals_act_by_default():
    found = {n: signal.signal(n, each) for n, each in _DEFAULTS.items()}
    yield list(_DEFAULTS.values())
    for number, handler in found.items():
        signal.signal(number, handler)
