import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import (
    LARS,
    NTXentLoss,
    ProjectionHead,
    SimCLRAugmentation,
    SimCLRModel,
    WarmupCosineDecay,
)
from simclr_keras.augmentation import RandomGaussianNoise, RandomHorizontalFlip
from tests import checks

TEMPERATURE = 0.5
RATE = 0.1
NUM_CLASSES = 4
BATCH = 8
EAGER = {"run_eagerly": True}  # the cheapest, for a step or two


def random_images(count=16, height=8, width=8, seed=0):
    rng = np.random.default_rng(seed)
    # Each its own color and texture, so that there is something to learn.
    colors = rng.uniform(64, 192, (count, 1, 1, 3))
    noise = rng.uniform(-64, 64, (count, height, width, 3))
    return (colors + noise).astype("uint8")


IMAGES = random_images()
LABELS = np.arange(16) % NUM_CLASSES
VIEWS = {"view_1": IMAGES, "view_2": random_images(seed=1)}


def tiny_encoder(shape=(8, 8, 3), **kwargs):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(
                8, 3, strides=2, use_bias=False, name="conv", **kwargs
            ),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ],
        name="encoder",
    )


def tiny_model(optimizer=None, compiling=None, encoder=None, **kwargs):
    """A model whose weights and draws are the same every time."""
    keras.utils.set_random_seed(0)
    kwargs.setdefault("augmentation", RandomHorizontalFlip(seed=7))
    if "projection_head" not in kwargs:
        kwargs["projection_head"] = ProjectionHead(4, name="head")
    model = SimCLRModel(encoder or tiny_encoder(), **kwargs)
    model.compile(
        optimizer or keras.optimizers.SGD(RATE),
        NTXentLoss(TEMPERATURE),
        **(compiling or {}),
    )
    return model


def fit(model, *data, epochs=2, **kwargs):
    """The history, for data in its order."""
    kwargs["shuffle"] = False
    if not isinstance(data[0], (tf.data.Dataset, keras.utils.PyDataset)):
        kwargs.setdefault("batch_size", BATCH)
    return model.fit(*data, epochs=epochs, verbose=0, **kwargs).history


class Rewound:
    """A model that can be put back to its start, and keeps its graphs."""

    def __init__(self, model):
        self.model = model
        model.optimizer.build(model.trainable_variables)
        variables = model.variables + model.optimizer.variables
        self.start = [(v, v.numpy()) for v in variables]

    def __call__(self):
        for variable, value in self.start:
            variable.assign(value)
        return self.model


def weights(layer):
    return [v.numpy() for v in layer.weights]


def assert_equal(one, other, **tolerances):
    """Of two histories, dictionaries or lists of arrays."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        one, other = (list(map(d.get, sorted(d))) for d in (one, other))
    for a, b in zip(one, other, strict=True):
        if tolerances:
            np.testing.assert_allclose(a, b, **tolerances)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def tiny():
    return Rewound(tiny_model())


@pytest.fixture(scope="module")
def probed():
    return Rewound(tiny_model(num_classes=NUM_CLASSES))


@pytest.fixture(scope="module")
def plain(tiny):
    """History and weights after two epochs of two batches each."""
    history = fit(tiny(), IMAGES)
    return history, weights(tiny.model)


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def dataset(value, batch_size=BATCH):
    return tf.data.Dataset.from_tensor_slices(value).batch(batch_size)


def halves(array):
    return array[:BATCH], array[BATCH:]


# --- A step, by hand -------------------------------------------------------


class ByHand:
    """The tiny model in float64 and raw TensorFlow operations."""

    def __init__(self, model):
        self.weights = {
            v.path: tf.Variable(v.numpy().astype("float64"))
            for v in model.weights
        }

    def norm(self, name, x, training):
        axes = list(range(len(x.shape) - 1))
        mean = self.weights[f"{name}/moving_mean"]
        variance = self.weights[f"{name}/moving_variance"]
        if training:
            mean, variance = tf.nn.moments(x, axes)
        # Keras's own epsilon in the encoder, the paper's in the head
        x = (x - mean) / tf.sqrt(variance + (1e-5 if "head" in name else 1e-3))
        x = x * self.weights[f"{name}/gamma"]
        beta = self.weights.get(f"{name}/beta")
        return x if beta is None else x + beta

    def represent(self, images, training=False):
        x = tf.constant(images, "float64") / 255
        kernel = self.weights["encoder/conv/kernel"]
        x = tf.nn.conv2d(x, kernel, strides=2, padding="VALID")
        x = tf.nn.relu(self.norm("encoder/norm", x, training))
        return tf.reduce_mean(x, axis=(1, 2))

    def project(self, h, training=False):
        x = h @ self.weights["head/dense_1/kernel"]
        x = tf.nn.relu(self.norm("head/batch_norm_1", x, training))
        x = x @ self.weights["head/dense_2/kernel"]
        return self.norm("head/batch_norm_2", x, training)

    def loss(self, z):
        """Equation 1 as matrices, with the views themselves cut out."""
        count = len(z)
        z = z / tf.norm(z, axis=1, keepdims=True)
        logits = z @ tf.transpose(z) / TEMPERATURE
        others = tf.boolean_mask(logits, ~np.eye(count, dtype=bool))
        others = tf.reshape(others, (count, count - 1))
        partner = np.roll(np.eye(count), count // 2, axis=1)
        positives = tf.reduce_sum(logits * partner, axis=1)
        return tf.reduce_mean(tf.reduce_logsumexp(others, axis=1) - positives)

    def metrics(self, z):
        """Contrastive accuracy and entropy."""
        z = z.numpy() / np.linalg.norm(z, axis=1, keepdims=True)
        logits = z[: len(z) // 2] @ z[len(z) // 2 :].T / TEMPERATURE
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return {
            "contrastive_accuracy": np.mean(
                logits.argmax(axis=1) == np.arange(len(logits))
            ),
            "contrastive_entropy": -(p * np.log(p)).sum(axis=1).mean(),
        }

    def logs(self, views):
        images = np.concatenate([views["view_1"], views["view_2"]])
        z = self.project(self.represent(images, training=True), training=True)
        return {"loss": float(self.loss(z)), **self.metrics(z)}

    def step(self, views, labels=None, l2=0.0):
        """One step of SGD; its logs."""
        images = np.concatenate([views["view_1"], views["view_2"]])
        with tf.GradientTape() as tape:
            h = self.represent(images, training=True)
            z = self.project(h, training=True)
            loss = self.loss(z)
            loss += l2 * tf.reduce_sum(self.weights["encoder/conv/kernel"] ** 2)
        logs = {**self.metrics(z), "loss": float(loss)}
        gradients = tape.gradient(loss, self.weights)
        if labels is not None:
            labels = np.concatenate([labels, labels])
            logits = h @ self.weights["linear_probe/kernel"]
            logits += self.weights["linear_probe/bias"]
            # The gradient of a softmax regression: p - y
            error = tf.nn.softmax(logits) - np.eye(NUM_CLASSES)[labels]
            error /= len(labels)
            gradients["linear_probe/kernel"] = tf.transpose(h) @ error
            gradients["linear_probe/bias"] = tf.reduce_sum(error, axis=0)
            logs.update(probe_logs(logits.numpy(), labels))
        for path, gradient in gradients.items():
            if gradient is not None and "moving" not in path:
                self.weights[path].assign_sub(RATE * gradient)
        return logs


def probe_logs(logits, labels):
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return {
        "probe_loss": -log_p[np.arange(len(labels)), labels].mean(),
        "probe_accuracy": (logits.argmax(axis=1) == labels).mean(),
    }


def assert_trained_alike(model, by_hand):
    for v in model.trainable_variables:
        # float32; the gradients go through two batch norms, which divide by
        # deviations of about 0.1.
        np.testing.assert_allclose(
            v, by_hand.weights[v.path], rtol=1e-4, atol=1e-5, err_msg=v.path
        )


@pytest.mark.parametrize("probe", [False, True])
def test_a_step_equals_one_by_hand(probe):
    model = tiny_model(
        num_classes=NUM_CLASSES if probe else None, compiling=EAGER
    )
    by_hand = ByHand(model)
    labels = LABELS if probe else None
    logs = model.train_on_batch(VIEWS, labels, return_dict=True)
    expected = by_hand.step(VIEWS, labels)
    assert logs == pytest.approx(expected, rel=1e-5)  # float32
    assert_trained_alike(model, by_hand)


def test_terms_that_layers_add_are_in_the_loss():
    model = tiny_model(
        encoder=tiny_encoder(kernel_regularizer=keras.regularizers.L2(0.05)),
        compiling=EAGER,
    )
    by_hand = ByHand(model)
    logs = model.train_on_batch(VIEWS, return_dict=True)
    assert logs == pytest.approx(by_hand.step(VIEWS, l2=0.05), rel=1e-5)
    assert_trained_alike(model, by_hand)


def test_logs_are_means_over_images():
    model = tiny_model(keras.optimizers.SGD(0.0), compiling=EAGER)
    start = ByHand(model)
    views = {key: value[:12] for key, value in VIEWS.items()}
    history = fit(model, views, epochs=1)  # batches of 8 and 4
    eight, four = (
        start.logs({key: value[part] for key, value in views.items()})
        for part in (slice(8), slice(8, 12))
    )
    for name, (value,) in history.items():
        expected = (8 * eight[name] + 4 * four[name]) / 12
        assert value == pytest.approx(expected, rel=1e-5), name  # float32


def test_evaluate_is_in_inference_mode():
    model = tiny_model(num_classes=NUM_CLASSES, compiling=EAGER)
    fit(model, VIEWS, LABELS, epochs=1)  # moves batch norm's statistics
    before = weights(model)
    logs = model.evaluate(
        VIEWS, LABELS, batch_size=16, verbose=0, return_dict=True
    )
    assert_equal(weights(model), before)
    by_hand = ByHand(model)
    h = by_hand.represent(np.concatenate(list(VIEWS.values())))
    z = by_hand.project(h)
    logits = model.linear_probe(h.numpy()).numpy()
    expected = {
        "loss": float(by_hand.loss(z)),
        **by_hand.metrics(z),
        **probe_logs(logits, np.concatenate([LABELS, LABELS])),
    }
    assert logs == pytest.approx(expected, rel=1e-4)  # float32


def test_evaluate_probes_the_images_themselves():
    model = tiny_model(
        augmentation=RandomGaussianNoise(0.3, seed=1),
        num_classes=NUM_CLASSES,
        compiling=EAGER,
    )
    logs = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    h = ByHand(model).represent(IMAGES).numpy()
    expected = probe_logs(model.linear_probe(h).numpy(), LABELS)
    found = {name: logs[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-4)  # float32


# --- Learning --------------------------------------------------------------


def test_loss_falls_and_every_weight_moves():
    brightness = keras.layers.RandomBrightness(0.1, seed=1)
    model = tiny_model(keras.optimizers.Adam(0.02), augmentation=brightness)
    before = [v.numpy() for v in model.trainable_variables]
    history = fit(model, IMAGES, epochs=15)  # 30 steps
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert (
        history["contrastive_accuracy"][-1] > history["contrastive_accuracy"][0]
    )
    paths = [v.path for v in model.trainable_variables]
    assert any(path.startswith("encoder/") for path in paths)
    assert any(path.startswith("head/") for path in paths)
    for v, old in zip(model.trainable_variables, before):
        assert np.abs(v.numpy() - old).max() > 1e-4, v.path


def test_a_collapse_shows_in_the_logs():
    model = tiny_model(
        encoder=keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Rescaling(0.0, offset=1.0),
                keras.layers.GlobalAveragePooling2D(),
            ]
        ),
        projection_head=ProjectionHead(kind="none"),
        compiling=EAGER,
    )
    logs = model.evaluate(IMAGES, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(np.log(31), rel=1e-5)  # float32
    assert logs["contrastive_entropy"] == pytest.approx(np.log(16), rel=1e-5)
    assert logs["contrastive_accuracy"] < 0.5


# --- What fit takes --------------------------------------------------------

IMAGE_FORMS = {
    "array and labels": lambda: (IMAGES, LABELS),
    "floats": lambda: (IMAGES.astype("float64"),),
    "dict with labels": lambda: ({"image": IMAGES, "label": LABELS},),
    "dataset": lambda: (dataset(IMAGES),),
    "dataset of tuples": lambda: (dataset((IMAGES, LABELS)),),
    "dataset of dicts": lambda: (dataset({"image": IMAGES, "label": LABELS}),),
    "PyDataset": lambda: (Batches(*halves(IMAGES)),),
    "PyDataset of tuples": lambda: (
        Batches(*zip(halves(IMAGES), halves(LABELS))),
    ),
}
VIEW_FORMS = {
    "dict": lambda: (VIEWS,),
    "dict and labels": lambda: (VIEWS, LABELS),
    "dataset of tuples": lambda: (dataset((VIEWS, LABELS)),),
    "PyDataset": lambda: (
        Batches(
            *(
                {"view_1": a, "view_2": b}
                for a, b in zip(*map(halves, VIEWS.values()))
            )
        ),
    ),
}


@pytest.mark.parametrize("form", IMAGE_FORMS)
def test_fit_takes_images(form, plain, tiny):
    history = fit(tiny(), *IMAGE_FORMS[form]())
    # float32: another form may be another graph.
    assert_equal(history, plain[0], rtol=1e-5)
    assert_equal(weights(tiny.model), plain[1], rtol=1e-4, atol=1e-6)


def test_fit_takes_a_generator(plain, tiny):
    def batches():
        while True:
            yield from zip(halves(IMAGES), halves(LABELS))

    history = tiny().fit(
        batches(), steps_per_epoch=2, epochs=2, shuffle=False, verbose=0
    )
    assert_equal(history.history, plain[0], rtol=1e-5)  # float32


@pytest.fixture(scope="module")
def plain_views(tiny):
    by_hand = ByHand(tiny())
    parts = [
        by_hand.step({key: halves(view)[i] for key, view in VIEWS.items()})
        for i in (0, 1)
    ]
    return {name: [(parts[0][name] + parts[1][name]) / 2] for name in parts[0]}


@pytest.mark.parametrize("form", VIEW_FORMS)
def test_fit_takes_views(form, plain_views, tiny):
    # The augmentation has nothing to do.
    history = fit(tiny(), *VIEW_FORMS[form](), epochs=1)
    assert_equal(history, plain_views, rtol=1e-4)  # float32, two steps


def test_views_need_no_augmentation(plain_views):
    model = tiny_model(augmentation=None)
    assert_equal(fit(model, VIEWS, epochs=1), plain_views, rtol=1e-4)


def test_validation_data(probed):
    history = fit(
        probed(),
        IMAGES,
        LABELS,
        epochs=1,
        validation_data=(IMAGES[:8], LABELS[:8]),
    )
    names = {
        "loss",
        "contrastive_accuracy",
        "contrastive_entropy",
        "probe_loss",
        "probe_accuracy",
    }
    assert set(history) == names | {f"val_{name}" for name in names}
    assert np.isfinite(list(history.values())).all()


@pytest.mark.parametrize(
    ("value_range", "dtype"),
    [
        ((0, 255), "uint8"),
        ((0, 255), "float32"),
        ((0, 65535), "uint16"),
        ((0, 1), "float32"),
        ((-1, 1), "float64"),
    ],
)
def test_gives_representations_of_images(value_range, dtype):
    low, high = value_range
    images = (IMAGES / 255 * (high - low) + low).astype(dtype)
    model = tiny_model(
        augmentation=RandomHorizontalFlip(value_range=value_range)
    )
    assert model.value_range == value_range
    scaled = (images.astype("float32") - low) / (high - low)
    expected = model.encoder(scaled)
    # float32
    np.testing.assert_allclose(model(images), expected, atol=1e-6)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, atol=1e-6
    )


def test_representations_of_every_form(tiny):
    model = tiny()
    expected = model.encoder(IMAGES.astype("float32") / 255)
    for data in (
        {"image": IMAGES, "label": LABELS},
        dataset((IMAGES, LABELS)),
        Batches(*halves(IMAGES)),
    ):
        result = model.predict(data, verbose=0)
        np.testing.assert_allclose(result, expected, atol=1e-6)  # float32
    np.testing.assert_allclose(model({"image": IMAGES}), expected, atol=1e-6)
    # Batch norm with the batch's statistics
    np.testing.assert_allclose(
        model(IMAGES, training=True),
        ByHand(model).represent(IMAGES, training=True),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    # The middle of the views' shape, and seven eighths of it where the views
    # are larger than 32 pixels.
    ("size", "image_size", "middle"),
    [(8, (12, 16), (12, 12)), (40, (64, 64), (56, 56))],
)
def test_images_of_another_size_are_brought_to_the_views(
    size, image_size, middle
):
    images = random_images(4, *image_size)
    model = tiny_model(
        augmentation=SimCLRAugmentation(size, size),
        encoder=tiny_encoder((size, size, 3)),
    )
    top, left = ((a - b) // 2 for a, b in zip(image_size, middle))
    cut = images[:, top : top + middle[0], left : left + middle[1]]
    resized = tf.image.resize(cut, (size, size), "bicubic")
    expected = model.encoder(tf.clip_by_value(resized, 0, 255) / 255)
    # float32; bicubic weights in another order
    np.testing.assert_allclose(model(images), expected, atol=1e-5)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, atol=1e-5
    )
    # Those of the views' size are left as they are.
    same = random_images(4, size, size)
    np.testing.assert_allclose(
        model(same), model.encoder(same.astype("float32") / 255), atol=1e-6
    )


def test_a_custom_augmentation_of_keras_layers():
    augmentation = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal", seed=1),
            keras.layers.RandomBrightness(0.2, seed=2),
        ]
    )
    model = tiny_model(augmentation=augmentation)
    assert model.value_range == (0, 255)
    before = weights(model.encoder)
    history = fit(model, IMAGES)
    assert np.isfinite(history["loss"]).all()
    assert not np.array_equal(weights(model.encoder)[0], before[0])


def test_an_encoder_that_is_built_by_its_first_batch():
    @keras.saving.register_keras_serializable(package="test")
    class Encoder(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv = keras.layers.Conv2D(4, 3)

        def call(self, images):
            return keras.ops.mean(self.conv(images), axis=(1, 2))

    model = tiny_model(encoder=Encoder(), num_classes=NUM_CLASSES)
    history = fit(model, IMAGES, LABELS)
    assert np.isfinite(history["loss"]).all()
    assert model.predict(IMAGES, verbose=0).shape == (16, 4)
    assert len(model.trainable_variables) == 2 + 5 + 2
    assert len(model.optimizer.variables) == 2  # SGD's steps and rate


@pytest.mark.parametrize("base", [keras.layers.Layer, keras.Model])
@pytest.mark.parametrize(
    "use",
    [
        lambda model: model(IMAGES),
        lambda model: model.predict(IMAGES, verbose=0),
        lambda model: fit(model, IMAGES, epochs=1),
    ],
    ids=["call", "predict", "fit"],
)
def test_a_subclassed_encoder_without_output_shape(base, use, recwarn):
    class Encoder(base):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3)
            self.norm = keras.layers.BatchNormalization()
            self.flat = keras.layers.Flatten()  # tells the size it is built on

        def call(self, images, training=None):
            h = self.norm(self.conv(images), training=training)
            return self.flat(h[:, ::2, ::2])

    model = tiny_model(
        encoder=Encoder(), augmentation=SimCLRAugmentation(4, 4, blur=False)
    )
    use(model)  # on images of 8x8
    assert len(model.trainable_variables) == 4 + 5
    assert model(IMAGES).shape == (16, 4)
    assert not [w for w in recwarn if "unbuilt state" in str(w.message)]


def test_two_views_are_two_draws(tiny):
    model = tiny()
    view_1, view_2 = model.make_views(tf.constant(IMAGES))
    flipped = IMAGES[:, :, ::-1].astype("float32")
    for view in (view_1, view_2):
        is_flipped = (view.numpy() == flipped).all(axis=(1, 2, 3))
        as_is = (view.numpy() == IMAGES).all(axis=(1, 2, 3))
        assert (is_flipped ^ as_is).all()
        assert 0 < is_flipped.sum() < 16
    assert not np.array_equal(view_1, view_2)


# --- The probe -------------------------------------------------------------


def test_the_probe_leaves_encoder_and_loss_alone(plain, tiny, probed):
    tiny(), probed()
    for part in ("encoder", "projection_head"):
        start = getattr(tiny.model, part).get_weights()
        getattr(probed.model, part).set_weights(start)
    before = probed.model.linear_probe.kernel.numpy()
    history = fit(probed.model, IMAGES, LABELS)
    assert set(history) - set(plain[0]) == {"probe_loss", "probe_accuracy"}
    assert_equal({name: history[name] for name in plain[0]}, plain[0])
    paths = [v.path for v in probed.model.weights]
    assert [p.split("/")[0] for p in paths[-2:]] == ["linear_probe"] * 2
    assert_equal(weights(probed.model)[:-2], plain[1])
    assert not np.array_equal(probed.model.linear_probe.kernel, before)


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


def test_the_probe_learns():
    model = tiny_model(keras.optimizers.Adam(0.1), num_classes=NUM_CLASSES)
    images = np.zeros((16, 8, 8, 3), "uint8")
    images[np.arange(16), :, :, LABELS % 3] = 255  # colors tell the classes
    images[LABELS == 3] = 255
    views = {"view_1": images, "view_2": images}
    history = fit(model, views, LABELS, epochs=20)
    assert history["probe_accuracy"][-1] == 1


# --- Everything that fit does ----------------------------------------------


@pytest.mark.parametrize(
    "compiling",
    [{"steps_per_execution": 2}, {"run_eagerly": True}, {"jit_compile": True}],
)
def test_modes_equal_plain(compiling, plain):
    model = tiny_model(compiling=compiling)
    history = fit(model, IMAGES)
    # float32 in another order of operations, over four steps; the draws are
    # the same by design.
    assert_equal(history, plain[0], rtol=1e-4)
    assert_equal(weights(model), plain[1], rtol=1e-3, atol=1e-5)


def test_jit_compile_evaluates_and_predicts_as_plain(probed):
    compiled = tiny_model(
        num_classes=NUM_CLASSES, compiling={"jit_compile": True}
    )
    results = []
    for model in (probed(), compiled):
        logs = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
        results.append([*logs.values(), model.predict(IMAGES, verbose=0)])
    assert_equal(*results, rtol=1e-4, atol=1e-6)  # float32


@pytest.mark.parametrize("policy", checks.MIXED_POLICIES)
def test_mixed_precision(policy, tiny):
    with checks.dtype_policy(policy):
        model = tiny_model()
    assert model.compute_loss(VIEWS).dtype == "float32"
    # bfloat16 has 8 bits, and the temperature doubles the cosines.
    assert float(model.compute_loss(VIEWS)) == pytest.approx(
        float(tiny().compute_loss(VIEWS)), rel=0.02
    )

    # Long enough for the scale, 2^15 at first, to come down to what float16
    # can hold.
    history = fit(model, IMAGES, epochs=10)
    assert np.isfinite(history["loss"]).all()
    optimizer = model.optimizer
    if policy == "mixed_float16":
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        optimizer = optimizer.inner_optimizer
    assert type(optimizer) is keras.optimizers.SGD
    assert int(optimizer.iterations) >= 5
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert np.isfinite(
        np.concatenate([w.ravel() for w in weights(model)])
    ).all()


def test_images_are_scaled_before_they_are_rounded():
    images = IMAGES.astype("uint16") * 257  # up to 65535, float16 to 65504
    with checks.dtype_policy("mixed_float16"):
        model = tiny_model(
            augmentation=RandomHorizontalFlip(value_range=(0, 65535))
        )
    result = checks.to_numpy(model(images))
    expected = ByHand(model).represent(images / 257)
    # float16 has 11 bits.
    np.testing.assert_allclose(result, expected, rtol=5e-3, atol=2e-3)


def test_callbacks(tmp_path, tiny):
    path = tmp_path / "model.keras"
    model = tiny()
    history = fit(
        model,
        IMAGES,
        callbacks=[
            keras.callbacks.ModelCheckpoint(path, monitor="loss"),
            keras.callbacks.CSVLogger(tmp_path / "history.csv"),
        ],
    )
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    logged = {name: [float(row[name]) for row in rows] for name in history}
    assert_equal(logged, history, rtol=1e-6)  # as text
    loaded = keras.saving.load_model(path)
    assert_equal(weights(loaded), weights(model))


def test_metrics_given_to_compile_see_the_projections():
    def distance(z_1, z_2):
        return keras.ops.sum((z_1 - z_2) ** 2, axis=-1)

    model = tiny_model(compiling={"metrics": [distance], **EAGER})
    by_hand = ByHand(model)
    h = by_hand.represent(np.concatenate(list(VIEWS.values())), training=True)
    z_1, z_2 = np.split(by_hand.project(h, training=True), 2)
    logs = model.train_on_batch(VIEWS, return_dict=True)
    expected = ((z_1 - z_2) ** 2).sum(axis=1).mean()
    assert logs["distance"] == pytest.approx(expected, rel=1e-4)  # float32


def test_the_loss_may_be_any_of_two_projections():
    def squares(z_1, z_2):
        return keras.ops.mean((z_1 - z_2) ** 2, axis=-1)

    model = tiny_model()
    model.compile("sgd", squares, run_eagerly=True)
    logs = model.train_on_batch(
        {"view_1": IMAGES, "view_2": IMAGES}, return_dict=True
    )
    assert logs["loss"] == pytest.approx(0, abs=1e-6)  # float32
    assert model.train_on_batch(VIEWS, return_dict=True)["loss"] > 0


# --- Saving and resuming ---------------------------------------------------


def resumable_model():
    """Every kind of state: velocities, a schedule, statistics, draws."""
    return tiny_model(
        LARS(WarmupCosineDecay(0.5, 6, 1), trust_coefficient=0.1),
        augmentation=keras.Sequential(
            [RandomHorizontalFlip(seed=3), RandomGaussianNoise(seed=4)]
        ),
        num_classes=NUM_CLASSES,
    )


LABELLED = dataset((IMAGES, LABELS))


@pytest.fixture(scope="module")
def resumable():
    return Rewound(resumable_model())


@pytest.fixture(scope="module")
def uninterrupted(resumable):
    """History of three epochs, and the weights in the end."""
    model = resumable()
    return fit(model, LABELLED, epochs=3), weights(model)


def assert_is_the_rest(history, model, uninterrupted):
    """Of a run that was interrupted after one epoch."""
    whole, end = uninterrupted
    assert_equal(history, {name: logs[1:] for name, logs in whole.items()})
    assert_equal(weights(model), end)


def test_a_loaded_model_goes_on(tmp_path, resumable, uninterrupted):
    model = resumable()
    fit(model, LABELLED, epochs=1)
    loaded = checks.save_and_load(model, tmp_path)
    assert type(loaded) is SimCLRModel
    assert loaded.loss.get_config() == model.loss.get_config()
    assert float(loaded.loss.temperature) == TEMPERATURE
    np.testing.assert_array_equal(
        loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0)
    )
    rest = fit(loaded, LABELLED, epochs=2)
    assert_is_the_rest(rest, loaded, uninterrupted)


def test_loaded_weights_go_on(tmp_path, resumable, uninterrupted):
    model = resumable()
    fit(model, LABELLED, epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    again = resumable_model()
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "model.weights.h5")
    rest = fit(again, LABELLED, epochs=2)
    assert_is_the_rest(rest, again, uninterrupted)


def test_a_run_that_was_interrupted_goes_on(tmp_path, resumable, uninterrupted):
    def interrupt(epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    interruption = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(resumable(), LABELLED, callbacks=[backup(), interruption])
    resumed = resumable_model()
    rest = fit(resumed, LABELLED, epochs=3, callbacks=[backup()])
    assert_is_the_rest(rest, resumed, uninterrupted)


def test_configuration():
    arguments = {
        "encoder": tiny_encoder(),
        "projection_head": ProjectionHead(4),
        "augmentation": RandomHorizontalFlip(value_range=(0, 1), seed=1),
        "num_classes": 3,
        "value_range": (0, 1),
    }
    model = SimCLRModel(**arguments, name="a_name")
    assert model.get_config()["name"] == "a_name"
    checks.check_config(model, arguments)


def test_defaults():
    model = SimCLRModel(tiny_encoder())
    assert type(model.projection_head) is ProjectionHead
    assert model.projection_head.output_dim == 128
    assert model.value_range == (0, 255)
    assert model.augmentation is None
    assert not hasattr(model, "linear_probe")


# --- Errors ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("encoder", "resnet50", TypeError),
        ("projection_head", 128, TypeError),
        ("augmentation", abs, TypeError),
        ("num_classes", 0, ValueError),
        ("num_classes", -3, ValueError),
        ("value_range", (1, 0), ValueError),
    ],
)
def test_bad_arguments(name, value, error):
    def make(**kwargs):
        return SimCLRModel(**{"encoder": tiny_encoder(), **kwargs})

    checks.check_rejects(make, name, value, error)


def test_value_range_must_be_the_augmentations():
    with pytest.raises(ValueError, match="must be that of the augm") as error:
        SimCLRModel(
            tiny_encoder(),
            augmentation=RandomHorizontalFlip(value_range=(0, 255)),
            value_range=(0, 1),
        )
    assert "Received: value_range=(0, 1)" in str(error.value)
    assert "has (0, 255)" in str(error.value)


def headless(layer):
    """Two encoders whose output is not (B, F): a model, and a layer."""
    if layer:
        return keras.layers.Conv2D(4, 3)
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])


def test_encoder_must_give_representations():
    message = r"must be representations \(B, F\).* \(None, 6, 6, 4\)"
    with pytest.raises(ValueError, match=message) as error:
        SimCLRModel(headless(layer=False))
    assert "keras.layers.GlobalAveragePooling2D()" in str(error.value)
    assert "encoders.BackboneEncoder(encoder)" in str(error.value)
    model = tiny_model(encoder=headless(layer=True))
    with pytest.raises(ValueError, match=r"GlobalAveragePooling2D\(\)"):
        fit(model, IMAGES)


@pytest.mark.parametrize("structure", [list, dict])
def test_encoder_must_have_one_output(structure):
    inputs = keras.Input((8, 8, 3))
    h = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = [h, keras.layers.Dense(4)(h)]
    if structure is dict:
        outputs = dict(zip("ab", outputs))
    with pytest.raises(ValueError, match=r"must be representations \(B, F\)"):
        SimCLRModel(keras.Model(inputs, outputs))


SINGLE = "at least two images in a batch"


@pytest.mark.parametrize(
    ("data", "batch_size"),
    [
        ((IMAGES[:1],), 8),
        ((IMAGES[:9],), 8),
        (({"image": IMAGES[:9], "label": LABELS[:9]},), 8),
        (({key: views[:9] for key, views in VIEWS.items()},), 8),
    ],
)
def test_arrays_with_one_image_over(data, batch_size, tiny):
    with pytest.raises(ValueError, match=f"{SINGLE}.*which leaves one over"):
        fit(tiny(), *data, batch_size=batch_size)


def test_batches_of_one_image():
    with pytest.raises(ValueError, match=SINGLE):
        tiny_model(compiling=EAGER).train_on_batch(IMAGES[:1])
    always_one = tf.data.Dataset.from_tensor_slices(IMAGES).batch(
        1, drop_remainder=True
    )
    with pytest.raises(ValueError, match=SINGLE):
        fit(tiny_model(), always_one)


def test_a_last_batch_of_one_image(tiny):
    with pytest.raises(tf.errors.InvalidArgumentError, match=SINGLE):
        fit(tiny(), dataset(IMAGES[:9]))


def second_batch(image=None, label=None):
    """Two batches, of which `fit` can see the first before it trains."""
    images, labels = IMAGES.astype("float32"), LABELS.copy()
    if image is not None:
        images[12, 3, 4, 1] = image
    if label is not None:
        labels[12] = label
    return dataset((images, labels))


OUTSIDE = r"Images must be numbers within value_range=\(0, 255\)"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": 300.0}, OUTSIDE),
        ({"image": -1.0}, OUTSIDE),
        ({"image": np.nan}, OUTSIDE),
        ({"image": np.inf}, OUTSIDE),
        ({"label": 4}, r"Labels must be integers in \[0, num_classes\)"),
        ({"label": -1}, "num_classes=4"),
    ],
)
def test_values_that_a_dataset_brings_later(wrong, message, probed):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        fit(probed(), second_batch(**wrong), epochs=1)
    # Nothing is learned from them.
    assert all(np.isfinite(array).all() for array in weights(probed.model))


def test_values_that_a_generator_brings(probed):
    generator = (batch for batch in list(second_batch(np.nan)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=OUTSIDE):
        probed().fit(generator, shuffle=False, verbose=0)


def test_values_that_evaluate_is_given(probed):
    with pytest.raises(tf.errors.InvalidArgumentError, match=OUTSIDE):
        probed().evaluate(second_batch(300.0), verbose=0)


@pytest.mark.parametrize("value", [300.0, -1.0, np.nan])
def test_values_of_arrays(value, probed):
    images = IMAGES.astype("float32")
    images[12, 3, 4, 1] = value
    with pytest.raises(ValueError, match=f"{OUTSIDE}.*Found values from"):
        fit(probed(), images, LABELS)


def test_labels_of_arrays(probed):
    with pytest.raises(ValueError, match="Found labels from 1 to 4"):
        fit(probed(), IMAGES, LABELS + 1)


def test_scaled_images_are_warned_of(tiny):
    message = r"floats that lie in \[0, 1\], but value_range is \(0, 255\)"
    with pytest.warns(UserWarning, match=message) as caught:
        tiny().fit(IMAGES / 255, batch_size=8, verbose=0)
    (warning,) = [w for w in caught if "value_range" in str(w.message)]
    assert warning.filename == __file__  # the line that called `fit`


def test_labels_are_missing(probed):
    with pytest.raises(ValueError, match="num_classes=4 trains a linear probe"):
        fit(probed(), IMAGES)


def test_views_of_two_shapes(tiny):
    views = {"view_1": IMAGES, "view_2": random_images(width=6)}
    message = r"view_1.shape=\(.*8, 8, 3\), view_2.shape=\(.*8, 6, 3\)"
    with pytest.raises(
        ValueError, match=f"must have the same shape.*{message}"
    ):
        fit(tiny(), views)


def test_two_arrays_are_not_two_views(tiny):
    with pytest.raises(ValueError, match="Received 2 arrays as images"):
        fit(tiny(), [IMAGES, IMAGES])


def test_images_without_an_augmentation():
    with pytest.raises(ValueError, match=r"pass `augmentation=SimCLRAugmen"):
        fit(tiny_model(augmentation=None), IMAGES)


def test_sample_weight(tiny):
    with pytest.raises(ValueError, match="takes no `sample_weight`"):
        fit(tiny(), IMAGES, LABELS, sample_weight=np.ones(16))


# --- Draws in training and evaluation ---------------------------------------


def noisy_model(**kwargs):
    return tiny_model(augmentation=RandomGaussianNoise(seed=7), **kwargs)


def test_evaluation_draws_the_same_views_each_time():
    model = noisy_model()
    losses = [model.evaluate(IMAGES, batch_size=8, verbose=0) for _ in range(2)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("size", [40, 48])
def test_images_whose_size_is_not_known_beforehand(size):
    augmentation = SimCLRAugmentation(40, 40)
    model = tiny_model(
        encoder=tiny_encoder((40, 40, 3)), augmentation=augmentation
    )
    images = random_images(height=size, width=size)
    unknown = tf.TensorSpec((None, None, None, 3), tf.uint8)
    represent = tf.function(model, input_signature=[unknown])
    # float32 in a graph and not.
    np.testing.assert_allclose(represent(images), model(images), atol=1e-6)


@pytest.mark.parametrize("compiling", [{}, EAGER])
def test_validation_leaves_the_training_as_it_is(compiling):
    alone = noisy_model(compiling=compiling)
    watched = noisy_model(compiling=compiling)
    fit(alone, IMAGES)
    fit(watched, IMAGES, validation_data=(IMAGES[:8],))
    for a, b in zip(alone.weights, watched.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_validation_data_is_checked_before_the_training():
    model = noisy_model()
    with pytest.raises(ValueError, match="single one"):
        fit(model, IMAGES, validation_data=(IMAGES[:9],))
    with pytest.raises(ValueError, match="value_range"):
        fit(model, IMAGES, validation_data=(IMAGES[:8] * np.float32(9),))
    with pytest.raises(ValueError, match=r"single one.*Received 9 images"):
        # 25 images: 16 to train on, and 9 in batches of 8.
        fit(
            model,
            np.resize(IMAGES, (25, *IMAGES.shape[1:])),
            validation_split=0.36,
        )
    assert int(model.optimizer.iterations) == 0


def test_evaluate_checks_what_it_is_given():
    model = noisy_model()
    with pytest.raises(ValueError, match="single one"):
        model.evaluate(IMAGES[:9], batch_size=8, verbose=0)
    with pytest.raises(ValueError, match="value_range"):
        model.evaluate(IMAGES * np.float32(9), verbose=0)


def test_metrics_of_compile_under_a_strategy():
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = noisy_model(
            compiling={"metrics": [keras.metrics.MeanSquaredError(name="mse")]}
        )
    history = fit(model, IMAGES, epochs=1)
    assert np.isfinite(history["mse"]).all()
