"""Image files that TensorFlow cannot decode, or not safely."""

import importlib
import io

import numpy as np
import PIL
from PIL import Image, ImageOps

from simclr_keras.data.decoding_cost import check_cost
from simclr_keras.data.image_files import has_heif, is_heif

# Of the largest image that is decoded: what a photo has, but no bomb, a small
# file that takes all memory.
MAX_PIXELS = 2**27
# Not all that Pillow knows: to read some of the others it starts programs.
_PHOTOMETRIC = 262  # a tag of TIFF: 0 where black is the largest value
_FORMATS = ("GIF", "BMP", "WEBP", "TIFF", "AVIF", "HEIF")


def pillow_image(data, channels, max_pixels=MAX_PIXELS):
    """Decodes GIF, BMP, WebP, TIFF, AVIF or, with `pillow-heif`, HEIF; upright.

    Args:
        data: Bytes, the content of the file.
        channels: 1 or 3.
        max_pixels: Integer, the largest number of pixels that is decoded.

    Returns:
        uint8 array (H, W, channels); transparent pixels are white.

    Raises:
        ValueError: If it is not an image that Pillow reads.
    """
    if is_heif(data[:16]) and has_heif():
        importlib.import_module("pillow_heif").register_heif_opener()
    check_cost(data)
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if max(image.width * image.height, _tile(image)) > max_pixels:
                raise ValueError(
                    f"It has more pixels than `max_pixels`, {max_pixels:,}."
                )
            # The fourth channel of a BMP means nothing.
            has_alpha = image.format != "BMP" and image.has_transparency_data
            # Pillow turns these into positives, but for 16 bits.
            is_negative = (
                image.format == "TIFF"
                and image.mode.startswith("I")
                and image.tag_v2.get(_PHOTOMETRIC) == 0
            )
            image = ImageOps.exif_transpose(image)
            image = _as_bytes(image, channels, has_alpha)
            return 255 - image if is_negative else image
    except PIL.UnidentifiedImageError:
        if is_heif(data[:16]) and not has_heif():
            raise ValueError(
                "It is a HEIC photo, for which `pip install pillow-heif` is "
                "needed."
            ) from None
        raise ValueError("Its format is unknown.") from None
    except ValueError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they meet.
        raise ValueError(f"Pillow cannot decode it: {error}.") from None


def _tile(image):
    """Number of pixels of a TIFF's tile, which may be larger than the image."""
    if image.format != "TIFF":
        return 0
    return image.tag_v2.get(322, 0) * image.tag_v2.get(323, 0)


def _as_bytes(image, channels, has_alpha):
    """A Pillow image as uint8 (H, W, channels)."""
    if image.mode.startswith("I"):
        # 16 bits; 32 are what Pillow makes of them.
        values = np.array(image).astype("int64")
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ValueError("It has more than 16 bits.")
        image = Image.fromarray((values // 257).astype("uint8"))
    if image.mode == "F":
        raise ValueError(
            "It has floating-point values, whose black and white are unknown."
        )
    if has_alpha:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if channels == 1:
        return np.array(image.convert("L"))[..., None]
    return np.array(image.convert("RGB"))
