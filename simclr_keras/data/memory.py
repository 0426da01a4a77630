"""Whether to decode each time, or once and keep the images."""

IN_MEMORY_LIMIT = 2**30  # bytes


def keep_in_memory(images, in_memory):
    """Whether to keep all images in memory, decoded.

    Args:
        images: An `ImageSet`.
        in_memory: Boolean, the answer; None decides by size, up to 1 GiB.
    """
    if in_memory is None:
        return images.num_bytes <= IN_MEMORY_LIMIT
    return bool(in_memory)
