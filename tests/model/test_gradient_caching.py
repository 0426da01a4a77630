"""A step in micro-batches is the step of the whole batch."""

import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras import SimCLRModel, augmentation, losses
from simclr_keras.model.gradient_caching import MicroBatches
from tests import checks
from tests.model.models import EAGER, Batches, random_images

layers = keras.layers
N, BATCH, STEPS = 52, 20, 3  # 20, 20 and 12 images
IMAGES = random_images(N)
LABELS = np.arange(N) % 4


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@keras.saving.register_keras_serializable()
class Noise(augmentation.RandomGaussianNoise):
    """A draw for each pixel, without the seconds that XLA takes to compile."""

    jit_compile = False


def group_norm():
    return layers.GroupNormalization(4, epsilon=1e-3)


def layer_norm():
    return layers.LayerNormalization()


def frozen_batch_norm():
    return layers.BatchNormalization(trainable=False)


def model_of(micro_batch_size, norm=group_norm, loss=None, **kwargs):
    # Tracing takes longer than six steps.
    compiling = kwargs.pop("compiling", EAGER)
    keras.utils.clear_session()  # so that paths are the same each time
    keras.config.set_dtype_policy(kwargs.pop("policy", keras.config.floatx()))
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(8, 3, strides=2, kernel_regularizer="l2"),
            norm(),
            layers.Activation("tanh"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    head = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "tanh"), layers.Dense(6)]
    )
    kwargs.setdefault("augmentation", Noise(seed=3, dtype="float64"))
    model = kwargs.pop("cls", SimCLRModel)(encoder, head, **kwargs)
    model.compile(
        simclr_keras.LARS(0.3, weight_decay=1e-4),
        loss or simclr_keras.NTXentLoss(0.5),
        micro_batch_size=micro_batch_size,
        **compiling,
    )
    return model


def train(*arguments, data=(IMAGES,), epochs=2, **kwargs):
    """The logs and all variables after six steps."""
    model = model_of(*arguments, **kwargs)
    logs = model.fit(
        *data, batch_size=BATCH, epochs=epochs, verbose=0, shuffle=False
    )
    variables = [*model.variables, *model.optimizer.variables]
    assert int(model.optimizer.iterations) == epochs * STEPS
    arrays = {
        f"{i} {v.path.rpartition('/')[2]}": v.numpy()
        for i, v in enumerate(variables)
    }
    return {**logs.history, **arrays}


def assert_equal(found, expected, atol=1e-10):
    assert set(found) == set(expected)
    for key, value in expected.items():
        # float64, which adds up in another order.
        np.testing.assert_allclose(
            found[key], value, rtol=0, atol=atol, err_msg=key
        )


@pytest.fixture(scope="module")
def whole():
    keras.config.set_floatx("float64")
    return train(None, compiling={})


# --- What it is equal to -----------------------------------------------------
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(1, marks=pytest.mark.slow),
        6,
        pytest.param(50, marks=pytest.mark.slow),
    ],
)
def test_equals_the_whole_batch(size, whole):
    # Batches of no known size: one loop for each of two sizes in the graph.
    assert_equal(train(size, compiling={}), whole)


@pytest.mark.parametrize(
    "norm",
    [pytest.param(layer_norm, marks=pytest.mark.slow), frozen_batch_norm],
)
def test_equals_it_under_every_norm_of_single_images(norm):
    assert_equal(train(7, norm), train(None, norm))


@pytest.mark.parametrize(
    "compiling",
    [EAGER, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)],
)
def test_equals_it_in_every_mode(compiling):
    found, expected = (train(size, compiling=compiling) for size in (7, None))
    assert_equal(found, expected)


def labelled():
    """Sums over pairs of one class."""

    class SameClass(losses.ContrastiveLoss):
        uses_labels = True

        def view_losses(self, z_i, z_j, labels=None):
            same = keras.ops.cast(labels[:, None] == labels[None], z_i.dtype)
            distances = keras.ops.sum((z_i[:, None] - z_j[None]) ** 2, axis=-1)
            rows = keras.ops.mean(distances * same, axis=1)
            return keras.ops.concatenate([rows, rows])

    return SameClass()


CASES = {
    "learned_temperature": lambda: {
        "loss": losses.NTXentLoss(losses.LearnedTemperature(0.2))
    },
    "labels": lambda: {"loss": labelled(), "data": (IMAGES, LABELS)},
    "three_views": lambda: {
        "augmentation": [
            Noise(seed=seed, dtype="float64") for seed in (1, 2, 3)
        ]
    },
    "composition": lambda: {
        "augmentation": keras.Sequential(
            [
                Noise(seed=1, dtype="float64"),
                augmentation.RandomHorizontalFlip(seed=1, dtype="float64"),
            ]
        )
    },
    "views": lambda: {
        "augmentation": None,
        "data": ({"view_1": IMAGES, "view_2": random_images(N, seed=1)},),
    },
    "two_sizes": lambda: {
        "augmentation": [
            augmentation.RandomResizedCrop(n, n, seed=1, dtype="float64")
            for n in (8, 8, 4)
        ]
    },
    "generator": lambda: {
        "data": (
            Batches(*((IMAGES[k : k + BATCH],) for k in range(0, N, BATCH))),
        )
    },
}


SLOW = ("three_views", "two_sizes", "composition", "generator")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in CASES
    ],
)
def test_equals_it_with(name):
    assert_equal(train(7, **CASES[name]()), train(None, **CASES[name]()))


@pytest.mark.parametrize("probe_on", ["views", "images"])
def test_equals_it_with_a_probe(probe_on):
    options = {"num_classes": 4, "data": (IMAGES, LABELS), "probe_on": probe_on}
    assert_equal(train(7, **options), train(None, **options))


@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)],
)
def test_equals_it_to_half_precision(policy):
    keras.config.set_floatx("float32")
    found, expected = (
        # Rounding grows from step to step, with matrix units most of all.
        train(size, policy=policy, augmentation=Noise(seed=3), epochs=1)
        for size in (7, None)
    )
    for each in found, expected:
        # Which of two almost equal views is nearer is a matter of the last
        # digit.
        del each["contrastive_accuracy"]
    assert_equal(found, expected, atol=0.1)


def test_what_nothing_depends_on_is_left_alone():
    class Idle(layers.Layer):
        def build(self, input_shape):
            self.weight = self.add_weight(shape=(2,), name="idle")

        def call(self, x):
            return x

    with pytest.warns(UserWarning, match="Gradients do not exist"):
        found = train(7, Idle)
    (idle,) = [v for k, v in found.items() if k.endswith(" idle")]
    assert_equal({"": idle}, {"": model_of(7, Idle).encoder.layers[1].weight})


# --- What sees a micro-batch -------------------------------------------------
class Recorder(layers.Layer):
    """Keeps what passes, in eager mode."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        if not isinstance(x, keras.KerasTensor) and hasattr(x, "numpy"):
            self.seen.append(x.numpy())
        return x


def test_no_more_than_a_micro_batch_at_a_time():
    recorder = Recorder()
    model = model_of(7, lambda: recorder, compiling=EAGER)
    recorder.seen.clear()
    model.train_on_batch(IMAGES[:20])
    sizes = [len(x) // 2 for x in recorder.seen]  # of two views
    assert sizes == [7, 7, 6] * 2


def test_both_passes_drop_the_same():
    recorder = Recorder()
    model = model_of(
        7,
        lambda: keras.Sequential([layers.Dropout(0.5, seed=1), recorder]),
        compiling=EAGER,
    )
    for _ in range(2):
        recorder.seen.clear()
        model.train_on_batch(IMAGES[:14])
        a, b, *again = recorder.seen
        np.testing.assert_array_equal(again[0], a)
        np.testing.assert_array_equal(again[1], b)
        # Each micro-batch has draws of its own.
        assert not np.array_equal(a == 0, b == 0)


def test_moving_statistics_move_once_a_step():
    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization(momentum=0.9)
    recorder = Recorder()
    model = model_of(
        7, lambda: keras.Sequential([recorder, norm]), compiling=EAGER
    )
    recorder.seen.clear()
    model.train_on_batch(IMAGES[:19])
    parts = recorder.seen[:3]
    for moving, of_part, start in (
        (norm.moving_mean, np.mean, 0),
        (norm.moving_variance, np.var, 1),
    ):
        statistics = [of_part(part, axis=(0, 1, 2)) for part in parts]
        mean = np.average(statistics, axis=0, weights=list(map(len, parts)))
        # Batch norm computes its statistics in float32.
        np.testing.assert_allclose(
            moving, 0.9 * start + 0.1 * mean, rtol=1e-6, atol=1e-9
        )


def test_foreign_random_layers_go_on():
    def draws(micro_batch_size):
        layer = layers.RandomTranslation(0.5, 0.5, seed=1)
        model = model_of(micro_batch_size, augmentation=layer, compiling=EAGER)
        model.train_on_batch(IMAGES[:20])
        return int(layer.generator.state[1])

    assert draws(5) == 4 * draws(None) > 0


class Raw(layers.Layer):
    """Makes its variables when it is called for the first time."""

    def __init__(self):
        super().__init__()
        self.layers = [
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ]

    def call(self, x, training=None):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.slow
def test_a_generator_and_an_encoder_that_is_not_built():
    model = SimCLRModel(Raw(), augmentation=Noise(seed=3, dtype="float64"))
    model.compile("sgd", micro_batch_size=5)
    batches = ((IMAGES[k : k + 10],) for k in (0, 10, 20))
    history = model.fit(batches, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    norm = model.encoder.layers[1]
    assert np.abs(norm.moving_mean.numpy()).min() > 0


def test_the_micro_batches():
    for n, size in ((1, 1), (20, 7), (20, 20), (20, 64), (21, 5)):
        whole = MicroBatches({"image": np.arange(n)[:, None]}, size)
        parts = [
            whole[start + k * length, length]
            for start, length, count in whole.groups
            for k in range(count)
        ]
        found = np.concatenate([part.batch["image"][:, 0] for part in parts])
        np.testing.assert_array_equal(found, np.arange(n))
        sizes = [part.size for part in parts]
        assert len(sizes) == -(-n // size)
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
        assert sum(float(p.share("float64")) for p in parts) == pytest.approx(1)


# --- What is kept and refused ------------------------------------------------
def test_it_is_saved(tmp_path):
    model = model_of(7)
    model.fit(IMAGES, batch_size=BATCH, verbose=0)
    assert checks.save_and_load(model, tmp_path).micro_batch_size == 7


class Signature(SimCLRModel):
    """As docs/extending.md writes it, without defaults."""

    looks = False

    def contrastive_loss(self, projections, labels, views, training):
        assert views is None
        assert training
        scale = keras.ops.mean(views[0]) if self.looks else 1.0
        return scale * keras.ops.mean((projections[0] - projections[1]) ** 2)


class LooksAtViews(Signature):
    looks = True


def test_a_loss_gets_all_of_its_arguments():
    for cls in (Signature, LooksAtViews):
        model = cls(
            keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()]),
            augmentation=augmentation.RandomHorizontalFlip(seed=1),
        )
        model.compile("sgd", micro_batch_size=4, run_eagerly=True)
        if cls is Signature:
            model.fit(IMAGES, batch_size=BATCH, verbose=0)
            continue
        message = "LooksAtViews.contrastive_loss failed.*`views` is None"
        with pytest.raises(ValueError, match=message):
            model.fit(IMAGES, batch_size=BATCH, verbose=0)


def test_a_step_of_ones_own_is_refused():
    class Own(SimCLRModel):
        def compute_loss(self, x=None, **kwargs):
            return super().compute_loss(x, **kwargs)

    with pytest.raises(ValueError, match=r"Own.*`contrastive_loss`"):
        Own(model_of(None).encoder).compile("sgd", micro_batch_size=2)


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)],
)
def test_bad_sizes(size, error):
    with pytest.raises(error, match=f"micro_batch_size={size}"):
        model_of(size)


class Predicting(SimCLRModel):
    """Changes state in its loss, as SimSiam and MoCo do."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.predictor = keras.Sequential(
            [
                keras.Input((6,)),
                layers.BatchNormalization(),
                layers.Dropout(0.3, seed=5),
                layers.Dense(6),
            ]
        )
        self.calls = self.add_weight(
            (), "zeros", "int32", trainable=False, name="calls"
        )
        self.queue = self.add_weight(
            (6,), "zeros", trainable=False, name="queue"
        )

    def contrastive_loss(
        self, projections, labels=None, views=None, training=True
    ):
        self.calls.assign_add(1)
        self.queue.assign(keras.ops.mean(projections[0], axis=0))
        projections = [
            self.predictor(z, training=training) for z in projections
        ]
        return super().contrastive_loss(projections, labels, views, training)


@pytest.mark.slow
@pytest.mark.parametrize("compiling", [EAGER, {}])
def test_state_that_the_loss_changes_is_kept(compiling):
    options = {"cls": Predicting, "compiling": compiling}
    found, expected = train(7, **options), train(None, **options)
    (name,) = [name for name in expected if name.endswith(" calls")]
    assert expected[name] == 2 * STEPS
    assert_equal(found, expected)


@pytest.mark.parametrize("is_augmentation", [True, False])
def test_layers_that_know_no_index_draw_for_every_micro_batch(is_augmentation):
    images = keras.Input((8, 8, 3))
    noise = Noise(seed=3, dtype="float64", value_range=(0, 1))
    noisy = keras.Model(images, noise(images, training=True))
    seen = []

    class Recorded(layers.Layer):
        def call(self, images):
            if isinstance(images.shape[0], int):  # Not of shapes alone.
                first_views = images[: images.shape[0] // 2]
                seen.extend(np.array(first_views[:, 0, 0, 0]))
            return images

    class Recording(SimCLRModel):
        def __init__(self, encoder, *args, **kwargs):
            before = [Recorded()] if is_augmentation else [noisy, Recorded()]
            parts = [keras.Input((8, 8, 3)), *before, encoder]
            super().__init__(keras.Sequential(parts), *args, **kwargs)

    flip = augmentation.RandomHorizontalFlip(value_range=(0, 1))
    model = model_of(
        5, cls=Recording, augmentation=noisy if is_augmentation else flip
    )
    seen.clear()
    model.train_on_batch(np.full((BATCH, 8, 8, 3), 0.5))
    first, again = np.split(np.array(seen), 2)
    # Another draw for every image, and the same in the second pass.
    assert len(np.unique(first)) == BATCH
    np.testing.assert_array_equal(first, again)
