"""How a benchmark writes down what it found."""

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys


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
        "processor": processor(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **versions("tensorflow", "jax", "torch", "keras"),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**fields, **environment}, file, indent=2)


def versions(*packages):
    """Dict of those that are installed; imports none of them."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor():
    """Its name, where the system says it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [x for x in file if x.startswith("model name")]
        return lines[0].split(":")[1].strip()
    except (OSError, IndexError):
        return platform.processor()


def peak_bytes():
    """The most memory that this process has held, its resident set."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def of_child(script, *arguments):
    """The JSON in the last line that a script prints in a new process."""
    output = subprocess.run(
        [sys.executable, script, *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])
