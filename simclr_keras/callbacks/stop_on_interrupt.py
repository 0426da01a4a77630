"""Ends training between two steps on Ctrl-C."""

import contextlib
import signal
import sys
import threading

import keras


class StopOnInterrupt(keras.callbacks.Callback):
    """Lets the running step finish, then raises `KeyboardInterrupt`.

    Without it Ctrl-C takes effect anywhere, also while another callback writes
    a file. SIGTERM, by which clusters take a machine back, is handled in the
    same way. A second signal takes effect at once. The epoch that was
    interrupted does not end, so callbacks save nothing of it.

    The signals are caught while `fit` runs and only then, however it ends.
    Python allows this in the main thread; in another one the callback does
    nothing.

    Put it last: the callbacks before it then see the step that was finished.

    Args:
        signals: Sequence of signal numbers. Defaults to SIGINT and SIGTERM.

    Raises:
        KeyboardInterrupt: From `fit`.

    Example:
        >>> import keras, numpy as np, simclr_keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> try:
        ...     history = model.fit(
        ...         np.ones((8, 2)),
        ...         np.zeros((8, 1)),
        ...         callbacks=[simclr_keras.callbacks.StopOnInterrupt()],
        ...         verbose=0,
        ...     )
        ... except KeyboardInterrupt:
        ...     model.save("interrupted.keras")
    """

    def __init__(self, signals=(signal.SIGINT, signal.SIGTERM)):
        super().__init__()
        self.signals = tuple(signals)
        self._is_requested = False
        self._previous = {}
        self._loop = None

    def on_train_begin(self, logs=None):
        self._release()
        self._is_requested = False
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = _calling_loop(sys._getframe())
        for number in self.signals:
            self._previous[number] = signal.signal(number, self._request)

    def on_train_end(self, logs=None):
        self._release()
        self._raise_if_requested()

    def on_epoch_begin(self, epoch, logs=None):
        self._raise_if_requested()

    def on_train_batch_end(self, batch, logs=None):
        self._raise_if_requested()

    def on_test_batch_end(self, batch, logs=None):
        self._raise_if_requested()  # of the validation in `fit`

    def _raise_if_requested(self):
        if self._is_requested:
            self._is_requested = False
            raise KeyboardInterrupt

    def _request(self, number, frame):
        self._release()
        if not _is_running(self._loop, frame):
            # An error has ended `fit`, of which callbacks are not told.
            signal.raise_signal(number)
            return
        self._is_requested = True
        # Python refuses to print from within a print that was interrupted.
        with contextlib.suppress(RuntimeError):
            print("\nStopping after this step ...", flush=True)

    def _release(self):
        for number, handler in self._previous.items():
            # None is a handler that was not installed from Python.
            signal.signal(number, handler or signal.SIG_DFL)
        self._previous = {}


def _calling_loop(frame):
    """The function that runs the callbacks: `fit`, or a loop like it.

    By what identifies its call, since the frame would keep its data alive.
    """
    while frame.f_code.co_name == "on_train_begin":
        frame = frame.f_back
    return id(frame), frame.f_code


def _is_running(loop, frame):
    while frame is not None:
        if (id(frame), frame.f_code) == loop:
            return True
        frame = frame.f_back
    return False
