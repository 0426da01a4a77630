"""Every argument of everything public, with every odd value.

What hypothesis draws is a sample; these are few enough to be tried all.
"""

import itertools

import keras
import numpy as np
import pytest

import simclr_keras
from simclr_keras import (
    augmentation,
    data,
    encoders,
    evaluation,
    losses,
    metrics,
    plots,
)
from tests.reliability.fuzz import properties

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]

Z = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
LABELS = np.arange(6) % 2
IMAGES = np.zeros((6, 2, 2, 3), "uint8")
SETS = (Z[0], LABELS, Z[1], LABELS)
NUMBERS_OF_A_CROP = {
    **{"height": 2, "width": 3, "area_range": (0.1, 1)},
    **{"aspect_ratio_range": (0.5, 2), "interpolation": "nearest"},
}
RANGE = {"value_range": (0, 1)}
OF_LAYER = {**RANGE, "seed": 1}
# What is called, and its arguments at values that are right.
CALLS = [
    (augmentation.RandomResizedCrop, {**NUMBERS_OF_A_CROP, **OF_LAYER}),
    *(
        (cls, {"probability": 0.5, **OF_LAYER})
        for cls in (
            augmentation.RandomHorizontalFlip,
            augmentation.RandomGrayscale,
            augmentation.RandomSobel,
        )
    ),
    (augmentation.RandomRotation, OF_LAYER),
    (augmentation.RandomCutout, {"size": 1, "fill": 1, "probability": 1}),
    (augmentation.RandomGaussianNoise, {"stddev": 1, "probability": 1}),
    (
        augmentation.RandomGaussianBlur,
        {"sigma_range": (1, 2), "kernel_size": 3, "probability": 1},
    ),
    (
        augmentation.RandomColorJitter,
        {
            **{"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.1},
            **{"probability": 1, "additive_brightness": True},
        },
    ),
    (
        augmentation.CenterCropAndResize,
        {
            **{"height": 2, "width": 3, "crop_proportion": 1},
            **{"interpolation": "nearest", "only_other_sizes": True, **RANGE},
        },
    ),
    (
        augmentation.SimCLRAugmentation,
        {
            **NUMBERS_OF_A_CROP,
            **{"strength": 1, "blur": True, "flip": True},
            **{"jitter_probability": 1, "grayscale_probability": 1},
            **{"blur_probability": 1, "evaluation_size": 3, **OF_LAYER},
        },
    ),
    (
        losses.NTXentLoss,
        {
            **{"temperature": 1, "block_size": None, "decoupled": True},
            **{"positive_weighting": 1, "normalize": True},
        },
    ),
    (losses.SupConLoss, {"temperature": 1, "block_size": 3}),
    (
        losses.HardNegativeLoss,
        {"temperature": 1, "concentration": 1, "prior": 0.5, "block_size": 3},
    ),
    (losses.NTLogisticLoss, {"temperature": 1, "semi_hard": True}),
    (losses.MarginTripletLoss, {"margin": 1, "semi_hard": True}),
    (losses.LearnedTemperature, {"initial": 1, "minimum": 1, "maximum": 1}),
    (metrics.ContrastiveEntropy, {"temperature": 1}),
    (
        simclr_keras.LARS,
        {
            **{"learning_rate": 1, "momentum": 1, "weight_decay": 1},
            **{"trust_coefficient": 1, "nesterov": True, "exclude": []},
            **{"exclude_from_decay": [], "exclude_from_trust_ratio": []},
        },
    ),
    (
        simclr_keras.WarmupCosineDecay,
        {"peak_learning_rate": 1, "total_steps": 9, "warmup_steps": 1},
    ),
    (
        simclr_keras.scaled_learning_rate,
        {"base": 1, "batch_size": 8, "scaling": "sqrt"},
    ),
    (
        simclr_keras.ProjectionHead,
        {
            **{"output_dim": 2, "num_layers": 2, "hidden_dim": 2},
            **{"kind": "linear", "synchronized": None},
        },
    ),
    (
        lambda **kwargs: encoders.BackboneEncoder(
            **{"backbone": keras.layers.Flatten(), **kwargs}
        ),
        {
            **{"backbone": keras.layers.Flatten(), "endpoint": None},
            **{"pooling": "avg", "input_scaling": "tf"},
        },
    ),
    (
        evaluation.nearest_neighbours,
        {"bank": Z[0], "queries": Z[1], "k": 2, "batch_size": 3},
    ),
    (
        evaluation.knn_accuracy,
        {
            **{"train_features": Z[0], "train_labels": LABELS},
            **{"test_features": Z[1], "test_labels": LABELS},
            **{"k": 2, "temperature": 1, "batch_size": 3, "top": 1},
        },
    ),
    (
        evaluation.knn_predict,
        {
            **{"train_features": Z[0], "train_labels": LABELS},
            **{"test_features": Z[1], "k": 2, "temperature": 1},
            **{"batch_size": 3, "top": 1},
        },
    ),
    (evaluation.rank_me, {"features": Z[0], "batch_size": 3}),
    (evaluation.feature_std, {"features": Z[0], "batch_size": 3}),
    (evaluation.uniformity, {"z": Z[0], "t": 2, "batch_size": 3}),
    (
        evaluation.alignment,
        {"z_i": Z[0], "z_j": Z[1], "alpha": 2, "batch_size": 3},
    ),
    (
        evaluation.contrastive_accuracy,
        {"z_i": Z[0], "z_j": Z[1], "batch_size": 3},
    ),
    (evaluation.pair_similarity, {"z_i": Z[0], "z_j": Z[1], "batch_size": 3}),
    (
        evaluation.class_balanced_subset,
        {"labels": LABELS, "num_per_class": 1, "seed": 0},
    ),
    (
        lambda **kwargs: evaluation.linear_evaluation(
            **dict(zip(("train_features", "train_labels"), SETS)),
            **dict(zip(("test_features", "test_labels"), SETS)),
            **kwargs,
        ),
        {
            **{"l2_values": [1], "few_labels_l2": 1, "max_iterations": 2},
            **{"validation_fraction": 0.5, "scale": True, "seed": 0},
        },
    ),
    (
        lambda **kwargs: evaluation.label_efficiency(*SETS, **kwargs),
        {
            **{"labels_per_class": [1], "num_draws": 1, "k": 1},
            **{"temperature": 1, "l2_values": [1], "max_iterations": 2},
            "seed": 0,
        },
    ),
    (
        data.from_arrays,
        {
            **{"images": IMAGES, "labels": LABELS, "test_images": IMAGES},
            **{"test_labels": LABELS, "value_range": (0, 255)},
            "class_names": ("a", "b"),
        },
    ),
    (
        data.training_dataset,
        {
            **{"images": data.from_arrays(IMAGES).train, "batch_size": 2},
            **{"seed": 0, "initial_epoch": 0, "initial_step": 0},
            **{"crop": None, "num_parallel_calls": None},
        },
    ),
    (
        plots.plot_views,
        {"images": IMAGES, "views": [IMAGES], "value_range": (0, 255)},
    ),
    (plots.plot_history, {"history": {"loss": [1.0]}}),
    (
        plots.plot_representations,
        {"features": Z[0], "labels": LABELS, "class_names": ["a", "b"]},
    ),
    (
        plots.plot_confusion,
        {"labels": LABELS, "predicted": LABELS, "class_names": ["a", "b"]},
    ),
]
# As much memory or time as is asked for, which is no mistake to be told of.
COUNTS = (
    *("num_draws", "output_dim", "hidden_dim", "num_layers"),
    *("height", "width"),
)


def use(made):
    """What was accepted must be of use: finite for ordinary input."""
    if isinstance(made, keras.losses.Loss):
        kwargs = {"labels": LABELS} if made.uses_labels else {}
        properties.check_finite(made(*Z, **kwargs))
    elif isinstance(made, augmentation.Augmentation):
        low, high = made.value_range
        images = low + (high - low) * np.random.default_rng(0).random(
            (3, 4, 4, 3)
        )
        views = properties.check_finite(made(images.astype("float32")))
        slack = 1e-5 * max(abs(low), abs(high))
        assert low - slack <= views.min()
        assert views.max() <= high + slack
    elif isinstance(made, keras.optimizers.schedules.LearningRateSchedule):
        for step in (0, 1, 2, 10, 10**9):
            properties.check_finite(made(step))
    elif isinstance(made, metrics.ContrastiveEntropy):
        made.update_state(*Z)
        properties.check_finite(made.result())
    elif isinstance(made, (float, np.ndarray)):
        assert np.isfinite(made).all()


def cases():
    for function, kwargs in CALLS:
        for name in kwargs:
            label = getattr(function, "__name__", "function")
            yield pytest.param(function, kwargs, name, id=f"{label}-{name}")


@pytest.mark.parametrize(("function", "kwargs", "name"), cases())
def test_every_odd_value(function, kwargs, name):
    assert properties.attempt(function, **kwargs) is not properties.Refused
    failures = []
    for value in itertools.chain(properties.ODD, [Z, IMAGES, LABELS, [Z, 1]]):
        if name in COUNTS and isinstance(value, (int, float)) and value > 100:
            continue
        try:
            made = properties.attempt(function, **{**kwargs, name: value})
            use(made)
        except Exception as error:
            failures.append(f"{name}={value!r}: {type(error)} {error}")
    assert not failures, "\n".join(failures)
