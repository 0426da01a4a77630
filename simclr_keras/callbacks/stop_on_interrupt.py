"""Ends training between two steps on Ctrl-C."""

import signal

import keras

from simclr_keras import distribution
from simclr_keras.callbacks.stop_request import StopRequest


class StopOnInterrupt(keras.callbacks.Callback):
    """Lets the running step finish, then raises `KeyboardInterrupt`.

    Without it Ctrl-C takes effect anywhere, also while another callback writes
    a file. SIGTERM, by which clusters take a machine back, is handled in the
    same way. A second signal takes effect at once. The epoch that was
    interrupted does not end, so callbacks save nothing of it; `Checkpoints`,
    which needs no `StopOnInterrupt`, does, and ends `fit` in the same way. If
    `fit` has both, this one leaves it to that one.

    The signals are caught while `fit` runs and only then, however it ends.
    Python allows this in the main thread; in another one the callback does
    nothing. With several workers a signal to one of them stops all.

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
        self._request = StopRequest(self.signals)

    def on_train_begin(self, logs=None):
        self._request.listen()

    def on_train_end(self, logs=None):
        self._stop_if_requested()
        self._request.end()

    def on_epoch_begin(self, epoch, logs=None):
        self._stop_if_requested()

    def on_train_batch_end(self, batch, logs=None):
        self._stop_if_requested()

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if_requested()  # of the validation in `fit`

    def _stop_if_requested(self):
        if self._request.is_left_to_others:
            return
        strategy = distribution.strategy_of(self.model)
        if distribution.any_worker(strategy, self._request.is_made)[0]:
            self._request.end()
            raise KeyboardInterrupt
