"""One library's side of a comparison: does what the driver asks, in turn.

Imports nothing but the standard library and NumPy, since every library runs it
in an environment of its own. Each request is a line of JSON on stdin, each
answer one in the pipe whose number is the argument:

    {"do": "prepare", "what": "loss", "config": {...}}  ->  {"parameters": 1}
    {"do": "measure"}  ->  {"seconds": 0.5}
    {"do": "memory", "what": "loss", "config": {...}}  ->  {"mebibytes": 12.5}
    {"do": "race", "config": {...}}  ->  {"steps": 10, "seconds": 18.2}
"""

import json
import os
import resource
import sys
import time
import traceback

import numpy as np


def serve(functions):
    """Answers until stdin ends.

    Args:
        functions: Dict of a library's functions of the config, by name:
            `make_augmentation`, `make_loss`, `make_step` and `make_end_to_end`
            return a function that does the work once and waits for it, and a
            dict of what else is to be known; `race` trains for some time and
            returns a dict.
    """
    answers = os.fdopen(int(sys.argv[1]), "w")
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                make = functions[f"make_{request['what']}"]
                run, answer = make(request["config"])
                run()  # traces and compiles
            elif request["do"] == "measure":
                answer = {"seconds": seconds(run)}
            elif request["do"] == "memory":
                make = functions[f"make_{request['what']}"]
                answer = {"mebibytes": memory(make, request["config"])}
            else:
                answer = functions["race"](request["config"])
        except Exception as error:
            traceback.print_exc()
            # TensorFlow puts the code that it traced before what is wrong.
            lines = [x.strip() for x in str(error).splitlines() if x.strip()]
            answer = {"error": " ".join([type(error).__name__, *lines[-1:]])}
        print(json.dumps(answer), file=answers, flush=True)


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def memory(make, config):
    """Peak of the resident set in MiB above that of a small batch."""
    make({**config, "batch_size": 16})[0]()
    run, _ = make(config)
    before = peak_mebibytes()
    run()
    return peak_mebibytes() - before


def peak_mebibytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def random_images(config):
    """As many uint8 images as a measurement takes."""
    count, size = config["batch_size"] * config["batches"], config["image_size"]
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 3), "uint8")


def random_views(config):
    """Two views of one batch, float32 in [0, 1]."""
    shape = (config["batch_size"], config["image_size"], config["image_size"])
    rng = np.random.default_rng(0)
    return [rng.random((*shape, 3), "float32") for _ in range(2)]


def random_projections(config):
    """Two float32 arrays (N, D)."""
    shape = (config["batch_size"], config["dim"])
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for _ in range(2)]


def load_race(config):
    """The images of a race, of training and of test, uint8."""
    with np.load(config["images"]) as images:
        return images["train"], images["test"]


def write_features(config, encode, train, test):
    """Writes what `encode` makes of the images, floats in [0, 1]."""
    features = {
        name: np.concatenate(
            [
                encode(images[i : i + 500].astype("float32") / 255)
                for i in range(0, len(images), 500)
            ]
        )
        for name, images in (("train", train), ("test", test))
    }
    np.savez(config["features"], **features)


class Deadline:
    """Counts steps until the time is over."""

    def __init__(self, minutes):
        self.steps = 0
        self.start = time.perf_counter()
        self.end = self.start + 60 * minutes

    def step(self):
        """Counts one, and says whether it was the last."""
        self.steps += 1
        return time.perf_counter() >= self.end

    def result(self):
        elapsed = time.perf_counter() - self.start
        return {"steps": self.steps, "seconds": elapsed}
