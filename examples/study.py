"""The paper's studies, each one command on your own data.

    python examples/study.py --study=temperature --data_dir=tfds
    python examples/study.py --study=loss --image_folder=photos --image_size=32
    python examples/study.py --study=own_data --image_folder=photos

A study changes one or two things at a time and measures what the
representation is worth: by a linear classifier on frozen features, unless the
study says otherwise. It ends in a table, a picture and a page with the paper's
numbers beside its own: OUTPUT/STUDY/study.md, study.csv and study.png.

Every trial is kept in OUTPUT/trials, by all that it depends on. A study that
was stopped makes what is missing, and studies share what they have in common.

own_data tries what matters most, the crops' smallest area, the strength of
the colours and the temperature, on a folder of labelled images, and ends in a
command for pretrain.py. It chooses by the training images alone, each by its
neighbours among the others, and reports the held-out ones; what is not better
by more than noise stays as it is.
"""

import hashlib
import json
import os
import sys
import time

import command_line
import loading
import own_data
import studies
import study_page
from recipes import FEWEST_STEPS, RECIPES

NEED_COLOURS = ("augmentation_pairs", "invariance")
VERSION = 2  # of what a trial does; another one makes all trials again


def parse_arguments(arguments=None):
    """The command line."""
    parser = command_line.Parser(__doc__)
    parser.add_argument(
        "--study",
        choices=[*studies.STUDIES, own_data.NAME],
        required=True,
        help="what to study",
    )
    parser.add_argument(
        "--dataset",
        default="cifar10",
        help="a data set that TFDS knows, or digits, which are gray",
    )
    parser.add_argument(
        "--data_dir",
        type=command_line.path,
        metavar="FOLDER",
        help="where TFDS finds it",
    )
    parser.add_argument(
        "--image_folder",
        type=command_line.path,
        metavar="FOLDER",
        help="a folder for each class of images, in place of --dataset; a "
        "fifth is held out, unless there is --test_folder",
    )
    parser.add_argument(
        "--test_folder",
        type=command_line.path,
        metavar="FOLDER",
        help="the same folders of held-out images, beside --image_folder. "
        "Default: none",
    )
    parser.add_argument(
        "--image_size",
        type=command_line.positive,
        metavar="PIXELS",
        help="side to which the images of --image_folder are shrunk. Default: "
        "32, and for own_data that of the recipe it ends in",
    )
    for flag, default, help_ in (
        (
            "--images",
            5000,
            "to train on, equally many of each class, or all that it has",
        ),
        ("--test_images", 2000, "to measure with, likewise"),
        ("--seeds", 1, "runs of each trial, with seeds from 0"),
    ):
        parser.add_argument(
            flag,
            type=command_line.positive,
            default=default,
            metavar="N",
            help=help_,
        )
    own = "and for own_data on photos the recipe's"
    for name, also in (
        ("batch_size", f"{own}, at most a quarter of the images"),
        ("depth", own),
    ):
        parser.add_argument(
            f"--{name}",
            type=command_line.positive,
            metavar="N",
            help="of the trials that do not study it. Default: "
            f"{studies.DEFAULTS[name]}, {also}",
        )
    parser.add_argument(
        "--epochs",
        type=command_line.positive,
        metavar="N",
        help=f"likewise; {studies.DEFAULTS['epochs']} by default, and for "
        f"own_data at least as many as make {own_data.STEPS:,} steps",
    )
    parser.add_argument(
        "--width",
        type=float,
        help=f"of the ResNet, likewise. Default: {studies.DEFAULTS['width']}, "
        f"{own}",
    )
    parser.add_argument(
        "--output",
        type=command_line.path,
        default="studies",
        metavar="FOLDER",
        help="where to write",
    )
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        if options.width is not None and not options.width > 0:
            raise command_line.UsageError(
                f"--width must be positive. Received: {options.width}"
            )
        if os.path.isfile(options.output):
            raise command_line.UsageError(
                f"--output must be a folder. Received: {options.output}"
            )
        if options.image_folder:
            command_line.check_exists(
                "--image_folder", options.image_folder, is_folder=True
            )
        command_line.check_test_folder(
            "--image_folder", options.image_folder, options.test_folder
        )
        if options.image_size is None:
            recipe = RECIPES[own_data.FOR_PHOTOS]["image_size"]
            is_of_photos = own_data.is_of_photos(options)
            options.image_size = recipe if is_of_photos else 32
    return parser, options


def load_images(options):
    """The `trial.Images` of the command line."""
    import trial

    import simclr_keras

    if options.image_folder:
        with command_line.said_of("--image_folder"):
            data = simclr_keras.data.load_image_folder(
                options.image_folder,
                options.image_size,
                test_path=options.test_folder,
                test_fraction=0.0 if options.test_folder else 0.2,
                on_error="skip",
                in_memory=True,
            )
    elif options.dataset == "digits":
        data = simclr_keras.data.load_digits()
    else:
        data = simclr_keras.data.load_tfds(options.dataset, options.data_dir)
    return trial.Images(data, options.images, options.test_images)


class Trials:
    """Trials that were made, and those that are made now.

    Args:
        folder: Path of the folder that holds them.
        defaults: Dictionary, in place of `studies.DEFAULTS`.
        images: `trial.Images`.
        seeds: Integer, the seeds of each trial, from 0.
    """

    def __init__(self, folder, defaults, images, seeds):
        self.folder = folder
        self.defaults = defaults
        self.images = images
        self.fingerprint = images.fingerprint()
        self.seeds = seeds

    def results(self, changes, name):
        """What each seed's trial measured, a list of dictionaries."""
        return [
            self._result({**self.defaults, **changes}, seed, name)
            for seed in range(self.seeds)
        ]

    def _result(self, config, seed, name):
        import trial

        from simclr_keras.write_aside import write_aside

        made_of = {
            "version": VERSION,
            "images": self.fingerprint,
            "seed": seed,
            **config,
        }
        # As it was before there was a choice: trials of then stay.
        if config["stem"] == studies.DEFAULTS["stem"]:
            del made_of["stem"]
        key = json.dumps(made_of, sort_keys=True).encode()
        path = os.path.join(
            self.folder, f"{hashlib.sha256(key).hexdigest()[:16]}.json"
        )
        try:
            with open(path, encoding="utf-8") as file:
                results = json.load(file)["results"]
            if trial.measures(config) <= set(results):
                return results
            raise ValueError("Results are missing in it.")
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError):
            print(f"{path} is damaged; the trial is made again.")
        results = trial.run(config, self.images, seed)
        shown = ", ".join(
            f"{key} {results[key]:.3f}"
            for key in results
            if key in trial.measures(config) - {"linear_z", "knn_training"}
        )
        print(f"{name}, seed {seed}: {shown} ({results['seconds']:.0f} s)")
        with write_aside(path) as partial, open(partial, "w") as file:
            json.dump({"made_of": made_of, "results": results}, file, indent=2)
        return results


def run_study(study, trials):
    """Makes the trials of a study that are missing.

    Returns:
        Dictionary from (row, column) to a list of fractions, one a seed.
    """
    # Several cells may measure one trial.
    made = {}
    total = len({as_key(cell.changes) for cell in study.cells})
    print(
        f"{total * trials.seeds} trials, each of which is made once and kept "
        f"in {trials.folder}.",
        flush=True,
    )
    started = time.monotonic()
    table = {}
    for cell in study.cells:
        key = as_key(cell.changes)
        if key not in made:
            name = f"{cell.row}, {cell.column}"
            made[key] = trials.results(cell.changes, name)
            seconds = time.monotonic() - started
            left = seconds / len(made) * (total - len(made))
            print(
                f"{len(made)} of {total}; about {left / 60:.0f} minutes are "
                "left.",
                flush=True,
            )
        metric = cell.metric or study.metric
        table[cell.row, cell.column] = [each[metric] for each in made[key]]
    return table


def as_key(changes):
    """A string for equal changes."""
    return json.dumps(changes, sort_keys=True)


def main(arguments=None):
    """Runs a study, or own_data."""
    parser, options = parse_arguments(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with command_line.one_line_errors(parser):
        loading.load_tensorflow()
        images = load_images(options)
        defaults = own_data.make_defaults(options, len(images.train))
        folder = os.path.join(options.output, options.study)
        trials_folder = os.path.join(options.output, "trials")
        os.makedirs(folder, exist_ok=True)
        os.makedirs(trials_folder, exist_ok=True)
        trials = Trials(trials_folder, defaults, images, options.seeds)
        if options.study in NEED_COLOURS and images.train.shape[-1] != 3:
            raise command_line.UsageError(
                f"--study={options.study} takes colours away, and needs images "
                "of three channels. Received images of "
                f"{images.train.shape[-1]}."
            )
        steps = defaults["epochs"] * (
            len(images.train) // defaults["batch_size"]
        )
        notes = []
        if steps < FEWEST_STEPS:
            notes = [
                f"A trial has {steps:,} steps, and fewer than {FEWEST_STEPS} "
                "teach next to nothing: more --epochs or more images are "
                "needed for differences that mean something."
            ]
            print(*notes, flush=True)
        try:
            if options.study == own_data.NAME:
                table, *chosen = own_data.choose(trials)
                study = own_data.as_study()
                result = own_data.result(*chosen, options, trials)
            else:
                study = studies.STUDIES[options.study]
                table, result = run_study(study, trials), []
        except (KeyboardInterrupt, command_line.TerminatedError) as error:
            print(
                "\nStopped. The same command makes the trials that are missing."
            )
            sys.exit(130 if isinstance(error, KeyboardInterrupt) else 143)
        study_page.write_page(
            folder, options.study, study, table, trials, notes, result
        )
        study_page.draw(os.path.join(folder, "study.png"), study, table)
        print()
        print(
            "\n".join(
                study_page.markdown_table(
                    study, {k: study_page.as_text(v) for k, v in table.items()}
                )
            )
        )
        for text, holds in study_page.judged(study, table):
            print(f"{text} {'So here.' if holds else 'Not here.'}")
        if result:
            print("\n" + "\n".join(result))
        print(f"\nThe page is {os.path.join(folder, 'study.md')}")


if __name__ == "__main__":
    main()
