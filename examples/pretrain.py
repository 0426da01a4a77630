r"""Pretrains an encoder with SimCLR and evaluates its representations.

    python examples/pretrain.py                                # digits, minutes
    python examples/pretrain.py --recipe=cifar10 --data_dir=...
    python examples/pretrain.py --recipe=small --image_folder=photos
    python examples/pretrain.py --run_dir=runs/photos --resume
    python examples/pretrain.py --recipe=imagenet --strategy=mirrored

A recipe (`recipes.py`) gives every value; a flag replaces one. Everything that
the run makes is in its folder (`run_folder.py`). Ctrl-C ends a run between two
steps, and `--resume` continues from there, exactly as if the run had not been
interrupted. The last thing printed is a table of accuracies on held-out images
(`report.py`), which is in `results.json` too.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On processors without AVX-512, TensorFlow leaves oneDNN off, and a step takes
# twice as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import loading
import recipes
from absl import app, flags, logging


class ResumeParser(flags.BooleanParser):
    """Of a flag that is a boolean or "force"."""

    def parse(self, argument):
        return argument if argument == "force" else super().parse(argument)


flags.DEFINE_enum(
    "recipe",
    None,
    list(recipes.RECIPES),
    "Where the values come from. Default: digits, or small for an "
    "--image_folder.",
)
flags.DEFINE_string(
    "run_dir",
    None,
    "Run folder. Default: runs/<recipe>, or runs/<name of --image_folder>.",
)
flags.DEFINE_boolean(
    "print_config",
    False,
    "Print the configuration, with --resume that of the run, and do nothing.",
)
flags.DEFINE_flag(
    flags.Flag(
        ResumeParser(),
        flags.ArgumentSerializer(),
        "resume",
        False,
        "Continue the run in the run folder; --resume=force also if versions, "
        "data or configuration have changed.",
        boolean=True,
    )
)
flags.DEFINE_enum(
    "strategy",
    "none",
    ["none", "mirrored", "multi_worker", "tpu"],
    "Where to train: one device, all GPUs of this machine, those of several "
    "machines (each needs TF_CONFIG and sees the run folder), or a TPU.",
)
flags.DEFINE_integer(
    "replicas", None, "With --strategy=mirrored: GPUs, or replicas on a CPU."
)
flags.DEFINE_string("tpu", "", "With --strategy=tpu: its name, or local.")
recipes.define_flags()
flags.adopt_module_key_flags(recipes)  # --help shows them, too
FLAGS = flags.FLAGS


def main(argv):
    """Prepares, trains, evaluates."""
    started = time.monotonic()
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # TFDS logs each file that it reads.
    try:
        values = recipes.flags_set()
        if FLAGS.resume:
            recipes.check(values)
        else:
            config = recipes.resolve(recipes.chosen(), values)
            if FLAGS.print_config:
                print(json.dumps(config, indent=2))
                return
        # Only now: it takes TensorFlow seconds to load, and --help none.
        loading.load_tensorflow()
        import pretraining

        if FLAGS.print_config:
            _, config = pretraining.configure()
            print(json.dumps(config, indent=2))
            return
        prepared = pretraining.prepare()
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        sys.exit(f"Error: {recipes.in_flags(str(error))}")
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell reports Ctrl-C
    pretraining.run(prepared, started)


if __name__ == "__main__":
    app.run(main)
