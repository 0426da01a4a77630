"""The operators of one image, by NumPy and `tf.image`."""

import numpy as np
import tensorflow as tf


def blur_loops(image, sigma, kernel_size):
    """The convolution, by its definition and in float64."""
    reach = kernel_size // 2
    taps = np.arange(-reach, reach + 1)
    kernel = np.exp(-(taps**2) / (2.0 * float(sigma) ** 2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    rows, columns, _ = image.shape
    result = np.zeros(image.shape)
    for y in range(rows):
        for x in range(columns):
            for i in taps:
                for j in taps:
                    if 0 <= y + i < rows and 0 <= x + j < columns:
                        weight = kernel[i + reach, j + reach]
                        result[y, x] += weight * image[y + i, x + j]
    return result


def cut_and_resize(image, top, left, height, width, size, method):
    box = image[top : top + height, left : left + width]
    return tf.image.resize(box, size, method=method)


def jitter_image(image, brightness, contrast, saturation, hue, order, additive):
    """The four operations one by one, each followed by a clip."""
    operations = {
        0: lambda x: x + brightness if additive else x * brightness,
        1: lambda x: tf.image.adjust_contrast(x, contrast),
        2: lambda x: tf.image.adjust_saturation(x, saturation),
        3: lambda x: tf.image.adjust_hue(x, hue),
    }
    for operation in order:
        image = tf.clip_by_value(operations[int(operation)](image), 0, 1)
    return np.array(image)
