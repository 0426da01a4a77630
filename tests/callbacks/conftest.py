"""Each test leaves the signals as it found them, also after an error."""

import signal

import pytest

_NUMBERS = signal.SIGINT, signal.SIGTERM


@pytest.fixture(autouse=True)
def _signals_are_as_before():
    # A process that was started in the background may ignore it.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in _NUMBERS]
    yield before
    for number, handler in zip(_NUMBERS, before):
        signal.signal(number, handler)
    signal.signal(signal.SIGINT, ignored)
