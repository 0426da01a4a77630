"""What somebody's own images want: a few trials, and a command for pretrain.py.

It chooses by the training images alone, each by its neighbours among the
others, and reports the held-out ones. Of a few hundred images most differences
are noise: what is not better by more than that stays as it is.
"""

import math
import shlex

import studies
from recipes import RECIPES
from study_page import mean

NAME = "own_data"  # of the study
# What is tried in place of the defaults, one at a time.
CHOICES = {
    "min_area": (0.08, 0.4),
    "strength": (0.25, 1.0),
    "temperature": (0.1, 0.5),
}
STEPS = 1000  # of a trial: of few images, 20 epochs teach nothing
# What is recommended for photos, and what the trials take from it: what is
# best for small views and a narrow network need not be best for others.
FOR_PHOTOS = "small"
TAKEN = {
    **{"width": "width_multiplier", "batch_size": "batch_size"},
    **{key: key for key in ("depth", "stem", *CHOICES)},
}


def is_of_photos(options):
    """Whether it is to end in the recipe for photos."""
    return options.study == NAME and options.image_folder is not None


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
    if options.study == NAME:
        # A few hundred images make few steps an epoch.
        defaults["batch_size"] = min(
            defaults["batch_size"], max(2, num_images // 4)
        )
        if options.epochs is None:
            steps = num_images // defaults["batch_size"]
            defaults["epochs"] = max(defaults["epochs"], -(-STEPS // steps))
    return defaults


def choose(trials):
    """Tries what matters most, and chooses.

    Returns:
        A table like `study.run_study`'s, the changes that were chosen, and the
        points by which a change had to be better.
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
    margin = noise(default, trials.images.num_train)
    better = {}
    for key, values in CHOICES.items():
        scores = {value: attempt({key: value}) for value in values}
        best = max(scores, key=scores.get)
        if scores[best] > default + margin:
            better[key] = best
    if len(better) > 1:
        attempt(better)
    chosen, score = max(found.values(), key=lambda pair: pair[1])
    return table, chosen if score > default + margin else {}, margin


def noise(accuracy, num_images):
    """The deviation of the difference of two accuracies, in points.

    As if each were of images of its own; of the same ones it is less.

    Args:
        accuracy: Float, in percent, of about both.
        num_images: Integer, those that each is of.
    """
    p = accuracy / 100
    return 100 * math.sqrt(2 * p * (1 - p) / num_images)


def as_study():
    """What was found, to be drawn and written like a study."""
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


def result(chosen, margin, options, trials):
    """Lines that say what decided, and the command."""
    told = (
        f"What was chosen is better by more than {margin:.1f} points"
        if chosen
        else f"Nothing is better than the default by more than {margin:.1f} "
        "points"
    )
    return [
        "What decided is the accuracy on the training images, each by its "
        f"neighbours among the others. {told}, the noise of "
        f"{trials.images.num_train:,} images. For these:",
        "",
        f"    {advice(chosen, options, trials)}",
    ]


def advice(chosen, options, trials):
    """The command that pretrains with what was chosen."""
    # All that was tried, since the recipe's values may be others.
    values = {key: trials.defaults[key] for key in CHOICES} | chosen
    if options.image_folder:
        # Its length is in steps, whatever the number of images: three times
        # that of the trials.
        recipe = FOR_PHOTOS
        where = f"--image_folder={shlex.quote(options.image_folder)}"
        if options.test_folder:
            where += f" --test_folder={shlex.quote(options.test_folder)}"
        # What is not the recipe's: a batch of very few images, or by flags.
        values |= {
            name: trials.defaults[key]
            for key, name in TAKEN.items()
            if trials.defaults[key] != RECIPES[recipe][name]
        }
        size = trials.images.train.shape[1]
        if size != RECIPES[recipe]["image_size"]:
            values["image_size"] = size
    else:
        recipe = "cifar10"
        where = f"--dataset={options.dataset}"
        if options.data_dir:
            where += f" --data_dir={shlex.quote(options.data_dir)}"
        values["image_size"] = trials.images.train.shape[1]
        values["batch_size"] = trials.defaults["batch_size"]
        # The trials are narrower than the recipe, unless they were told.
        values |= {
            TAKEN[key]: getattr(options, key)
            for key in ("depth", "width")
            if getattr(options, key) is not None
        }
    flags = "".join(f" --{key}={value:g}" for key, value in values.items())
    return f"python examples/pretrain.py --recipe={recipe} {where}{flags}"
