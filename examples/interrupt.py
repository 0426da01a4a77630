"""Ctrl-C ends a run between two steps."""

import signal

import keras


class StopOnInterrupt(keras.callbacks.Callback):
    """Lets the step that is running finish, then raises `KeyboardInterrupt`.

    Without it Ctrl-C strikes anywhere, in the middle of a checkpoint too. A
    second Ctrl-C does so all the same. SIGTERM, by which clusters take a
    machine back, is treated alike. Use as a context manager around `fit`.
    """

    def __init__(self):
        super().__init__()
        self.requested = False
        self.previous = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *error):
        self._restore()

    def _request(self, number, frame):
        self.requested = True
        self._restore()
        print("\nStopping after this step ...", flush=True)

    def _restore(self):
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def on_train_batch_end(self, batch, logs=None):
        if self.requested:
            raise KeyboardInterrupt
