"""Images for pretraining and evaluation, from anywhere.

Every source returns an `ImageData`: a set of images to train on and, if there
is one, a set of held-out images. Each is an `ImageSet`:

    data = simclr_keras.data.load_digits()
    dataset = simclr_keras.data.training_dataset(data.train, batch_size=256)
    model.fit(dataset, epochs=100)
    features = model.predict(data.test.batches(256))

Images are not scaled and keep their dtype, usually uint8;
`ImageData.value_range` has the values of black and white.
"""

from simclr_keras.data.arrays import from_arrays, load_digits
from simclr_keras.data.augment import augment
from simclr_keras.data.image_folder import load_image_folder
from simclr_keras.data.image_set import ImageData, ImageSet
from simclr_keras.data.tfds import load_tfds
from simclr_keras.data.training_dataset import training_dataset

__all__ = [
    "ImageData",
    "ImageSet",
    "augment",
    "from_arrays",
    "load_digits",
    "load_image_folder",
    "load_tfds",
    "training_dataset",
]
