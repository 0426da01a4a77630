import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import augmentation, data
from tests.model.models import EAGER, random_images, tiny_model

N, BATCH_SIZE = 24, 8
STEPS = N // BATCH_SIZE
IMAGES = random_images(N)


def batches(images=IMAGES):
    return tf.data.Dataset.from_tensor_slices(images).batch(BATCH_SIZE)


class Noise(augmentation.RandomGaussianNoise):
    """A draw for each pixel, without the seconds that XLA takes to compile."""

    jit_compile = False


def noise():
    return Noise(seed=3)


def composition():
    return keras.Sequential([noise(), noise()])


def two_layers():
    return [noise(), augmentation.RandomHorizontalFlip(seed=3)]


def three_views():
    layer = noise()
    return [layer, noise(), layer]


AUGMENTATIONS = {
    "layer": noise,
    "compiled": lambda: augmentation.RandomResizedCrop(6, 6, seed=3),
    "composition": composition,
    "two_layers": two_layers,
    "three_views": three_views,
}


def assert_views_equal(a, b):
    assert set(a) == set(b)
    for name in a:
        # Of [0, 255]: XLA's float32 sums and plain ones.
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("composition", "two_layers")
        else name
        for name in AUGMENTATIONS
    ],
)
def test_views_are_those_of_the_model(name):
    model = tiny_model(augmentation=AUGMENTATIONS[name]())
    dataset = data.augment(batches(), AUGMENTATIONS[name]())
    for _ in range(2):  # passes
        for images, views in zip(batches(), dataset, strict=True):
            expected = model.make_views(images)
            assert len(views) == len(expected) >= 2
            assert_views_equal(
                views, {f"view_{i + 1}": v for i, v in enumerate(expected)}
            )
            assert not np.allclose(views["view_1"], views["view_2"])


@pytest.mark.slow
def test_fit_on_views_is_fit_on_images():
    def fit(is_augmented):
        layer = composition()
        train = data.from_arrays(IMAGES).train
        dataset = data.training_dataset(train, BATCH_SIZE, seed=1)
        if is_augmented:
            dataset = data.augment(dataset, layer)
        model = tiny_model(
            augmentation=None if is_augmented else layer,
            value_range=(0, 255),
            compiling=EAGER,
        )
        history = model.fit(dataset, epochs=3, verbose=0, shuffle=False)
        return history.history["loss"]

    # Float32, nine steps.
    np.testing.assert_allclose(fit(True), fit(False), rtol=1e-5)


def all_views(dataset):
    found = list(dataset.as_numpy_iterator())
    return {k: np.concatenate([views[k] for views in found]) for k in found[0]}


@pytest.mark.parametrize("num_parallel_calls", [1, 2, 7])
def test_same_views_however_many_are_made_at_a_time(num_parallel_calls):
    images = random_images(160)
    expected = all_views(data.augment(batches(images), noise()))
    dataset = data.augment(
        batches(images),
        noise(),
        num_parallel_calls=num_parallel_calls,
    )
    found = all_views(dataset)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_passes_continue_the_steps():
    dataset = data.augment(batches(), noise())
    first, second = all_views(dataset), all_views(dataset)
    assert not np.allclose(first["view_1"], second["view_1"])
    resumed = data.augment(batches(), noise(), initial_step=STEPS)
    assert_views_equal(all_views(resumed), second)
    look = data.augment(batches(), noise())
    next(iter(look))
    assert_views_equal(all_views(look), second)


def test_dataset_without_end():
    dataset = data.augment(batches().repeat(), noise())
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    finite = data.augment(batches(), noise())
    assert finite.cardinality() == STEPS
    expected = all_views(finite.repeat(2))
    for _ in range(2):
        assert_views_equal(all_views(dataset.take(2 * STEPS)), expected)


def test_labels_and_dictionaries():
    labels = np.arange(N)
    labelled = tf.data.Dataset.from_tensor_slices((IMAGES, labels))
    expected = all_views(data.augment(batches(), noise()))
    for dataset in (
        labelled,
        labelled.map(lambda x, y: {"image": x, "label": y, "id": y}),
    ):
        found = all_views(data.augment(dataset.batch(BATCH_SIZE), noise()))
        np.testing.assert_array_equal(found.pop("label"), labels)
        assert_views_equal(found, expected)


def test_short_last_batch():
    images = tf.data.Dataset.from_tensor_slices(IMAGES).batch(10)
    found = list(data.augment(images, noise()))
    assert [len(views["view_1"]) for views in found] == [10, 10, 4]


def test_layer_is_neither_used_nor_changed_later():
    layer = noise()
    dataset = data.augment(batches(), layer)
    before = keras.ops.convert_to_numpy(layer.seed_generator.state)
    layer.seed_generator.state.assign([99, 5])
    found = all_views(dataset)
    np.testing.assert_array_equal(layer.seed_generator.state, [99, 5])
    layer.seed_generator.state.assign(before)
    assert_views_equal(found, all_views(data.augment(batches(), layer)))


def test_foreign_layers_draw_alike_in_every_run():
    def make():
        return keras.Sequential(
            [
                keras.layers.RandomBrightness(0.5, seed=1),
                noise(),
            ]
        )

    images = random_images(64)
    dataset = data.augment(batches(images), make(), num_parallel_calls=7)
    found = all_views(dataset)
    again = data.augment(batches(images), make(), num_parallel_calls=1)
    assert_views_equal(found, all_views(again))
    assert not np.allclose(found["view_1"], found["view_2"])
    assert not np.allclose(found["view_1"], all_views(dataset)["view_1"])
    # Batches differ, so that each must have had its own key.
    brightness = np.mean(found["view_1"], (1, 2, 3)) - np.mean(
        images, (1, 2, 3)
    )
    assert len(np.unique(np.round(brightness[::BATCH_SIZE], 1))) == 8


@pytest.mark.parametrize(
    ("pipelines", "replicas"),
    [*(pytest.param(n, 2, marks=pytest.mark.slow) for n in (1, 2)), (2, 4)],
)
def test_shares_make_up_the_batches_of_one_worker(pipelines, replicas):
    train = data.from_arrays(IMAGES).train

    def views(context):
        dataset = data.training_dataset(
            train, BATCH_SIZE, seed=1, input_context=context
        )
        dataset = data.augment(dataset, noise(), input_context=context)
        found = [all_views(dataset)["view_1"] for _ in range(2)]
        return np.reshape(found, (2, STEPS, -1, 8, 8, 3))

    shares = [
        views(tf.distribute.InputContext(pipelines, i, replicas))
        for i in range(pipelines)
    ]
    np.testing.assert_allclose(
        np.concatenate(shares, axis=2), views(None), rtol=0, atol=2e-3
    )


def unknown():
    return batches().filter(lambda images: True)


def sharing():
    layer = noise()
    return [keras.Sequential([layer]), keras.Sequential([layer, noise()])]


CONTEXT = tf.distribute.InputContext(1, 0, 2)


@pytest.mark.parametrize(
    ("dataset", "kwargs", "error", "message"),
    [
        (lambda: IMAGES, {}, TypeError, r"ndarray.*from_tensor_slices"),
        (
            lambda: batches().unbatch(),
            {},
            ValueError,
            r"\(8, 8, 3\).*batch\(batch_size\)",
        ),
        (
            lambda: batches().map(lambda x: {"pixels": x}),
            {},
            ValueError,
            "element_spec=.*pixels",
        ),
        (
            lambda: batches().map(lambda x: (x, x, x)),
            {},
            ValueError,
            "element_spec=",
        ),
        (unknown, {}, ValueError, "known cardinality.*assert_cardinality"),
        (batches, {"initial_step": 1.0}, TypeError, r"initial_step=1\.0"),
        (batches, {"initial_step": -1}, ValueError, "initial_step=-1"),
        (batches, {"augmentation": "flip"}, TypeError, "flip"),
        (batches, {"augmentation": [noise()]}, ValueError, "of 1"),
        (
            batches,
            {"augmentation": sharing()},
            ValueError,
            "share no random layer.*sequential",
        ),
        (
            lambda: batches(IMAGES.astype("uint16")),
            {},
            ValueError,
            "uint16.*value_range",
        ),
        (
            batches,
            {"input_context": CONTEXT},
            ValueError,
            "3 batches for 2 replicas",
        ),
    ],
)
def test_errors(dataset, kwargs, error, message):
    arguments = {"augmentation": noise(), **kwargs}
    with pytest.raises(error, match=message):
        data.augment(dataset(), **arguments)


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="the jax backend"):
        data.augment(batches(), noise())
