"""How a benchmark writes down what it found."""

import json
import os
import platform
import subprocess
import sys

import keras
import tensorflow as tf


def write_json(path, **fields):
    """Writes the fields, and what they were measured on, to a file.

    Args:
        path: String or None, which writes nothing.
        **fields: What JSON can hold.
    """
    if not path:
        return
    environment = {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**fields, **environment}, file, indent=2)


def of_child(script, *arguments):
    """The JSON in the last line that a script prints in a new process."""
    output = subprocess.run(
        [sys.executable, script, *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])
