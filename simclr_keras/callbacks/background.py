"""Runs one thing at a time beside the training."""

import threading


class Background:
    """Runs a function in a thread, and hands on the error that it raises.

    A program ends only when the thread has, so what was begun is finished
    after Ctrl-C or an error as well.
    """

    def __init__(self):
        self._thread = None
        self._error = None

    def run(self, function):
        """Calls a function in a thread; waits for the one before it."""
        self.wait()

        def call():
            try:
                function()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=call)
        self._thread.start()

    def is_busy(self):
        return self._thread is not None and self._thread.is_alive()

    def wait(self):
        """Waits for the function, and raises what it raised."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
