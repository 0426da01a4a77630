"""Two views or more, each by an augmentation of its own."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import SimCLRModel
from simclr_keras.augmentation import (
    RandomCutout,
    RandomGaussianNoise,
    RandomResizedCrop,
)
from tests.model.by_hand import ByHand
from tests.model.models import (
    BATCH,
    EAGER,
    IMAGES,
    LABELS,
    NUM_CLASSES,
    VIEWS,
    Batches,
    dataset,
    fit,
    halves,
    tiny_encoder,
    tiny_model,
)

FACTORS = (1.0, 0.5, 0.25)


def scalings(count=3):
    return [keras.layers.Rescaling(factor) for factor in FACTORS[:count]]


def views_of(images, count=3):
    return {
        f"view_{k + 1}": images.astype("float32") * factor
        for k, factor in enumerate(FACTORS[:count])
    }


def pairwise_logs(model, views):
    """Of a step: the mean of the losses of pairs, metrics of the first two."""
    by_hand = ByHand(model)
    h = [
        by_hand.represent(np.concatenate(list(of_one_size)), training=True)
        for _, of_one_size in itertools.groupby(views.values(), np.shape)
    ]
    z = by_hand.project(tf.concat(h, axis=0), training=True)
    z = np.split(z, len(views))
    losses = [
        by_hand.loss(tf.concat(pair, axis=0))
        for pair in itertools.combinations(z, 2)
    ]
    return {
        "loss": np.mean(losses),
        **by_hand.metrics(tf.concat(z[:2], axis=0)),
    }


def test_two_views_are_two_draws():
    view_1, view_2 = tiny_model().make_views(tf.constant(IMAGES))
    flipped = IMAGES[:, :, ::-1].astype("float32")
    for view in (view_1, view_2):
        is_flipped = (view.numpy() == flipped).all(axis=(1, 2, 3))
        as_is = (view.numpy() == IMAGES).all(axis=(1, 2, 3))
        assert (is_flipped ^ as_is).all()
        assert 0 < is_flipped.sum() < 16
    assert not np.array_equal(view_1, view_2)


@pytest.mark.parametrize("count", [2, 3])
def test_an_augmentation_for_each_view(count):
    model = tiny_model(augmentation=scalings(count), compiling=EAGER)
    expected = pairwise_logs(model, views_of(IMAGES, count))
    logs = model.train_on_batch(IMAGES, return_dict=True)
    assert logs == pytest.approx(expected, rel=1e-5)  # float32
    views = model.make_views(tf.constant(IMAGES), training=False)
    for view, images in zip(
        views, views_of(IMAGES, count).values(), strict=True
    ):
        np.testing.assert_allclose(view, images, rtol=1e-6)  # float32
    # What prepares images for inference is the first one's.
    np.testing.assert_allclose(
        model(IMAGES), model.encoder(IMAGES / np.float32(255)), atol=1e-6
    )


def of_two_sizes(images):
    return {
        "view_1": images,
        "view_2": images[:, :, ::-1],
        "view_3": images[:, ::2, ::2],
        "view_4": images[:, 1::2, 1::2],
    }


class OfTwoSizes(SimCLRModel):
    """Multi-crop: two views of the whole size, two of half of it."""

    def make_views(self, images, training=True):
        return tuple(of_two_sizes(keras.ops.cast(images, "float32")).values())


@pytest.mark.parametrize("makes_views", [True, False])
def test_views_of_two_sizes_go_through_the_encoder_size_by_size(makes_views):
    encoder = tiny_encoder((None, None, 3))
    if makes_views:
        model = tiny_model(encoder=encoder, cls=OfTwoSizes, compiling=EAGER)
        batch = IMAGES
    else:
        model = tiny_model(encoder=encoder, augmentation=None, compiling=EAGER)
        batch = of_two_sizes(IMAGES)
    expected = pairwise_logs(model, of_two_sizes(IMAGES))
    logs = model.train_on_batch(batch, return_dict=True)
    assert logs == pytest.approx(expected, rel=1e-5)  # float32


@pytest.mark.slow
def test_views_of_two_sizes_in_fit():
    sizes = [RandomResizedCrop(n, n, seed=1) for n in (8, 8, 4, 4, 4)]
    model = tiny_model(
        encoder=tiny_encoder((None, None, 3)),
        augmentation=sizes,
        num_classes=NUM_CLASSES,
    )
    data = dataset((IMAGES, LABELS))
    history = fit(model, data, epochs=3, validation_data=data)
    assert history["loss"][-1] < history["loss"][0]
    # Images are evaluated in the size of the first view.
    assert model.evaluation_preprocessing(tf.constant(IMAGES)).shape[1:] == (
        8,
        8,
        3,
    )


FORMS = {
    "dict": lambda: (views_of(IMAGES),),
    "dataset": lambda: (dataset(views_of(IMAGES)),),
    "PyDataset": lambda: (Batches(*map(views_of, halves(IMAGES))),),
}


@pytest.mark.parametrize("form", FORMS)
def test_dictionaries_of_three_views(form):
    model = tiny_model(
        keras.optimizers.SGD(0.0), augmentation=None, compiling=EAGER
    )
    expected = [pairwise_logs(model, views_of(half)) for half in halves(IMAGES)]
    history = fit(model, *FORMS[form](), epochs=1)
    assert {k: v[0] for k, v in history.items()} == pytest.approx(
        # float32
        {k: (expected[0][k] + expected[1][k]) / 2 for k in history},
        rel=1e-5,
    )


@pytest.mark.slow
def test_three_views_in_a_graph_and_a_last_short_batch():
    eager = tiny_model(augmentation=scalings(), compiling=EAGER)
    compiled = tiny_model(augmentation=scalings())
    a, b = (
        fit(model, dataset(IMAGES[:12]), epochs=1)
        for model in (eager, compiled)
    )
    for name in a:
        assert a[name] == pytest.approx(b[name], rel=1e-4), name  # float32


@pytest.mark.parametrize(
    "make",
    [
        lambda noise: [noise(), noise()],
        lambda noise: [noise()] * 2,
        lambda noise: [keras.Sequential([noise(), noise()])] * 2,
    ],
    ids=["equal", "the same", "compositions"],
)
def test_one_seed_for_all_views_draws_differently(make):
    augmentation = make(lambda: RandomGaussianNoise(stddev=0.2, seed=1))
    model = tiny_model(augmentation=augmentation)
    drawn = [
        view.numpy()
        for training in (True, True, False)
        for view in model.make_views(tf.constant(IMAGES), training=training)
    ]
    for a, b in itertools.combinations(drawn, 2):
        assert np.abs(a - b).mean() > 10


class OfItsOwn(SimCLRModel):
    """Cuts more out of the second view."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cutout = RandomCutout(probability=1.0, seed=7)

    def make_views(self, images, training=True):
        first, second = super().make_views(images, training)
        return first, self.augment(
            second, view=1, training=training, augmentation=self.cutout
        )


def test_an_augmentation_that_a_subclass_adds():
    model = tiny_model(cls=OfItsOwn)
    for training in (True, False):
        first, second = model.make_views(tf.constant(IMAGES), training)
        as_is = (IMAGES, IMAGES[:, :, ::-1])
        assert all(
            any(np.array_equal(view, image) for image in images)
            for view, *images in zip(first.numpy(), *as_is)
        )
        assert (second.numpy() == second.numpy()[:, :1, :1]).any(axis=-1).any()
        assert not any(
            any(np.array_equal(view, image) for image in images)
            for view, *images in zip(second.numpy(), *as_is)
        )
    for _ in range(2):
        again = model.make_views(tf.constant(IMAGES), training=False)[1]
        np.testing.assert_array_equal(again, second)


class One(SimCLRModel):
    def make_views(self, images, training=True):
        return (images,)


class OfTwoNumbersOfChannels(SimCLRModel):
    def make_views(self, images, training=True):
        return images, images[..., :1]


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (One, r"Received: 1 of shapes \[\(8, 8, 3\)\]"),
        (
            OfTwoNumbersOfChannels,
            r"Received: 2 of shapes \[\(8, 8, 3\), \(8, 8, 1\)\]",
        ),
    ],
)
def test_views_that_cannot_be_compared(cls, message):
    model = tiny_model(cls=cls, compiling=EAGER)
    with pytest.raises(ValueError, match=f"two views or more.*{message}"):
        fit(model, IMAGES)


def test_views_of_a_size_that_the_encoder_does_not_take():
    model = tiny_model(cls=OfTwoSizes, compiling=EAGER)
    message = r"takes images of shape \(8, 8, 3\).*views of shape \(4, 4, 3\)"
    with pytest.raises(ValueError, match=message):
        fit(model, IMAGES)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 8), r"View 1 of .* \(8, 8\). Received: crop_1 .* \(4, 4\)"),
        ((8, 4, 4), "3 crops and an augmentation of 2 views"),
    ],
)
def test_crops_of_other_views(sizes, message):
    crops = {
        f"crop_{k}": np.zeros((BATCH, n, n, 3), "float32")
        for k, n in enumerate(sizes, 1)
    }
    model = tiny_model(
        encoder=tiny_encoder((None, None, 3)),
        augmentation=[RandomResizedCrop(n, n) for n in (8, 4)],
        compiling=EAGER,
    )
    with pytest.raises(ValueError, match=message):
        fit(model, crops)


def generated(first, second, *shapes):
    spec = {
        f"view_{k}": tf.TensorSpec(shape, tf.uint8)
        for k, shape in enumerate(shapes, 1)
    }
    return tf.data.Dataset.from_generator(
        lambda: iter([{"view_1": first, "view_2": second}]),
        output_signature=spec,
    )


KNOWN, UNKNOWN = (None, 8, 8, 3), (None, None, None, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # Batch norm would see the one view and then the other.
        ((IMAGES, IMAGES[::-1], KNOWN, UNKNOWN), "tf.ensure_shape"),
        ((IMAGES, IMAGES[:, ::2], UNKNOWN, UNKNOWN), "tf.ensure_shape"),
        ((IMAGES, IMAGES[:8], KNOWN, KNOWN), "of the same images"),
        (
            (IMAGES, IMAGES[:8, ::2, ::2], KNOWN, (None, 4, 4, 3)),
            "of the same images",
        ),
    ],
)
def test_views_of_which_little_is_known(data, message):
    model = tiny_model(encoder=tiny_encoder((None, None, 3)), augmentation=None)
    expected = (ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(expected, match=message):
        fit(model, generated(*data), epochs=1)


@pytest.mark.slow
def test_views_of_one_size_that_is_not_known():
    logs = []
    for shapes in ((KNOWN, KNOWN), (UNKNOWN, UNKNOWN)):
        keras.utils.set_random_seed(0)  # Of the encoder's weights.
        model = tiny_model(
            encoder=tiny_encoder((None, None, 3)), augmentation=None
        )
        data = generated(IMAGES, VIEWS["view_2"], *shapes)
        logs.append(fit(model, data, epochs=1))
    # float32
    assert logs[0] == {
        k: pytest.approx(v, rel=1e-5) for k, v in logs[1].items()
    }


def test_views_that_are_not_counted_from_1():
    model = tiny_model(augmentation=None)
    views = {"view_1": IMAGES, "view_3": VIEWS["view_2"]}
    with pytest.raises(ValueError, match=r"keys \['view_1', 'view_3'\]"):
        fit(model, views)


def test_an_augmentation_beside_views_is_told_of():
    model = tiny_model()
    with pytest.warns(UserWarning, match="`augmentation` does nothing"):
        fit(model, VIEWS)
