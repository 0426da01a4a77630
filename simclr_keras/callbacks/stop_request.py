"""Signals that ask `fit` to stop, heard between its beginning and its end."""

import contextlib
import signal
import sys
import threading


class StopRequest:
    """Whether a signal has asked a running `fit` to stop.

    The first signal is noted; a second one takes effect at once, as it would
    without this. Python allows handlers in the main thread alone; in another
    one nothing is heard. Callbacks of one `fit` share what they hear.

    Args:
        signals: Sequence of signal numbers.
        saves: Boolean, whether its callback saves the step before it stops;
            others that hear the same leave it to that one. Defaults to False.
    """

    def __init__(self, signals, saves=False):
        self.signals = tuple(signals)
        self.saves = saves
        self._is_made = False
        self._previous = {}
        self._loop = None
        self._others = []
        self._is_left_to_others = False

    @property
    def is_left_to_others(self):
        """Whether another callback saves and stops at the same signals."""
        return self._is_left_to_others

    @property
    def is_made(self):
        return self._is_made or any(each._is_made for each in self._others)

    def listen(self):
        """Begins to listen; to be called in a callback's `on_train_begin`."""
        self.end()
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = _calling_loop(sys._getframe())
        for number in self.signals:
            self._listen_to(number)

    def _listen_to(self, number):
        ended = []
        owner = _owner(number)
        while owner is not None and owner not in ended:
            if owner._previous and owner._loop == self._loop:
                self._others.append(owner)
                owner._is_left_to_others |= self.saves
                self._is_left_to_others |= owner.saves
                return
            owner.end()  # It is that of a `fit` which an error has ended.
            ended.append(owner)
            owner = _owner(number)
        previous = signal.signal(number, self._note)
        # Somebody has brought back what had been given back before.
        self._previous[number] = _default(number) if owner else previous

    def end(self):
        """Forgets what was heard; signals act as they did before."""
        for each in (self, *self._others):
            each._is_made = False
            each._release()
        self._others = []
        self._is_left_to_others = False

    def _note(self, number, frame):
        self._release()
        if not _is_running(self._loop, frame):
            # An error has ended `fit`, of which callbacks are not told.
            if _owner(number) is self:
                signal.signal(number, _default(number))
            signal.raise_signal(number)
            return
        self._is_made = True
        # Python refuses to print from within a print that was interrupted.
        with contextlib.suppress(RuntimeError):
            print("\nStopping after this step ...", flush=True)

    def _release(self):
        for number, handler in self._previous.items():
            # None is a handler that was not installed from Python.
            signal.signal(number, handler or signal.SIG_DFL)
        self._previous = {}


def _owner(number):
    """The `StopRequest` that a signal goes to, or None."""
    owner = getattr(signal.getsignal(number), "__self__", None)
    return owner if isinstance(owner, StopRequest) else None


def _default(number):
    """What Python does at a signal by itself."""
    is_interrupt = number == signal.SIGINT
    return signal.default_int_handler if is_interrupt else signal.SIG_DFL


def _calling_loop(frame):
    """The function that runs the callbacks: `fit`, or a loop like it.

    By what identifies its call, since the frame would keep its data alive.
    """
    while frame.f_code.co_name in ("listen", "on_train_begin"):
        frame = frame.f_back
    return id(frame), frame.f_code


def _is_running(loop, frame):
    while frame is not None:
        if (id(frame), frame.f_code) == loop:
            return True
        frame = frame.f_back
    return False
