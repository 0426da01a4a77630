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
neighbours among the others, and reports the held-out ones.
"""

import csv
import hashlib
import json
import os
import shlex
import statistics
import sys
import time

import command_line
import loading
import studies
from recipes import FEWEST_STEPS, RECIPES

OWN_DATA = "own_data"
# What own_data tries in place of the defaults, one at a time.
CHOICES = {
    "min_area": (0.08, 0.4),
    "strength": (0.25, 1.0),
    "temperature": (0.1, 0.5),
}
OWN_STEPS = 1000  # of own_data: of few images, 20 epochs teach nothing
# What own_data recommends for photos, and what its trials take from it: what is
# best for small views and a narrow network need not be best for others.
FOR_PHOTOS = "small"
TAKEN = {
    **{"width": "width_multiplier", "batch_size": "batch_size"},
    **{key: key for key in ("depth", "stem", *CHOICES)},
}
NEED_COLOURS = ("augmentation_pairs", "invariance")
# What a page calls what was measured.
METRICS = {
    "linear": "of a linear classifier on the representation h",
    "linear_z": "of one on the projection z",
    "supervised": "of supervised training",
    "told_by_h": "of a perceptron on h that tells what was done to an image",
    "told_by_z": "of one on z",
    "knn": "of nearest neighbours",
    "contrastive_accuracy": "of telling the other view of an image in training",
    **{
        f"tuned_{name}": f"fine-tuned on {name} of the labels"
        for name in studies.FRACTIONS
    },
}
VERSION = 2  # of what a trial does; another one makes all trials again


def parse_arguments(arguments=None):
    """The command line."""
    parser = command_line.Parser(__doc__)
    parser.add_argument(
        "--study",
        choices=[*studies.STUDIES, OWN_DATA],
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
        f"own_data at least as many as make {OWN_STEPS:,} steps",
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
            recipe = RECIPES[FOR_PHOTOS]["image_size"]
            options.image_size = recipe if is_of_photos(options) else 32
    return parser, options


def is_of_photos(options):
    """Whether `own_data` is to end in the recipe for photos."""
    return options.study == OWN_DATA and options.image_folder is not None


def make_defaults(options, num_images):
    """What a trial is made of, in place of `studies.DEFAULTS`."""
    recipe = RECIPES[FOR_PHOTOS] if is_of_photos(options) else {}
    defaults = {
        **studies.DEFAULTS,
        **{key: recipe[name] for key, name in TAKEN.items() if recipe},
        **{
            key: getattr(options, key)
            for key in ("epochs", "batch_size", "depth", "width")
            if getattr(options, key) is not None
        },
    }
    if options.study == OWN_DATA:
        # A few hundred images make few steps an epoch.
        defaults["batch_size"] = min(
            defaults["batch_size"], max(2, num_images // 4)
        )
        if options.epochs is None:
            steps = num_images // defaults["batch_size"]
            defaults["epochs"] = max(defaults["epochs"], -(-OWN_STEPS // steps))
    return defaults


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


def mean(values):
    """Mean of a list, in percent."""
    return 100 * statistics.fmean(values)


def judged(study, table):
    """(sentence, whether it is so) of each of a study's claims."""
    means = {place: mean(values) for place, values in table.items()}
    return [(text, bool(holds(means))) for text, holds in study.claims]


def in_order(names):
    """Names, each once, in the order in which they come."""
    return list(dict.fromkeys(names))


def as_text(values):
    """A cell of a table: mean and deviation in percent."""
    if values is None:
        return "-"
    text = f"{mean(values):.1f}"
    if len(values) > 1:
        text += f" ± {100 * statistics.stdev(values):.1f}"
    return text


def markdown_table(study, cells):
    """Lines of a table in Markdown, of texts by (row, column)."""
    rows = in_order(row for row, _ in cells)
    columns = in_order(column for _, column in cells)
    head = " / ".join(filter(None, (study.rows, study.columns)))
    lines = [
        "| " + " | ".join([head, *columns]) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for row in rows:
        texts = [cells.get((row, column), "-") for column in columns]
        lines.append("| " + " | ".join([row, *texts]) + " |")
    return lines


def write_page(folder, name, study, table, trials, result=()):
    """Writes study.md, which ends in the lines `result`, and study.csv."""
    images, defaults, seeds = trials.images, trials.defaults, trials.seeds
    metrics = in_order(cell.metric or study.metric for cell in study.cells)
    measured = ", ".join(METRICS[each] for each in metrics or [study.metric])
    lines = [
        f"# {study.title}",
        "",
        study.question,
        "",
        f"Accuracy in percent, {measured}; on {images.num_test:,} held-out "
        "images where nothing else is said, after training on "
        f"{images.num_train:,}, of {images.num_classes} classes: a guess is "
        f"right in {100 / images.num_classes:.3g} %. "
        f"ResNet-{defaults['depth']} of width {defaults['width']:g}; "
        f"{defaults['epochs']} times all images in batches of "
        f"{defaults['batch_size']}, where the study does not say otherwise. "
        + (
            f"Mean and deviation of {seeds} seeds. "
            if seeds > 1
            else "One seed: small differences mean nothing. "
        )
        + "A trial that diverged counts as a guess.",
        "",
        *markdown_table(study, {k: as_text(v) for k, v in table.items()}),
        "",
        "![The table as a picture](study.png)",
        "",
        "## The paper",
        "",
        f"{study.paper_setting}.",
        "",
    ]
    if study.paper:
        texts = {place: f"{value:.1f}" for place, value in study.paper.items()}
        lines += [*markdown_table(study, texts), ""]
    for text, holds in judged(study, table):
        lines.append(f"- {text} **{'So here' if holds else 'Not here'}.**")
    lines += ["", *result]
    with open(os.path.join(folder, "study.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines).rstrip() + "\n")
    with open(
        os.path.join(folder, "study.csv"), "w", encoding="utf-8", newline=""
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["study", "row", "column", "seed", "accuracy"])
        for (row, column), values in table.items():
            for seed, value in enumerate(values):
                writer.writerow([name, row, column, seed, value])


def draw(path, study, table):
    """Draws the table: a matrix, lines, or bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = in_order(row for row, _ in table)
    columns = in_order(column for _, column in table)
    means = {place: mean(values) for place, values in table.items()}
    figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
    if study.kind == "matrix":
        values = [
            [means.get((r, c), float("nan")) for c in columns] for r in rows
        ]
        image = axis.imshow(values, cmap="viridis")
        figure.colorbar(image, label="accuracy in %")
        axis.set_xticks(range(len(columns)), columns, rotation=45)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xlabel(study.columns)
        axis.set_ylabel(study.rows)
        middle = (max(means.values()) + min(means.values())) / 2
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                axis.text(
                    x,
                    y,
                    f"{value:.1f}",
                    ha="center",
                    va="center",
                    color="black" if value > middle else "white",
                )
    elif study.kind == "lines":
        for row in rows:
            there = [c for c in columns if (row, c) in means]
            axis.plot(
                [columns.index(c) for c in there],
                [means[row, c] for c in there],
                marker="o",
                label=row,
            )
        axis.set_xticks(range(len(columns)), columns)
        axis.set_xlabel(study.columns)
        axis.set_ylabel("accuracy in %")
        axis.legend()
    else:
        names = [
            " ".join(place) if len(columns) > 1 else place[0] for place in means
        ]
        axis.barh(names, list(means.values()))
        axis.invert_yaxis()
        axis.set_xlabel("accuracy in %")
    axis.set_title(study.title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def own_data(trials):
    """Tries what matters most, and chooses.

    Returns:
        Pair of a table like `run_study`'s and of the changes that were chosen.
    """
    table, found = {}, {}
    # The default, each choice, and the better ones together.
    most = 2 + sum(map(len, CHOICES.values()))

    def attempt(changes):
        name = ", ".join(f"{k} {v:g}" for k, v in changes.items()) or "default"
        print(f"Trial {len(found) + 1} of {most} at most: {name}", flush=True)
        results = trials.results(changes, name)
        table["kNN, held out", name] = [each["knn"] for each in results]
        table["kNN, training images", name] = [
            each["knn_training"] for each in results
        ]
        found[name] = (changes, mean([e["knn_training"] for e in results]))
        return found[name][1]

    default = attempt({})
    better = {}
    for key, values in CHOICES.items():
        scores = {value: attempt({key: value}) for value in values}
        best = max(scores, key=scores.get)
        if scores[best] > default:
            better[key] = best
    if len(better) > 1:
        attempt(better)
    chosen, _ = max(found.values(), key=lambda pair: pair[1])
    return table, chosen


def own_study():
    """What `own_data` found, to be drawn and written like a study."""
    return studies.Study(
        "What these images want",
        "Which crops, colours and temperature make the best neighbours?",
        [],
        "knn",
        "measured on",
        "changed",
        {},
        "Nothing to compare with: these images are yours",
        [],
    )


def advice(chosen, options, trials):
    """The command that pretrains with what was chosen."""
    # All that was tried, since the recipe's values may be others.
    values = {key: trials.defaults[key] for key in CHOICES} | chosen
    batch_size = trials.defaults["batch_size"]
    if options.image_folder:
        # Its length is in steps, whatever the number of images: three times
        # that of the trials.
        recipe = FOR_PHOTOS
        where = f"--image_folder={shlex.quote(options.image_folder)}"
        if options.test_folder:
            where += f" --test_folder={shlex.quote(options.test_folder)}"
        if batch_size < RECIPES[recipe]["batch_size"]:  # Of very few images.
            values["batch_size"] = batch_size
    else:
        recipe = "cifar10"
        where = f"--dataset={options.dataset}"
        if options.data_dir:
            where += f" --data_dir={shlex.quote(options.data_dir)}"
        values["image_size"] = trials.images.train.shape[1]
        values["batch_size"] = batch_size
    flags = "".join(f" --{key}={value:g}" for key, value in values.items())
    return f"python examples/pretrain.py --recipe={recipe} {where}{flags}"


def main(arguments=None):
    """Runs a study, or own_data."""
    parser, options = parse_arguments(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with command_line.one_line_errors(parser):
        loading.load_tensorflow()
        images = load_images(options)
        defaults = make_defaults(options, len(images.train))
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
        if steps < FEWEST_STEPS:
            print(
                f"A trial has {steps:,} steps, and fewer than {FEWEST_STEPS} "
                "teach next to nothing: more --epochs or more images are "
                "needed for differences that mean something.",
                flush=True,
            )
        try:
            if options.study == OWN_DATA:
                table, chosen = own_data(trials)
                study = own_study()
            else:
                study = studies.STUDIES[options.study]
                table = run_study(study, trials)
        except KeyboardInterrupt:
            print(
                "\nStopped. The same command makes the trials that are missing."
            )
            sys.exit(130)
        result = []
        if options.study == OWN_DATA:
            result = [
                "What decided is the accuracy on the training images, each by "
                "its neighbours among the others. For these images:",
                "",
                f"    {advice(chosen, options, trials)}",
            ]
        write_page(folder, options.study, study, table, trials, result)
        draw(os.path.join(folder, "study.png"), study, table)
        print()
        print(
            "\n".join(
                markdown_table(study, {k: as_text(v) for k, v in table.items()})
            )
        )
        for text, holds in judged(study, table):
            print(f"{text} {'So here.' if holds else 'Not here.'}")
        if result:
            print("\n" + "\n".join(result))
        print(f"\nThe page is {os.path.join(folder, 'study.md')}")


if __name__ == "__main__":
    main()
