"""What every source of images returns."""

import dataclasses

from simclr_keras.data.image_set import ImageSet


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A set of images to train on, and one held out to evaluate with.

    Attributes:
        name: String, what to call the data in reports and file names.
        train: `ImageSet`, the images to train on.
        test: `ImageSet` of held-out images, or None.
        value_range: Pair of floats, the values of black and white in the
            images as they are delivered: (0, 255) for uint8.
        class_names: Tuple of strings, the name of label 0, 1, ...; None where
            the images have no labels.
        skipped: Tuple of strings, the files that could not be read and were
            left out (see `load_image_folder`).

    Example:
        data = simclr_keras.data.load_digits()
        print(data.name, data.train.num_images, data.image_shape)
    """

    name: str
    train: ImageSet
    test: ImageSet | None = None
    value_range: tuple[float, float] = (0.0, 255.0)
    class_names: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()

    @property
    def image_shape(self):
        """(H, W, C) of every image, in pixels and channels."""
        return self.train.image_shape

    @property
    def num_classes(self):
        """How many classes the labels count, or None without labels."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_skipped(self):
        """How many unreadable files were left out."""
        return len(self.skipped)
