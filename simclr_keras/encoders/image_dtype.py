"""The dtype of the images that an encoder takes."""

import keras
from keras import ops


def check_image_dtype(images):
    """Raises a `TypeError` if images are neither floats nor uint8.

    Args:
        images: What an encoder is called with: a tensor or a structure of
            tensors, symbolic ones too. What has no dtype is not checked.
    """
    for image in keras.tree.flatten(images):
        if not hasattr(image, "dtype"):
            continue
        dtype = keras.backend.standardize_dtype(image.dtype)
        if dtype != "uint8" and not keras.backend.is_float_dtype(dtype):
            raise TypeError(
                "An encoder takes images of a float dtype, with values in "
                "[0, 1], or uint8 ones, which it divides by 255. Received: "
                f"images of dtype {dtype}. Divide them by their largest value "
                "(65535 for 16 bits), or call `SimCLRModel`, which scales "
                "images from its `value_range`: `model.predict(images)`."
            )


def to_unit_range(images, dtype):
    """uint8 images as floats in [0, 1], and floats as they are.

    uint8 means [0, 255], as everywhere. Of wider integers the dtype does not
    tell the range: a camera's 12 bits come as uint16. Keras would cast both to
    floats, and the encoder would return values that mean nothing.

    Args:
        images: As in `check_image_dtype`.
        dtype: String, the float dtype of the result for uint8 images.

    Returns:
        The same structure of images.

    Raises:
        TypeError: If images are integers of another dtype, or booleans.
    """
    check_image_dtype(images)

    def scale(image):
        given = keras.backend.standardize_dtype(getattr(image, "dtype", dtype))
        return ops.cast(image, dtype) / 255 if given == "uint8" else image

    return keras.tree.map_structure(scale, images)
