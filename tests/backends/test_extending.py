"""The examples of docs/extending.md run, and do what they say."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import simclr_keras
from tests import extending
from tests.extending import BYOL, SUPCON, VICREG

# On TensorFlow a minute of compiling; JAX's lane is this folder.
pytestmark = (
    [pytest.mark.slow] if keras.backend.backend() == "tensorflow" else []
)
TEMPERATURE = "A temperature that is learned"
HEAD = "A projection head of your own layers"
TWO_AUGMENTATIONS = "A different augmentation for each view"
MORE_VIEWS = "More than two views"
MULTI_CROP = "Views of several sizes (multi-crop)"
TRANSFORMATION = "A transformation of your own"
ENCODER = "An encoder of your own"
TWO_INPUTS = "An encoder of two inputs"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The namespace of all blocks, and the model that each section leaves.

    Of sections with several models they are "More than two views 2" and so on.
    """
    folder = tmp_path_factory.mktemp("extending")
    namespace, models = {"__name__": "extending"}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        keras.utils.set_random_seed(0)
        for heading, blocks in extending.sections().items():
            for number, block in enumerate(blocks, 1):
                extending.run(block, namespace, heading)
                name = heading if number == 1 else f"{heading} {number}"
                models[name] = namespace.get("model")
    del models[extending.SHARED]
    return namespace, models


@pytest.fixture(scope="module")
def names(examples):
    return examples[0]


@pytest.fixture(scope="module")
def models(examples):
    return examples[1]


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def arrays(layer):
    """The weights as they are now, on JAX too."""
    return [np.array(numpy(weight)) for weight in layer.weights]


def predictions(model):
    size = model.get_build_config()["input_shape"][1:]
    images = np.random.default_rng(1).integers(0, 256, (8, *size), "uint8")
    return model.predict(images, verbose=0)


def test_every_example_trains(models):
    assert len(models) == 13
    for name, model in models.items():
        # Two steps; the loaded model goes on.
        steps = 4 if name == "Saving what you wrote" else 2
        assert int(model.optimizer.iterations) == steps, name
        assert np.all(np.isfinite(predictions(model))), name
        assert np.isfinite(model.history.history["loss"][-1]), name


@pytest.mark.parametrize(
    "name",
    [
        BYOL,
        VICREG,
        TEMPERATURE,
        TWO_AUGMENTATIONS,
        MORE_VIEWS,
        f"{MORE_VIEWS} 2",
        MULTI_CROP,
        TRANSFORMATION,
        ENCODER,
        TWO_INPUTS,
    ],
)
def test_every_example_is_saved_whole(models, name, tmp_path):
    model = models[name]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_build_config() == model.get_build_config()
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b), err_msg=a.path)
    for a, b in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(numpy(a), numpy(b), err_msg=a.path)
    np.testing.assert_array_equal(predictions(model), predictions(loaded))


# --- Supervised contrastive loss ---------------------------------------------
def l_out(z, labels, temperature):
    """Equation 2 of Khosla et al., 2020, as it is written, for each view."""
    z = [row / np.sqrt(row @ row) for row in z.astype("float64")]
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        total = sum(np.exp(z[i] @ z[a] / temperature) for a in others)
        terms = [
            np.log(np.exp(z[i] @ z[p] / temperature) / total) for p in positives
        ]
        losses.append(-sum(terms) / len(positives))
    return losses


# One of the classes has a single image.
@pytest.mark.parametrize("labels", [[0, 1, 1, 2, 1, 0, 2, 3], [5] * 8])
def test_supcon_is_l_out(names, labels):
    z_i, z_j = RNG.normal(size=(2, 8, 6))
    dtype = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    loss = names["SupConLoss"](0.3, reduction=None, dtype=dtype)
    found = numpy(loss(z_i, z_j, labels=np.array(labels)))
    expected = l_out(np.concatenate([z_i, z_j]), labels * 2, 0.3)
    # Rounding of either dtype, through an exponential of up to 1 / 0.3.
    rtol = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(found, expected, rtol=rtol)


def test_supcon_of_classes_of_one_image_is_nt_xent(names):
    z_i, z_j = RNG.normal(size=(2, 8, 6)).astype("float32")
    found = names["SupConLoss"](0.3)(z_i, z_j, labels=np.arange(8))
    expected = simclr_keras.NTXentLoss(0.3)(z_i, z_j)
    # float32
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_supcon_in_a_step_sees_the_labels(models, names):
    model = models[SUPCON]
    z = tuple(RNG.normal(size=(2, 8, 6)).astype("float32"))
    labels = np.arange(8) % 3
    found = float(model.contrastive_loss(z, labels, training=False))
    expected = np.mean(l_out(np.concatenate(z), [*labels, *labels], 0.1))
    # float32
    assert found == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="needs labels"):
        model.evaluate(names["images"], verbose=0)


# --- BYOL --------------------------------------------------------------------
@pytest.fixture
def byol(names):
    keras.utils.set_random_seed(1)
    model = names["BYOL"](
        names["encoder"](), augmentation=names["augmentation"]()
    )
    model.compile(keras.optimizers.SGD(0.3))
    return model


def test_byols_target_is_the_moving_average(byol, names):
    target = arrays(byol.target)
    for a, b in zip(target, arrays(byol.online), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = False
    for _ in range(3):
        before = arrays(byol.online)
        byol.fit(names["images"], verbose=0)
        # The step begins with its weights; its statistics are new by then.
        online = [
            old if weight.trainable else np.array(numpy(weight))
            for old, weight in zip(before, byol.online.weights)
        ]
        target = [0.99 * a + 0.01 * b for a, b in zip(target, online)]
        for a, b in zip(arrays(byol.target), target, strict=True):
            # float32; far below what a step changes
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        moved = moved or any(
            np.abs(a - b).max() > 1e-3 for a, b in zip(target, online)
        )
    assert moved


def test_byols_evaluation_leaves_the_target(byol, names):
    byol.fit(names["images"], verbose=0)
    before = arrays(byol.target)
    byol.evaluate(names["images"], verbose=0)
    for a, b in zip(arrays(byol.target), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_byols_predictor_learns_and_the_target_does_not(models):
    model = models[BYOL]
    trained = {id(v) for v in model.trainable_variables}
    assert {id(v) for v in model.predictor.trainable_variables} <= trained
    assert len(model.predictor.trainable_variables) == 5
    assert not model.target.trainable_variables
    # Adam has two slots for each, besides its step and its learning rate.
    assert len(model.optimizer.variables) == 2 * len(trained) + 2
    assert not trained & {id(v) for v in model.target.weights}


def test_byols_loss_is_that_of_the_paper(models, names):
    model = models[BYOL]
    rng = np.random.default_rng(2)
    views = rng.random((2, 8, 16, 16, 3)).astype("float32")
    z = [model.projection_head(model.encoder(view)) for view in views]
    found = model.contrastive_loss(z, None, views, training=False)
    expected = 0
    for i, j in (0, 1), (1, 0):
        q = numpy(model.predictor(z[i])).astype("float64")
        aim = numpy(model.target(views[j])).astype("float64")
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        aim /= np.linalg.norm(aim, axis=1, keepdims=True)
        expected += np.mean(np.sum((q - aim) ** 2, axis=1))
    # float32 differences of unit vectors
    assert float(found) == pytest.approx(expected, rel=1e-4)


# --- VICReg ------------------------------------------------------------------
def test_vicreg_is_that_of_its_authors(names):
    z = RNG.normal(size=(2, 16, 5)) * [0.1, 0.5, 1.0, 1.5, 2.0]
    z[1] += 0.5 * z[0]
    expected = 25 * np.mean((z[0] - z[1]) ** 2)
    for each in z:
        std = np.sqrt(np.var(each, axis=0, ddof=1) + 1e-4)
        expected += 25 * np.mean(np.maximum(0, 1 - std)) / 2
        c = np.cov(each, rowvar=False)
        off_diagonal = c[~np.eye(5, dtype=bool)]
        expected += np.sum(off_diagonal**2) / 5
    found = names["vicreg"](*ops.convert_to_tensor(z, "float32"))
    # float32
    assert float(found) == pytest.approx(expected, rel=1e-5)


# --- Parts that are arguments ------------------------------------------------
def test_the_temperature_has_moved(models):
    loss = models[TEMPERATURE].loss
    assert float(loss.temperature) != pytest.approx(0.2, rel=1e-4)
    learned = {id(v) for v in models[TEMPERATURE].trainable_variables}
    assert {id(v) for v in loss.variables} <= learned


def test_the_head_is_the_users(models):
    model = models[HEAD]
    h = RNG.normal(size=(8, 32)).astype("float32")
    assert tuple(model.project(h).shape) == (8, 16)
    assert len(model.projection_head.trainable_variables) == 5


def test_two_augmentations_make_two_kinds_of_views(models):
    # Images of one color each: crops leave it, and jitter does not.
    colors = RNG.integers(60, 200, (32, 1, 1, 3))
    images = np.broadcast_to(colors, (32, 16, 16, 3)).astype("float32")
    for training in (True, False):
        first, second = models[TWO_AUGMENTATIONS].make_views(images, training)
        # float32 weights of an interpolation
        np.testing.assert_allclose(numpy(second), images, atol=1e-3)
        changed = np.abs(numpy(first) - images).max(axis=(1, 2, 3)) > 1
        # The chance of a jitter is 0.8.
        assert changed.mean() > 0.5


def test_four_views_are_compared_in_six_pairs(models, names):
    model = models[MORE_VIEWS]
    views = [numpy(v) for v in model.make_views(names["images"])]
    for a, b in itertools.combinations(views, 2):
        assert np.abs(a - b).mean() > 1
    z = RNG.normal(size=(4, 8, 6)).astype("float32")
    pairs = list(itertools.combinations(z, 2))
    assert len(pairs) == 6
    # NT-Xent is L_out of classes of one image.
    expected = np.mean(
        [l_out(np.concatenate(pair), [*range(8)] * 2, 0.1) for pair in pairs]
    )
    found = float(model.contrastive_loss(tuple(z), training=False))
    # float32
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_third_view_is_the_image(models, names):
    model = models[f"{MORE_VIEWS} 2"]
    first, second, third = model.make_views(names["images"])
    np.testing.assert_array_equal(numpy(third), names["images"])
    assert np.abs(numpy(first) - numpy(second)).mean() > 1


def test_large_views_are_compared_with_all_and_small_ones_are_not(
    models, names
):
    model = models[MULTI_CROP]
    sizes = [view.shape[1] for view in model.make_views(names["images"])]
    assert sizes == [16, 16, 8, 8, 8, 8]
    z = RNG.normal(size=(6, 8, 6)).astype("float32")
    pairs = [(0, 1), *itertools.product((0, 1), (2, 3, 4, 5))]
    expected = np.mean(
        [
            l_out(np.concatenate([z[i], z[j]]), [*range(8)] * 2, 0.1)
            for i, j in pairs
        ]
    )
    found = float(model.contrastive_loss(tuple(z), training=False))
    # float32
    assert found == pytest.approx(expected, rel=1e-5)


def test_every_fifth_image_is_solarized(names):
    layer = names["RandomSolarize"](seed=0)
    images = RNG.integers(0, 256, (500, 4, 4, 3), "uint8")
    found = numpy(layer(images))
    solarized = np.where(images < 127.5, images, 255.0 - images)
    as_it_is, changed = (
        # float32
        np.abs(found - each).max(axis=(1, 2, 3)) < 1e-3
        for each in (images, solarized)
    )
    assert (as_it_is ^ changed).all()
    assert 0.15 < changed.mean() < 0.25


def test_an_encoder_of_ones_own_gives_the_representations(models, names):
    model = models[ENCODER]
    assert isinstance(model.encoder, names["PatchEncoder"])
    images = RNG.integers(0, 256, (8, 16, 16, 3), "uint8")
    expected = numpy(model.encoder(images.astype("float32") / 255))
    found = model.predict(images, verbose=0)
    # float32, compiled or not
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_both_inputs_reach_the_encoder(models):
    model = models[TWO_INPUTS]
    images = RNG.random((8, 16, 16, 4)).astype("float32")
    other_depth = images.copy()
    other_depth[..., 3] *= 0.5
    h, other = numpy(model.encode(images)), numpy(model.encode(other_depth))
    assert h.shape == (8, 32)
    # The first half is of the colors, the second of the depth.
    np.testing.assert_array_equal(h[:, :16], other[:, :16])
    assert np.abs(h[:, 16:] - other[:, 16:]).mean() > 1e-3
