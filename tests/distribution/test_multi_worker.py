"""The example on two workers over loopback, one of them killed, and resumed."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import simclr_keras
from tests.distribution import results
from tests.distribution.cluster import cluster, free_ports

PRETRAIN = results.ROOT / "examples" / "pretrain.py"
TWO_WORKERS = results.ROOT / "examples" / "multi_worker.sh"
# As a Keras user would write it, without this library.
STOCK = """
import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(np.zeros((4, 2)), np.zeros((4, 1)), batch_size=4, verbose=0)
"""
SMALL = (
    "--width_multiplier=0.03125",
    "--batch_size=128",
    "--epochs=3",
    "--label_draws=2",
)


def environment():
    # Without oneDNN, whose sums depend on threads.
    return {**results.environment(), "TF_ENABLE_ONEDNN_OPTS": "0"}


def start_pretraining(run_dir, logs, *flags):
    """Both workers of a run of the example; the first one is the chief."""
    workers = []
    for index, config in enumerate(cluster()):
        with open(logs / f"worker_{index}.log", "w") as log:
            workers.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        str(PRETRAIN),
                        "--strategy=multi_worker",
                        f"--run_dir={run_dir}",
                        *SMALL,
                        *flags,
                    ],
                    cwd=results.ROOT,
                    env={**environment(), "TF_CONFIG": config},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return workers


def wait(workers, logs, timeout=600):
    for index, worker in enumerate(workers):
        code = worker.wait(timeout)
        text = pathlib.Path(logs / f"worker_{index}.log").read_text()
        assert code == 0, text[-3000:]


def wait_for(path, workers):
    started = time.monotonic()
    while not path.exists():
        assert time.monotonic() - started < 600
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.02)


def weights(run_dir):
    encoder = keras.saving.load_model(run_dir / "encoder.keras")
    assert isinstance(encoder, simclr_keras.encoders.ResNet)
    return [w.numpy() for w in encoder.weights]


@pytest.mark.slow
def test_killed_and_stopped_workers_end_as_an_uninterrupted_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(
        ["bash", TWO_WORKERS, f"--run_dir={whole}", *SMALL],
        check=True,
        timeout=600,
        env={
            **environment(),
            "PYTHON": sys.executable,
            "PORTS": " ".join(map(str, free_ports())),
        },
    )
    with open(whole / "results.json") as file:
        assert json.load(file)["replicas"] == 2

    workers = start_pretraining(broken, tmp_path)
    wait_for(broken / "checkpoints" / "epoch_00001.weights.h5", workers)
    time.sleep(0.2)  # A step or some of the second epoch's ten.
    workers[1].send_signal(signal.SIGKILL)
    assert workers[0].wait(120) != 0
    assert "A worker is gone." in (tmp_path / "worker_0.log").read_text()
    assert not (broken / "checkpoints" / "epoch_00002.weights.h5").exists()
    assert not (broken / "results.json").exists()

    # A signal to one of them stops both after the same step.
    workers = start_pretraining(broken, tmp_path, "--resume")
    wait_for(broken / "checkpoints" / "epoch_00002.weights.h5", workers)
    workers[1].send_signal(signal.SIGTERM)
    assert [worker.wait(120) for worker in workers] == [130, 130]
    log = (tmp_path / "worker_0.log").read_text()
    assert "Resuming after epoch 1 of 3" in log
    place = re.search(r"It was saved after (step \d+ of epoch 3 of 3)", log)

    wait(start_pretraining(broken, tmp_path, "--resume"), tmp_path)
    log = (tmp_path / "worker_0.log").read_text()
    assert f"Resuming after {place[1]}" in log
    for a, b in zip(weights(broken), weights(whole), strict=True):
        # Float32; the collective adds two numbers, in either order the same.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_keras_still_needs_the_mend():
    """When this fails, `train_step.py` has something that can go."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", STOCK],
            env={**environment(), "TF_CONFIG": config},
            stderr=subprocess.PIPE,
            text=True,
        )
        for config in cluster()
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    for worker, error in zip(workers, errors):
        assert worker.returncode != 0
        # What `_maybe_symbolic_build` makes of a batch of several workers.
        assert "PerReplica" in error, error[-3000:]
