"""What a layer is called with, before it is converted to a tensor."""


def check_images(images, who):
    """Raises unless images can be made a tensor (B, H, W, C) or (H, W, C).

    Values are not looked at, and axes whose size is unknown are left alone.

    Args:
        images: Tensor or array, symbolic ones too, or a list of these.
        who: String, what the message calls the layer.

    Raises:
        TypeError: If they are no arrays of numbers.
        ValueError: If they are of several sizes, or none.
    """
    wanted = f"{who} takes images (B, H, W, C) or one image (H, W, C)"
    parts = images if isinstance(images, (list, tuple)) else [images]
    if not parts or not all(_is_array(part) for part in parts):
        found = [type(part).__name__ for part in parts]
        found = found if parts is images else found[0]
        raise TypeError(
            f"{wanted}, as an array or a tensor. Received: images of type "
            f"{found}."
        )
    for part in parts:
        dtype = getattr(part.dtype, "name", str(part.dtype))
        if not any(kind in dtype for kind in ("int", "float", "bool")):
            raise TypeError(
                f"{wanted}, integers or floats. Received: images of dtype "
                f"{dtype}."
            )
    shapes = [_shape(part) for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"{wanted}: those of a batch have one size. Received: images of "
            f"shapes {shapes[:4]}. Crop or resize them first, one by one."
        )
    if 0 in shapes[0]:
        raise ValueError(
            f"{wanted}, and at least one image, pixel and channel. Received: "
            f"images.shape={shapes[0]}."
        )


def _is_array(part):
    return hasattr(part, "shape") and hasattr(part, "dtype")


def _shape(part):
    """A shape as a tuple, () where not even the rank is known."""
    is_unknown = getattr(part.shape, "rank", 0) is None
    return () if is_unknown else tuple(part.shape)
