"""Loads TensorFlow without what it says on machines that have no GPU."""

import contextlib
import faulthandler
import os
import re
import sys
import tempfile
import warnings

# Its level of logging comes too late for these.
NEWS_TO_NOBODY = r"WARNING: All log messages before absl::InitializeLog|I0000 "
NO_GPU = r".* failed call to cuInit"


def load_tensorflow():
    """Imports TensorFlow and looks for GPUs; call it before other imports.

    What it writes on a driver that fails is passed on where there is a driver,
    and everything is if it cannot be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Where TensorFlow leaves oneDNN off, a step takes twice as long.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "tensorflow" in sys.modules:
        return
    if sys.stderr is not None and sys.stderr.isatty():
        print("Loading TensorFlow ...", file=sys.stderr)
    passed_over = NEWS_TO_NOBODY
    if not os.path.exists("/proc/driver/nvidia"):
        passed_over += f"|{NO_GPU}"
    # Without the place in the code, which says nothing to a user.
    warnings.formatwarning = lambda message, *_, **__: f"Note: {message}\n"
    with _captured() as said:
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")
        # A script that makes several models is told of retracing otherwise.
        tf.get_logger().setLevel("ERROR")
        said.passed_over = re.compile(passed_over)


class _Said:
    passed_over = re.compile("(?!)")  # of an import that fails: nothing


@contextlib.contextmanager
def _captured():
    """Holds back what is written to stderr, by C as well."""
    said = _Said()
    try:
        stderr = os.dup(2)
    except OSError:  # There is none.
        yield said
        return
    # If TensorFlow aborts, what is held back is lost; this says where it was.
    faulthandler.enable(file=stderr)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            faulthandler.disable()
            os.close(stderr)
            file.seek(0)
            for line in file.read().decode("utf-8", "replace").splitlines():
                if not said.passed_over.match(line):
                    print(line, file=sys.stderr)
