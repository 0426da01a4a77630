import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simclr_keras import plots

RNG = np.random.default_rng(0)


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def drawn(axis):
    """The curves of a panel, by their label."""
    return {line.get_label(): line for line in axis.get_lines()}


def test_views_have_a_panel_each():
    images = RNG.integers(0, 256, (4, 9, 8, 3), dtype="uint8")
    views = RNG.uniform(0, 255, (3, 4, 5, 6, 3))
    figure = plots.plot_views(images, views)
    assert isinstance(figure, Figure)
    panels = figure.get_axes()
    assert len(panels) == 4 * 4
    assert [p.get_ylabel() for p in panels[::4]] == [
        "image",
        "view 1",
        "view 2",
        "view 3",
    ]
    for panel, image in zip(panels, [*images, *views.reshape(-1, 5, 6, 3)]):
        (shown,) = panel.get_images()
        # float32
        np.testing.assert_allclose(shown.get_array(), image / 255, atol=1e-6)
        assert not len(panel.get_xticks())


@pytest.mark.parametrize("channels", [1, 4])
def test_views_that_are_not_rgb_are_gray(channels):
    images = RNG.uniform(-1, 1, (2, 5, 6, channels))
    figure = plots.plot_views(images, [images], value_range=(-1, 1))
    (shown,) = figure.get_axes()[1].get_images()
    np.testing.assert_allclose(
        shown.get_array(), images[1, ..., 0] / 2 + 0.5, atol=1e-6
    )
    assert shown.get_cmap().name == "gray"
    assert shown.get_clim() == (0, 1)  # whatever the image's own extremes


def test_values_out_of_range_are_clipped():
    images = np.full((1, 2, 2, 1), 300.0)
    figure = plots.plot_views(images, [-images])
    white, black = (p.get_images()[0] for p in figure.get_axes())
    assert white.get_array().max() == 1
    assert black.get_array().max() == 0


@pytest.mark.parametrize("shape", [(3, 8, 8, 3), (8, 8, 3)])
def test_views_of_other_images_are_refused(shape):
    images = np.zeros((4, 8, 8, 3))
    with pytest.raises(ValueError, match=r"\(4, 8, 8, 3\)"):
        plots.plot_views(images, [images, np.zeros(shape)])


def test_history_has_a_panel_for_each_quantity():
    history = {
        "epoch": [3.0, 4.0, 5.0],
        "step": [10.0, 20.0, 30.0],
        "seconds": [1.0, 1.0, 1.0],
        "learning_rate": [0.1, 0.2, 0.1],
        "loss": [3.0, 2.0, 1.0],
        "probe_loss": [2.0, 1.5, 1.2],
        "val_loss": [3.5, 2.5, 1.5],
        "contrastive_accuracy": [0.1, 0.5, 0.9],
        "contrastive_entropy": [3.0, 2.0, 1.0],
    }
    figure = plots.plot_history(history)
    axes = {axis.get_ylabel(): axis for axis in figure.get_axes()}
    assert list(axes) == [
        "loss",
        "accuracy",
        "learning rate",
        "contrastive entropy",
    ]
    assert legend(axes["loss"]) == ["loss", "probe loss", "val loss"]
    assert legend(axes["accuracy"]) == ["contrastive accuracy"]
    assert axes["learning rate"].get_legend() is None  # the axis says it
    assert axes["accuracy"].get_ylim() == (0, 1)
    lines = drawn(axes["loss"])
    np.testing.assert_array_equal(lines["loss"].get_xdata(), [3, 4, 5])
    np.testing.assert_array_equal(lines["loss"].get_ydata(), [3, 2, 1])
    assert lines["loss"].get_linestyle() == "-"
    assert lines["val loss"].get_linestyle() == "--"
    assert figure.get_axes()[-1].get_xlabel() == "epoch"


def test_history_of_one_epoch_is_seen():
    figure = plots.plot_history({"loss": [2.0]})
    (axis,) = figure.get_axes()
    (line,) = axis.get_lines()
    assert line.get_marker() == "o"
    # Ink, besides that of axes and legend.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    with_curve = np.array(canvas.buffer_rgba())
    line.remove()
    canvas.draw()
    assert (with_curve != np.array(canvas.buffer_rgba())).any()


def test_validation_every_other_epoch_lies_at_those_epochs():
    figure = plots.plot_history({"loss": [5, 4, 3, 2, 1], "val_loss": [4, 2]})
    lines = drawn(figure.get_axes()[0])
    np.testing.assert_array_equal(lines["loss"].get_xdata(), range(1, 6))
    np.testing.assert_array_equal(lines["val loss"].get_xdata(), [2, 4])


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"epoch": [1.0]}])
def test_a_history_of_nothing_is_refused(history):
    with pytest.raises(ValueError, match="at least one epoch"):
        plots.plot_history(history)


def test_representations_are_colored_by_class():
    labels = np.arange(30) % 3 + 4  # classes 4 to 6 of seven
    features = RNG.normal(size=(30, 8)) + 20 * np.eye(8)[labels - 4]
    names = list("abcdefg")
    figure = plots.plot_representations(features, labels, names, title="digits")
    (axis,) = figure.get_axes()
    assert legend(axis) == ["e", "f", "g"]
    assert axis.get_title() == "digits (30 images, t-SNE)"
    groups = [collection.get_offsets() for collection in axis.collections]
    assert [len(points) for points in groups] == [10, 10, 10]
    colors = {tuple(c.get_facecolor()[0]) for c in axis.collections}
    assert len(colors) == 3
    # What lies apart in the representation lies apart on the map.
    centers = np.array([points.mean(axis=0) for points in groups])
    spread = max(np.std(points, axis=0).max() for points in groups)
    for first in range(3):
        distances = np.linalg.norm(centers - centers[first], axis=1)
        assert np.sort(distances)[1] > 2 * spread


def test_representations_without_labels():
    figure = plots.plot_representations(RNG.normal(size=(12, 5)))
    (axis,) = figure.get_axes()
    assert axis.get_legend() is None
    assert axis.get_title() == "12 images, t-SNE"
    assert len(axis.collections[0].get_offsets()) == 12


def test_labels_without_names_stand_for_themselves():
    figure = plots.plot_representations(np.eye(4), [7, 8, 7, 8])
    assert legend(figure.get_axes()[0]) == ["7", "8"]


def test_many_classes_have_no_legend():
    figure = plots.plot_representations(np.eye(21), np.arange(21))
    (axis,) = figure.get_axes()
    assert axis.get_legend() is None
    assert len(axis.collections[0].get_offsets()) == 21


@pytest.mark.parametrize("shape", [(2, 4), (10, 4), (5, 1), (12, 1)])
def test_few_representations(shape):
    figure = plots.plot_representations(RNG.normal(size=shape))
    (axis,) = figure.get_axes()
    method = "t-SNE" if shape[0] > 10 else "PCA"
    assert axis.get_title() == f"{shape[0]} images, {method}"
    assert axis.collections[0].get_offsets().shape == (shape[0], 2)


def test_at_most_a_thousand_are_drawn(monkeypatch):
    monkeypatch.setattr(
        plots, "points_in_plane", lambda features: (features[:, :2], "none")
    )
    features = RNG.normal(size=(1500, 3))
    figure = plots.plot_representations(features, np.arange(1500) % 2)
    (axis,) = figure.get_axes()
    assert axis.get_title() == "1,000 images, none"
    points = np.concatenate([c.get_offsets() for c in axis.collections])
    assert len(np.unique(points, axis=0)) == 1000


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((4,)), None, r"features.shape=\(4,\)"),
        (np.zeros((1, 3)), None, r"features.shape=\(1, 3\)"),
        (np.full((4, 2), np.nan), None, "finite"),
        (np.zeros((4, 2)), [1, 2, 3], r"labels.shape=\(3,\)"),
    ],
)
def test_bad_representations_are_refused(features, labels, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_representations(features, labels)


def test_a_file_is_written_if_it_is_asked_for(tmp_path):
    path = tmp_path / "history.png"
    plots.plot_history({"loss": [2.0, 1.0]}, path=path)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_pyplot_is_left_alone(tmp_path):
    from matplotlib import pyplot

    before = pyplot.get_fignums(), pyplot.get_backend()
    plots.plot_history({"loss": [1.0]}, path=tmp_path / "history.png")
    assert (pyplot.get_fignums(), pyplot.get_backend()) == before


@pytest.mark.parametrize(
    ("module", "package", "call"),
    [
        (
            "matplotlib.figure",
            "Matplotlib",
            lambda: plots.plot_history({"loss": [1.0]}),
        ),
        (
            "sklearn.manifold",
            "scikit-learn",
            lambda: plots.plot_representations(np.eye(4)),
        ),
    ],
)
def test_a_missing_package_is_named(module, package, call, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=package) as error:
        call()
    assert 'pip install "simclr_keras[plots]"' in str(error.value)


def cells(figure):
    """The texts of a matrix's cells, by (row, column)."""
    (axis,) = figure.axes
    return {
        (round(text.get_position()[1]), round(text.get_position()[0])): (
            text.get_text()
        )
        for text in axis.texts
    }


def test_confusion_counts_rows_of_classes():
    labels, predicted = [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 0, 2]
    figure = plots.plot_confusion(labels, predicted, ["cat", "$dog$", "hen"])
    expected = {(0, 0): "2", (0, 1): "1", (1, 1): "1", (2, 0): "1", (2, 2): "1"}
    assert cells(figure) == expected
    (axis,) = figure.axes
    assert axis.get_title() == "4 of 6 right"
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("is", "taken for")
    for ticks in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [t.get_text() for t in ticks] == ["cat", "$dog$", "hen"]
    (image,) = axis.images
    np.testing.assert_allclose(image.get_array()[0], [2 / 3, 1 / 3, 0])


def test_confusion_of_labels_without_names():
    figure = plots.plot_confusion([-3, 9], [9, 40])
    (axis,) = figure.axes
    names = [t.get_text() for t in axis.get_yticklabels()]
    assert names == ["-3", "9", "40"]
    assert cells(figure) == {(0, 1): "1", (1, 2): "1"}


def test_confusion_of_many_classes_has_no_numbers(tmp_path):
    labels = np.arange(30)
    figure = plots.plot_confusion(labels, labels, path=tmp_path / "c.png")
    assert not figure.axes[0].texts
    assert (tmp_path / "c.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("labels", "predicted", "names", "message"),
    [
        ([0, 1], [0], None, "two|labels.shape"),
        ([], [], None, "at least 1"),
        ([0, 3], [0, 1], ["a", "b"], "`labels` must be places.*from 0 to 3"),
        ([0, 1], [0, -1], ["a", "b"], "`predicted` must be.*from -1 to 0"),
    ],
)
def test_confusion_refuses_what_does_not_fit(labels, predicted, names, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_confusion(labels, predicted, names)


def test_confusion_takes_names_too():
    expected = {(0, 0): "1", (1, 0): "1", (1, 1): "1"}
    for labels in ([0, 1, 1], np.array([[0], [1], [1]], "uint8"), list("abb")):
        figure = plots.plot_confusion(labels, ["a", "a", "b"], ["a", "b"])
        assert cells(figure) == expected
    assert cells(plots.plot_confusion(list("abb"), list("aab"))) == expected


@pytest.mark.parametrize(
    ("labels", "names", "error", "message"),
    [
        ([0, 1], None, TypeError, "both be numbers or both names"),
        ([0.0, 1.0], ["a", "b"], TypeError, "`labels` must be integers or"),
        (["a", "c"], ["a", "b"], ValueError, r"Received: \['c'\]"),
    ],
)
def test_confusion_of_other_labels(labels, names, error, message):
    with pytest.raises(error, match=message):
        plots.plot_confusion(labels, ["a", "b"], names)


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda z: plots.plot_views("photo", [z]), TypeError, "`images` must"),
        (lambda z: plots.plot_views(z, 3), TypeError, "`views` must be"),
        (lambda z: plots.plot_views(z[:0], [z[:0]]), ValueError, "not empty"),
        (lambda z: plots.plot_views(z, [z], 255), ValueError, "`value_range`"),
        (lambda z: plots.plot_history([1, 2]), TypeError, "a dictionary"),
        (lambda z: plots.plot_history({"loss": 1}), TypeError, "a dictionary"),
        (
            lambda z: plots.plot_representations("abc"),
            TypeError,
            "`features` must be",
        ),
        (
            lambda z: plots.plot_representations(np.eye(3), [0, 1, 2], ["a"]),
            ValueError,
            "places of `class_names`",
        ),
        (
            lambda z: plots.plot_confusion([0], [0], "a"),
            TypeError,
            "sequence of strings",
        ),
        (
            lambda z: plots.plot_confusion([[0], [0, 1]], [0, 1]),
            TypeError,
            "NumPy makes no array",
        ),
    ],
)
def test_what_cannot_be_drawn(draw, error, message):
    with pytest.raises(error, match=message):
        draw(np.zeros((2, 4, 4, 3)))
