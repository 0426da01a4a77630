"""The libraries that are compared, and a process of each in its environment."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from absl import flags

FLAGS = flags.FLAGS
PEERS = ("keras_cv", "tf_similarity", "lightly")
flags.DEFINE_list("peers", list(PEERS), "Libraries beside this one, if any.")
flags.DEFINE_string(
    "venvs", None, "Folder of the peers' environments; they are made there."
)
flags.DEFINE_string(
    "python",
    "python3.11",
    "Makes the peers' environments; TensorFlow 2.15 takes 3.9 to 3.11.",
)
flags.DEFINE_string(
    "torch",
    "torch",
    "What pip is to install for PyTorch. The plain one brings gigabytes of "
    "CUDA on Linux.",
)
flags.DEFINE_string("torchvision", "torchvision", "The one for --torch.")

HERE = pathlib.Path(__file__).parent
OURS = "ours"
SCRIPTS = {
    OURS: "ours.py",
    "keras_cv": "kerascv.py",
    "tf_similarity": "tf_similarity.py",
    "lightly": "lightly_ssl.py",
}
# The last TensorFlow whose `tf.keras` is Keras 2, which the two need. Newer
# packages around it ask for a newer protobuf or NumPy.
TENSORFLOW = ["tensorflow==2.15.1", "numpy<2", "tensorflow-metadata<1.16"]
# For the versions in the report.
PACKAGES = {
    OURS: ["tensorflow", "keras"],
    "keras_cv": ["keras-cv", "tensorflow"],
    "tf_similarity": ["tensorflow_similarity", "tensorflow"],
    "lightly": ["lightly", "torch", "torchvision"],
}


def names():
    """Those to compare: this library, and the peers of the flags."""
    unknown = [peer for peer in FLAGS.peers if peer and peer not in PEERS]
    if unknown:
        raise ValueError(f"--peers must be of {PEERS}. Received: {unknown}.")
    return [OURS, *filter(None, FLAGS.peers)]


def requirements(name):
    """Arguments of one `pip install` after the other."""
    return {
        "keras_cv": [["keras-cv==0.6.4", *TENSORFLOW]],
        "tf_similarity": [["tensorflow_similarity==0.17.1", *TENSORFLOW]],
        "lightly": [
            [FLAGS.torch],
            # Its wheel names the PyTorch with CUDA that it was built for.
            ["--no-deps", FLAGS.torchvision],
            ["lightly==1.6.0", "pillow"],
        ],
    }[name]


def python_of(name):
    """The interpreter of a library; makes its environment if need be."""
    if name == OURS:
        return sys.executable
    if not FLAGS.venvs:
        raise ValueError("--venvs must be a folder for the environments.")
    folder = pathlib.Path(FLAGS.venvs).absolute() / name
    python = folder / "bin" / "python"
    wanted = json.dumps(requirements(name))
    done = folder / "installed.json"
    if not done.exists() or done.read_text() != wanted:
        print(f"Making {folder}.", flush=True)
        subprocess.run([FLAGS.python, "-m", "venv", folder], check=True)
        for arguments in requirements(name):
            pip = [python, "-m", "pip", "install", "--quiet", *arguments]
            subprocess.run(pip, check=True)
        done.write_text(wanted)
    return str(python)


def versions(name):
    """Dict of the versions of a library and what it stands on."""
    code = (
        "import importlib.metadata, json, sys; print(json.dumps("
        "{p: importlib.metadata.version(p) for p in sys.argv[1:]}))"
    )
    output = subprocess.run(
        [python_of(name), "-c", code, *PACKAGES[name]],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return json.loads(output)


class Worker:
    """A process of one library, which answers one request at a time."""

    def __init__(self, name):
        self.name = name
        environment = {
            # For all alike: TensorFlow leaves it out on some processors.
            "TF_ENABLE_ONEDNN_OPTS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **os.environ,
        }
        if name == OURS:
            paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        else:
            environment.pop("PYTHONPATH", None)
        # Libraries print much at their start, on stdout too; it counts only if
        # they fail. Answers come through a pipe of their own.
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        answers, writer = os.pipe()
        self.answers = os.fdopen(answers)
        self.process = subprocess.Popen(
            [python_of(name), str(HERE / SCRIPTS[name]), str(writer)],
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=self.log,
            pass_fds=[writer],
            env=environment,
            text=True,
        )
        os.close(writer)

    def ask(self, **request):
        """The answer to a request, a dict; with "error" where it failed."""
        answer = {"error": "its process has ended"}
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.answers.readline()
            answer = json.loads(line) if line else answer
        if "error" in answer:
            self.log.seek(0)
            print(self.log.read()[-4000:], file=sys.stderr)
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.answers.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
