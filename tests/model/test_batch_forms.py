"""Whatever form a batch has, `fit` does the same with it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.model.by_hand import ByHand
from tests.model.models import (
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    VIEWS,
    Batches,
    assert_equal,
    dataset,
    fit,
    halves,
    tiny_model,
    weights,
)


@pytest.fixture(scope="module")
def plain():
    """History and weights after two batches of an array."""
    model = tiny_model(compiling=EAGER)
    return fit(model, IMAGES, epochs=1), weights(model)


def generator():
    yield from zip(halves(IMAGES), halves(LABELS))


IMAGE_FORMS = {
    "array and labels": lambda: (IMAGES, LABELS),
    "floats": lambda: (IMAGES.astype("float64"),),
    "tensor": lambda: (tf.constant(IMAGES),),
    "dict with labels": lambda: ({"image": IMAGES, "label": LABELS},),
    "labels in a dict": lambda: (IMAGES, {"label": LABELS}),
    "other labels in a dict": lambda: (IMAGES, {"other": LABELS}),
    "dataset": lambda: (dataset(IMAGES),),
    "dataset of tuples": lambda: (dataset((IMAGES, LABELS)),),
    "dataset of dicts": lambda: (dataset({"image": IMAGES, "label": LABELS}),),
    "PyDataset": lambda: (Batches(*halves(IMAGES)),),
    "PyDataset of tuples": lambda: (
        Batches(*zip(halves(IMAGES), halves(LABELS))),
    ),
    "generator": lambda: (generator(),),
}


@pytest.mark.parametrize("form", IMAGE_FORMS)
def test_images(form, plain):
    model = tiny_model(compiling=EAGER)
    history = fit(model, *IMAGE_FORMS[form](), epochs=1)
    assert_equal(history, plain[0])
    assert_equal(weights(model), plain[1])


def view_batches():
    return [
        {"view_1": a, "view_2": b} for a, b in zip(*map(halves, VIEWS.values()))
    ]


VIEW_FORMS = {
    "dict": lambda: (VIEWS,),
    "dict and labels": lambda: (VIEWS, LABELS),
    "dataset of tuples": lambda: (dataset((VIEWS, LABELS)),),
    "PyDataset": lambda: (Batches(*view_batches()),),
}


@pytest.fixture(scope="module")
def plain_views():
    by_hand = ByHand(tiny_model())
    parts = [by_hand.step(views) for views in view_batches()]
    return {name: [(parts[0][name] + parts[1][name]) / 2] for name in parts[0]}


@pytest.mark.parametrize("form", VIEW_FORMS)
def test_views(form, plain_views):
    # With an augmentation, which has nothing to do, or without one.
    augmentation = {} if form == "dict" else {"augmentation": None}
    model = tiny_model(compiling=EAGER, **augmentation)
    history = fit(model, *VIEW_FORMS[form](), epochs=1)
    assert_equal(history, plain_views, rtol=1e-4)  # float32, two steps


def test_validation_data_of_another_form():
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    history = fit(
        model,
        IMAGES,
        LABELS,
        epochs=1,
        validation_data=dataset({"image": IMAGES, "label": LABELS}),
    )
    names = {
        "loss",
        "contrastive_accuracy",
        "contrastive_entropy",
        "probe_loss",
        "probe_accuracy",
    }
    assert set(history) == names | {f"val_{name}" for name in names}
    expected = model.evaluate(IMAGES, LABELS, batch_size=8, verbose=0)
    names = [metric.name for metric in model.metrics]
    assert [history[f"val_{name}"] for name in names] == [
        [pytest.approx(value)] for value in expected
    ]


@pytest.mark.parametrize(
    "labels", [LABELS[:, None], np.eye(NUM_CLASSES, dtype="float32")[LABELS]]
)
def test_forms_of_labels(labels):
    logs = [
        tiny_model(num_classes=NUM_CLASSES, compiling=EAGER).train_on_batch(
            IMAGES, y, return_dict=True
        )
        for y in (LABELS, labels)
    ]
    assert_equal(*logs)


# --- What is none of these ---------------------------------------------------
def test_views_of_other_images():
    views = {"view_1": IMAGES, "view_2": IMAGES[..., :1]}
    message = r"view_1.shape=\(.*8, 8, 3\), view_2.shape=\(.*8, 8, 1\)"
    with pytest.raises(
        ValueError, match=f"as many images and channels.*{message}"
    ):
        fit(tiny_model(), views)


def test_two_arrays_are_not_two_views():
    with pytest.raises(ValueError, match="Received 2 arrays as images"):
        fit(tiny_model(), [IMAGES, IMAGES])


def test_images_without_an_augmentation():
    with pytest.raises(ValueError, match=r"pass `augmentation=SimCLRAugmen"):
        fit(tiny_model(augmentation=None), IMAGES)
