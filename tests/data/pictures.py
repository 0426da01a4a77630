"""Images for the tests of files."""

import numpy as np
from PIL import Image


def picture(height=24, width=32, seed=0):
    """A smooth colour image, so that JPEG keeps it nearly as it is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    a, b = rng.uniform(1, 3, (2, 3))
    waves = np.sin(a * x[..., None] + b * y[..., None] + rng.uniform(0, 6, 3))
    return Image.fromarray(np.uint8(127.5 + 127 * waves))
