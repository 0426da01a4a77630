"""Ways to run a step: eager, looped, by XLA, in half precision."""

import keras
import numpy as np
import pytest

from simclr_keras.augmentation import RandomHorizontalFlip
from tests import checks
from tests.model.by_hand import ByHand
from tests.model.models import (
    IMAGES,
    LABELS,
    NUM_CLASSES,
    VIEWS,
    assert_equal,
    fit,
    tiny_model,
    weights,
)


@pytest.fixture(scope="module")
def plain():
    """What a model with a probe learns, evaluates and predicts in graphs."""
    return results({})


def results(compiling):
    model = tiny_model(num_classes=NUM_CLASSES, compiling=compiling)
    history = fit(model, IMAGES, LABELS)
    trained = weights(model)
    logs = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    return history, trained, logs, model.predict(IMAGES, verbose=0)


@pytest.mark.parametrize(
    "compiling",
    [
        pytest.param({"steps_per_execution": 2}, marks=pytest.mark.slow),
        {"run_eagerly": True},
        {"jit_compile": True},
    ],
)
def test_modes_equal_plain(compiling, plain):
    history, trained, logs, representations = results(compiling)
    # float32 in another order of operations, over four steps; the draws are
    # the same by design.
    assert_equal(history, plain[0], rtol=1e-4)
    assert_equal(trained, plain[1], rtol=1e-3, atol=1e-5)
    assert_equal(logs, plain[2], rtol=1e-3)
    np.testing.assert_allclose(representations, plain[3], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("policy", checks.MIXED_POLICIES)
def test_mixed_precision(policy):
    with checks.dtype_policy(policy):
        model = tiny_model()
    loss = model.compute_loss(VIEWS)
    assert loss.dtype == "float32"
    # bfloat16 has 8 bits, and the temperature doubles the cosines.
    assert float(loss) == pytest.approx(
        float(tiny_model().compute_loss(VIEWS)), rel=0.02
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
