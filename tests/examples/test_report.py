import numpy as np
import pytest
import report

import simclr_keras


@pytest.mark.parametrize(
    ("dtype", "value_range"),
    [
        ("uint8", (0, 255)),
        ("uint16", (0, 65535)),
        ("float32", (0, 16)),
        ("float32", (-1, 1)),
    ],
)
@pytest.mark.parametrize("side", [8, 40])
def test_pixels_in_0_to_1(dtype, value_range, side):
    low, high = value_range
    images = np.random.default_rng(0).uniform(low, high, (4, side, side, 3))
    images = images.astype(dtype)
    found = report.EvaluationImages(
        simclr_keras.data.from_arrays(images, value_range=value_range).train
    ).features(report.pixel_model((side, side, 3), value_range))
    pixels = (images.astype("float64") - low) / (high - low)
    if side == 8:
        np.testing.assert_allclose(found, pixels.reshape(4, -1), atol=1e-6)
    else:  # Made smaller.
        assert found.shape == (4, 32 * 32 * 3)
        assert 0 <= found.min() < 0.2
        assert 0.8 < found.max() <= 1
        assert found.mean() == pytest.approx(pixels.mean(), abs=0.01)
