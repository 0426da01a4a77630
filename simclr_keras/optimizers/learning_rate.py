"""The learning rate: scaled with the batch size, decayed over the steps."""

import math

import keras
from keras import ops

from simclr_keras.argument_checks import check_number


@keras.saving.register_keras_serializable(package="simclr_keras")
class WarmupCosineDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then half a cosine down to 0.

    With W the number of warm-up steps, T the total number of steps and P the
    peak learning rate,

        step < W:       P * step / W
        W <= step < T:  P * (1 + cos(pi * (step - W) / (T - W))) / 2
        T <= step:      0

    Step 0 has a learning rate of 0 if there is a warm-up, and P otherwise.

    Args:
        peak_learning_rate: Number >= 0, P; see `scaled_learning_rate`.
        total_steps: Positive integer T, including the warm-up.
        warmup_steps: Integer W in [0, T]. Defaults to 0; the paper warms up
            for 10 epochs.
        name: Name of the schedule.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import simclr_keras
        >>> schedule = simclr_keras.WarmupCosineDecay(
        ...     4.8, total_steps=1000, warmup_steps=100
        ... )
        >>> [round(float(schedule(step)), 2) for step in (0, 50, 100, 550)]
        [0.0, 2.4, 4.8, 2.4]

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 2.2.
    """

    def __init__(
        self,
        peak_learning_rate,
        total_steps,
        warmup_steps=0,
        name="warmup_cosine_decay",
    ):
        super().__init__()
        check_number(
            "peak_learning_rate",
            peak_learning_rate,
            "be a number >= 0",
            lambda x: x >= 0,
        )
        check_number("total_steps", total_steps, "be positive", lambda x: x > 0)
        check_number(
            "warmup_steps", warmup_steps, "be a number >= 0", lambda x: x >= 0
        )
        if warmup_steps > total_steps:
            raise ValueError(
                "`warmup_steps` must lie in [0, total_steps], since the total "
                f"includes it. Received: warmup_steps={warmup_steps!r}, "
                f"total_steps={total_steps!r}."
            )
        self.peak_learning_rate = peak_learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.name = name

    def __call__(self, step):
        step = ops.cast(step, "float32")
        # As floats: a tensor takes no integer of more than 64 bits.
        warmup, total = float(self.warmup_steps), float(self.total_steps)
        rise = step / max(warmup, 1.0)
        if warmup == total:
            fall = 0.0
        else:
            progress = ops.clip((step - warmup) / (total - warmup), 0.0, 1.0)
            fall = (1.0 + ops.cos(math.pi * progress)) / 2
        return self.peak_learning_rate * ops.where(step < warmup, rise, fall)

    def get_config(self):
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "name": self.name,
        }


def scaled_learning_rate(base, batch_size, scaling="linear"):
    """Scales a learning rate with the batch size.

    Args:
        base: Number >= 0: with linear scaling the learning rate for a batch
            of 256 (0.3 in the paper), with square-root scaling that for a
            batch of 1 (0.075 in the paper, which is the same at 4096).
        batch_size: Positive integer, number of images in the global batch.
        scaling: `"linear"`, base * batch_size / 256, or `"sqrt"`,
            base * sqrt(batch_size), better for small batches and few epochs.
            Defaults to `"linear"`.

    Returns:
        Float.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import simclr_keras
        >>> simclr_keras.scaled_learning_rate(0.3, 4096)
        4.8
        >>> simclr_keras.scaled_learning_rate(0.075, 4096, scaling="sqrt")
        4.8

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/2002.05709), Section 2.2
          and Table B.1.
    """
    check_number("base", base, "be a number >= 0", lambda x: x >= 0)
    check_number("batch_size", batch_size, "be positive", lambda x: x > 0)
    if isinstance(scaling, str) and scaling == "linear":
        return float(base * batch_size / 256)
    if isinstance(scaling, str) and scaling == "sqrt":
        return float(base * math.sqrt(batch_size))
    raise ValueError(
        f'`scaling` must be "linear" or "sqrt". Received: scaling={scaling!r}.'
    )
