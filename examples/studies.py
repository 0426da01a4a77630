"""The paper's studies: what is changed, and what the paper found.

A study is a table of trials. Each trial changes a few values of `DEFAULTS`; the
runner, `study.py`, does the rest. Nothing here imports TensorFlow.
"""

import math
import typing

# What a trial is made of. A quarter of the width of the CIFAR-10 recipe's
# encoder and a tenth of its images: a minute or two on two cores.
DEFAULTS = {
    "method": "simclr",  # or "supervised": cross entropy with all labels
    "width": 0.125,
    "depth": 18,
    "stem": "cifar",
    "epochs": 20,
    "batch_size": 128,
    # Views.
    "views": None,  # None is SimCLR's own; or a list of TRANSFORMATIONS
    "one_branch": False,  # whether the second view is the image itself
    "view_size": 1.0,  # side of SimCLR's views, of that of the images
    "strength": 0.5,
    "blur": False,
    "flip": True,
    "min_area": 0.2,
    # Head and loss.
    "head": "nonlinear",
    "head_layers": 2,
    "head_dim": 64,
    "loss": "nt_xent",
    "temperature": 0.2,
    "margin": 0.4,
    # Optimizer.
    "optimizer": "sgd",
    "learning_rate": 0.3,
    "learning_rate_scaling": "linear",
    "weight_decay": 5e-4,
    # What is measured besides.
    "told": None,  # one of TOLD, which is applied to views, too
    "fine_tune": False,  # on each of FRACTIONS of the labels
    "label_fraction": "all",  # one of FRACTIONS, of supervised training
}
# Figure 5's, in its order.
TRANSFORMATIONS = (
    "crop",
    "cutout",
    "color",
    "sobel",
    "noise",
    "blur",
    "rotate",
)
# What h and z are asked for, in Table 3, and how often it is applied.
TOLD = {
    "grayscale": 0.2,
    "rotation": 0.75,
    "noise": 0.5,
    "sobel": 0.5,
}
# Of the labels, in Table 7.
FRACTIONS = {"1 %": 0.01, "10 %": 0.1, "all": 1.0}


class Cell(typing.NamedTuple):
    """A trial, and its place in the table.

    Attributes:
        row: String.
        column: String.
        changes: Dictionary, values in place of those of `DEFAULTS`.
        metric: Key of a trial's results, where it is not the study's.
    """

    row: str
    column: str
    changes: dict
    metric: str | None = None


class Study(typing.NamedTuple):
    """One of the paper's tables or figures.

    Attributes:
        title: String, with the place in the paper.
        question: String, a sentence.
        cells: List of `Cell`.
        metric: String, a key of a trial's results; a fraction.
        rows, columns: Strings, what rows and columns of the table are.
        paper: Dictionary from (row, column) to the paper's number in percent.
        paper_setting: String, where the paper measured that.
        claims: List of (sentence, function of the table) that say what the
            paper found: whether it is so in a dictionary from (row, column) to
            the mean over the seeds, which may lack cells.
        kind: "bars", "lines" or "matrix", the picture.
    """

    title: str
    question: str
    cells: list
    metric: str
    rows: str
    columns: str
    paper: dict
    paper_setting: str
    claims: list
    kind: str = "bars"


def _augmentation_pairs():
    cells = []
    for first in TRANSFORMATIONS:
        for second in TRANSFORMATIONS:
            views = [first] if first == second else [first, second]
            cells.append(
                Cell(first, second, {"views": views, "one_branch": True})
            )

    def best_has_crop(table):
        return "crop" in max(table, key=table.get)

    def pairs_beat_singles(table):
        singles = [v for (a, b), v in table.items() if a == b]
        pairs = [v for (a, b), v in table.items() if a != b]
        return max(pairs) > max(singles)

    def best_is_crop_and_color(table):
        return set(max(table, key=table.get)) == {"crop", "color"}

    return Study(
        "Pairs of transformations (Figure 5)",
        "Which two transformations, of one view alone, teach most?",
        cells,
        "linear",
        "first",
        "second",
        {},
        "ImageNet, ResNet-50; colours in place of numbers",
        [
            ("The best pair has the crop in it.", best_has_crop),
            ("It is crop and colour.", best_is_crop_and_color),
            ("No transformation alone is as good.", pairs_beat_singles),
        ],
        "matrix",
    )


def _augmentation_sizes():
    areas, sizes = (0.08, 0.2, 0.5), (0.5, 0.625, 1.0)
    cells = [
        Cell(
            f"area from {area:g}",
            f"{size:g}",
            {
                key: value
                for key, value in (("min_area", area), ("view_size", size))
                if value != DEFAULTS[key]
            },
        )
        for area in areas
        for size in sizes
    ]

    def best(table, size):
        return max(v for (_, c), v in table.items() if c == size)

    return Study(
        "Sizes of crops and of views",
        "How much of an image should a view show, and in how many pixels?",
        cells,
        "linear",
        "crops",
        "side of the views, of that of the images",
        {},
        "The paper crops from 0.08 of the area, to views as large as the "
        "images that are evaluated; of smaller views see FixRes, Touvron et "
        "al., 2019",
        [
            (
                "The best of the views of 0.625, which cost 0.4 of the time, "
                "is less than a point behind the best of whole ones.",
                lambda t: best(t, "0.625") > best(t, "1") - 1,
            ),
        ],
        "lines",
    )


def _color_strength():
    cells, paper = [], {}
    numbers = {
        "1/8": (0.125, 59.6, 77.0),
        "1/4": (0.25, 61.0, 76.7),
        "1/2": (0.5, 62.6, 76.5),
        "1": (1.0, 63.2, 75.7),
        "1 + blur": (1.0, 64.5, 75.4),
    }
    for name, (strength, simclr, supervised) in numbers.items():
        changes = {"strength": strength, "blur": "blur" in name}
        cells.append(Cell("SimCLR", name, changes))
        changes = {**changes, "method": "supervised"}
        cells.append(Cell("supervised", name, changes, "supervised"))
        paper["SimCLR", name] = simclr
        paper["supervised", name] = supervised
    return Study(
        "Strength of the colour distortion (Table 1)",
        "Does SimCLR want stronger colours than supervised training?",
        cells,
        "linear",
        "method",
        "strength",
        paper,
        "ImageNet, ResNet-50",
        [
            (
                "SimCLR gains from 1/8 to 1.",
                lambda t: t["SimCLR", "1"] > t["SimCLR", "1/8"],
            ),
            (
                "Supervised training does not.",
                lambda t: t["supervised", "1"] <= t["supervised", "1/8"],
            ),
        ],
        "lines",
    )


def _projection_head():
    cells = []
    for dim in (32, 64, 256):
        for head in ("linear", "nonlinear"):
            changes = {"head": head, "head_dim": dim}
            cells.append(Cell(f"{head}, h", str(dim), changes))
            cells.append(Cell(f"{head}, z", str(dim), changes, "linear_z"))
        cells.append(Cell("none, h", str(dim), {"head": "none"}))

    def mean(table, row):
        values = [v for (r, _), v in table.items() if r == row]
        return sum(values) / len(values)

    return Study(
        "Projection head (Figure 8)",
        "Which head, of which size, and is h or z the representation?",
        cells,
        "linear",
        "head and layer",
        "output",
        {},
        "ImageNet, ResNet-50: nonlinear over 3 points above linear, over 10 "
        "above none; h over 10 above z",
        [
            (
                "A nonlinear head is better than a linear one.",
                lambda t: mean(t, "nonlinear, h") > mean(t, "linear, h"),
            ),
            (
                "A linear head is better than none.",
                lambda t: mean(t, "linear, h") > mean(t, "none, h"),
            ),
            (
                "h is better than z.",
                lambda t: mean(t, "nonlinear, h") > mean(t, "nonlinear, z"),
            ),
        ],
        "lines",
    )


def _invariance():
    paper = {
        ("h", "grayscale"): 99.3,
        ("z", "grayscale"): 97.4,
        ("h", "rotation"): 67.6,
        ("z", "rotation"): 25.6,
        ("h", "noise"): 99.5,
        ("z", "noise"): 59.6,
        ("h", "sobel"): 96.6,
        ("z", "sobel"): 56.3,
    }

    def h_knows_more(table):
        return all(table["h", name] > table["z", name] for name in TOLD)

    return Study(
        "What h and z know of a transformation (Table 3)",
        "Can a classifier tell, from h or from z, what was done to an image?",
        [
            Cell(row, name, {"told": name}, f"told_by_{row}")
            for row in ("h", "z")
            for name in TOLD
        ],
        "told_by_h",
        "from",
        "what",
        paper,
        "ImageNet, ResNet-50, h and z of 2,048. Without looking one is right "
        "in 80 % (grayscale), 25 % (rotation) and 50 % (noise, sobel)",
        [("h knows more than z, of each of them.", h_knows_more)],
    )


def _label_fraction():
    paper = {
        ("fine-tuned", "1 %"): 75.5,
        ("fine-tuned", "10 %"): 87.8,
        ("supervised", "1 %"): 48.4,
        ("supervised", "10 %"): 80.4,
    }
    supervised = {"method": "supervised", "views": ["crop"]}

    def lead(table, fraction):
        return table["fine-tuned", fraction] - table["supervised", fraction]

    return Study(
        "Few labels (Table 7)",
        "What does pretraining gain, by the share of images with a label (one "
        "of each class at least)? Fine-tuned by the paper's optimizer, from "
        "scratch by that of the trials; both on crops and flips.",
        [
            *(
                Cell("fine-tuned", name, {"fine_tune": True}, f"tuned_{name}")
                for name in FRACTIONS
            ),
            *(
                Cell(
                    "supervised",
                    name,
                    {**supervised, "label_fraction": name},
                    "supervised",
                )
                for name in FRACTIONS
            ),
        ],
        "supervised",
        "method",
        "labels",
        paper,
        "ImageNet, ResNet-50, among the first five classes",
        [
            ("Pretraining is ahead at 1 %.", lambda t: lead(t, "1 %") > 0),
            (
                "Its lead is smaller at 10 %.",
                lambda t: lead(t, "10 %") < lead(t, "1 %"),
            ),
        ],
        "lines",
    )


def _head_layers():
    return Study(
        "Layers of the projection head (SimCLRv2, Figure 4)",
        "Is a deeper head better?",
        [
            Cell("SimCLR", str(n), {"head_layers": n} if n != 2 else {})
            for n in (2, 3, 4)
        ],
        "linear",
        "method",
        "layers",
        {},
        "ImageNet, fine-tuned on 1 % of the labels",
        [
            (
                "Three layers are no worse than two.",
                lambda t: t["SimCLR", "3"] >= t["SimCLR", "2"],
            )
        ],
        "lines",
    )


def _loss():
    cells, paper = [], {}
    for name, changes, accuracy in (
        ("margin triplet", {"loss": "margin_triplet"}, 50.9),
        ("NT-Logistic", {"loss": "nt_logistic"}, 51.6),
        (
            "margin triplet, semi-hard",
            {"loss": "margin_triplet_semi_hard"},
            57.5,
        ),
        ("NT-Logistic, semi-hard", {"loss": "nt_logistic_semi_hard"}, 57.9),
        ("NT-Xent", {}, 63.9),
    ):
        cells.append(Cell(name, "accuracy", changes))
        paper[name, "accuracy"] = accuracy
    cells += [
        Cell("NT-Xent, decoupled", "accuracy", {"loss": "decoupled"}),
        Cell("supervised contrastive", "accuracy", {"loss": "sup_con"}),
    ]

    def wins(table):
        inside = {cell: table[cell] for cell in paper if cell in table}
        return max(inside, key=inside.get) == ("NT-Xent", "accuracy")

    return Study(
        "Losses (Table 4)",
        "Is NT-Xent better than the alternatives?",
        cells,
        "linear",
        "loss",
        "",
        paper,
        "ImageNet, ResNet-50, 100 epochs; each loss tuned",
        [("NT-Xent is the best of the paper's losses.", wins)],
    )


def _temperature():
    paper = {
        ("normalized", "0.05"): 59.7,
        ("normalized", "0.1"): 64.4,
        ("normalized", "0.5"): 60.7,
        ("normalized", "1"): 58.0,
        ("not normalized", "10"): 57.2,
        ("not normalized", "100"): 57.0,
        ("contrastive, normalized", "0.05"): 90.5,
        ("contrastive, normalized", "0.1"): 87.8,
        ("contrastive, normalized", "0.5"): 68.2,
        ("contrastive, normalized", "1"): 59.1,
        ("contrastive, not normalized", "10"): 91.7,
        ("contrastive, not normalized", "100"): 92.1,
    }
    cells = [
        Cell("normalized", str(t), {"temperature": t} if t != 0.2 else {})
        for t in (0.05, 0.1, 0.2, 0.5, 1)
    ]
    cells += [
        Cell(
            "not normalized", str(t), {"temperature": t, "loss": "unnormalized"}
        )
        for t in (1, 10, 100)
    ]
    cells += [
        cell._replace(
            row=f"contrastive, {cell.row}", metric="contrastive_accuracy"
        )
        for cell in cells
    ]

    def optimum_inside(table):
        row = {c: v for (r, c), v in table.items() if r == "normalized"}
        return max(row, key=row.get) not in ("0.05", "1")

    def normalization_helps(table):
        best = {}
        for (row, _), value in table.items():
            best[row] = max(value, best.get(row, 0))
        return best["normalized"] > best["not normalized"]

    return Study(
        "Temperature and normalization (Table 5)",
        "Is there a best temperature, and does scaling to length 1 help?",
        cells,
        "linear",
        "projections",
        "temperature",
        paper,
        "ImageNet, ResNet-50, batch 4096, 100 epochs",
        [
            ("The best temperature lies between the ends.", optimum_inside),
            ("Normalization helps.", normalization_helps),
        ],
    )


def _batch_epochs():
    # The rate is that of the other trials at their batch, whatever scales it.
    middle = DEFAULTS["batch_size"]
    rate = DEFAULTS["learning_rate"] * middle / 256
    root = {
        "learning_rate_scaling": "sqrt",
        "learning_rate": rate / math.sqrt(middle),
    }
    rows = {
        "batch 32, linear": {"batch_size": 32},
        "batch 32, root": {"batch_size": 32, **root},
        f"batch {middle}": {"batch_size": middle},
        "batch 512, linear": {"batch_size": 512},
        "batch 512, root": {"batch_size": 512, **root},
    }
    cells = [
        Cell(row, f"{epochs} epochs", {**changes, "epochs": epochs})
        for row, changes in rows.items()
        for epochs in (5, 15, 45)
    ]

    def lead(table, epochs):
        return (
            table["batch 512, linear", f"{epochs} epochs"]
            - table["batch 32, linear", f"{epochs} epochs"]
        )

    return Study(
        "Batch size and epochs (Figure 9, Table B.1)",
        "Do larger batches help, for how long, and should the learning rate "
        "grow with the batch or with its root?",
        cells,
        "linear",
        "batch, scaling",
        "epochs",
        {},
        "ImageNet, ResNet-50: 256 images 57.5 and 4096 64.6 after 100 epochs "
        "(linear scaling), 62.8 and 64.5 by the root; the gap closes with more "
        "epochs",
        [
            (
                "Larger batches are ahead after few epochs.",
                lambda t: lead(t, 5) > 0,
            ),
            (
                "Their lead is smaller after more epochs.",
                lambda t: lead(t, 5) > max(0, lead(t, 45)),
            ),
            (
                "More epochs help.",
                lambda t: (
                    t[f"batch {middle}", "45 epochs"]
                    > t[f"batch {middle}", "5 epochs"]
                ),
            ),
            (
                "The root is better for small batches and few epochs.",
                lambda t: (
                    t["batch 32, root", "5 epochs"]
                    > t["batch 32, linear", "5 epochs"]
                ),
            ),
        ],
        "lines",
    )


def _decoupled():
    cells = [
        Cell(name, str(batch), {"batch_size": batch, **changes})
        for name, changes in (
            ("NT-Xent", {}),
            ("decoupled", {"loss": "decoupled"}),
            ("decoupled, weighted", {"loss": "decoupled_weighted"}),
        )
        for batch in (32, 64, 128)
    ]
    return Study(
        "Decoupled NT-Xent (Yeh et al., 2021)",
        "Does leaving the positive out of the denominator help small batches?",
        cells,
        "linear",
        "loss",
        "batch",
        {},
        "ImageNet, batch 256, 100 epochs, by Lightly: 63.2 and 65.1",
        [
            (
                "It helps at the smallest batch.",
                lambda t: t["decoupled", "32"] > t["NT-Xent", "32"],
            )
        ],
        "lines",
    )


def _depth_width():
    cells = []
    for depth in (18, 34):
        for width in (0.0625, 0.125, 0.25):
            changes = {"depth": depth, "width": width}
            name = f"ResNet-{depth}"
            cells.append(Cell(name, str(width), changes))
            changes = {**changes, "method": "supervised"}
            cells.append(
                Cell(f"{name}, supervised", str(width), changes, "supervised")
            )

    def gain(table, row):
        return table[row, "0.25"] - table[row, "0.0625"]

    return Study(
        "Depth and width (Figure 7)",
        "Does SimCLR gain more from a larger network than labels do?",
        cells,
        "linear",
        "network",
        "width",
        {},
        "ImageNet, ResNet-18 to 152, width 1 to 4",
        [
            ("Wider is better.", lambda t: gain(t, "ResNet-18") > 0),
            (
                "The gain is larger than that of supervised training.",
                lambda t: (
                    gain(t, "ResNet-18") > gain(t, "ResNet-18, supervised")
                ),
            ),
        ],
        "lines",
    )


def _optimizer():
    rates = {"sgd": 0.3, "lars": 1.0, "adamw": 1e-3}
    return Study(
        "Optimizers",
        "Is LARS needed for small batches?",
        [
            Cell(
                name,
                str(batch),
                {"optimizer": name, "learning_rate": rate, "batch_size": batch},
            )
            for name, rate in rates.items()
            for batch in (128, 512)
        ],
        "linear",
        "optimizer",
        "batch",
        {},
        "LARS in the paper, for batches of 4096",
        [],
    )


def _supervised_contrastive():
    # One view a step of each image costs half of two. At the temperature of
    # Khosla et al., 0.1, the rate of the trials is too high.
    contrastive = {"loss": "sup_con", "epochs": 10}
    entropy = {"method": "supervised", "epochs": 20}
    return Study(
        "Supervised contrastive learning (Khosla et al., 2020)",
        "With all labels and equal time, does comparing views teach more than "
        "cross entropy? 10 epochs of two views beside 20 of one, after which "
        "a linear classifier is trained on the former.",
        [
            Cell("supervised contrastive", "accuracy", contrastive),
            Cell("cross entropy", "accuracy", entropy, "supervised"),
        ],
        "linear",
        "loss",
        "",
        {
            ("supervised contrastive", "accuracy"): 96.0,
            ("cross entropy", "accuracy"): 95.0,
        },
        "CIFAR-10, ResNet-50 (Table 2)",
        [
            (
                "Supervised contrastive learning is ahead.",
                lambda t: (
                    t["supervised contrastive", "accuracy"]
                    > t["cross entropy", "accuracy"]
                ),
            )
        ],
    )


STUDIES = {
    "augmentation_pairs": _augmentation_pairs(),
    "augmentation_sizes": _augmentation_sizes(),
    "batch_epochs": _batch_epochs(),
    "color_strength": _color_strength(),
    "decoupled": _decoupled(),
    "depth_width": _depth_width(),
    "head_layers": _head_layers(),
    "invariance": _invariance(),
    "label_fraction": _label_fraction(),
    "loss": _loss(),
    "optimizer": _optimizer(),
    "projection_head": _projection_head(),
    "supervised_contrastive": _supervised_contrastive(),
    "temperature": _temperature(),
}
