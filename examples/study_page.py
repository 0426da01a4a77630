"""What a study ends in: a table, a picture and a page, from its accuracies."""

import csv
import os
import statistics

import studies

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


def write_page(folder, name, study, table, trials, notes=(), result=()):
    """Writes study.md and study.csv.

    Args:
        folder: Path of the folder for them.
        name: String, what `--study` calls it.
        study: `studies.Study`.
        table: Dictionary of (row, column) to a value for each seed.
        trials: `study.Trials`.
        notes: Strings, what is to be known of all trials.
        result: Strings, the lines in which the page ends.
    """
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
        + " ".join(["A trial that diverged counts as a guess.", *notes]),
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
