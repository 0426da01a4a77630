"""The dtype of the images that an encoder takes."""

import keras


def check_floats(images):
    """Raises a `TypeError` if images are not of a float dtype.

    An encoder takes images in [0, 1]. Keras would cast integers, which lie in
    [0, 255] as a rule, to floats, and the encoder would return values that
    mean nothing.

    Args:
        images: What an encoder is called with: a tensor or a structure of
            tensors, symbolic ones too. What has no dtype is not checked.
    """
    for image in keras.tree.flatten(images):
        if not hasattr(image, "dtype"):
            continue
        dtype = keras.backend.standardize_dtype(image.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise TypeError(
                "An encoder takes images of a float dtype, with values in "
                f"[0, 1]. Received: images of dtype {dtype}. Divide by 255, or "
                "call `SimCLRModel`, which scales images from its "
                "`value_range`: `model.predict(images)`."
            )
