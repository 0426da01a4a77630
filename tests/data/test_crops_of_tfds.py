"""Crops while decoding, of the photos of a TFDS data set."""

import numpy as np
import pytest
import tensorflow as tf

from simclr_keras import augmentation, data
from tests.data.pictures import picture

tfds = pytest.importorskip("tensorflow_datasets")

COUNT, BATCH_SIZE = 10, 4


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Photos of many sizes, as JPEG and as PNG of 16 bits, and numbers."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "deep": tfds.features.Image(
                        shape=(None, None, 1), dtype=np.uint16
                    ),
                    "label": tfds.features.ClassLabel(num_classes=COUNT),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for k in range(COUNT):
            image = np.array(picture(20 + 3 * k, 50 - 4 * k, seed=k))
            deep = 257 * image[..., :1].astype("uint16")
            yield k, {"image": image, "deep": deep, "label": k}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    TinyPhotos(data_dir=path).download_and_prepare()
    return path


# In levels: float32 rounding, of 255 and of 65,535 of them.
@pytest.mark.parametrize(
    ("key", "high", "tolerance"), [("image", 255, 0.02), ("deep", 65535, 5)]
)
def test_crops_are_those_of_whole_images(data_dir, key, high, tolerance):
    images = data.load_tfds(
        "tiny_photos",
        data_dir,
        test_split=None,
        image_size=8,
        image_key=key,
        in_memory=False,
    ).train
    crop = augmentation.RandomResizedCrop(12, 12, value_range=(0, high), seed=1)
    examples = TinyPhotos(data_dir=data_dir).as_dataset(split="train")
    whole = {int(each["label"]): each[key] for each in examples}
    dataset = data.training_dataset(
        images, BATCH_SIZE, seed=3, crop=crop, with_labels=True
    )
    for step, batch in enumerate(dataset):
        for view in range(2):
            for index, label in enumerate(batch["label"].numpy()):
                expected = crop.apply(
                    whole[label][None],
                    tf.constant([index]),
                    crop.key(2 * step + view),
                )[0]
                np.testing.assert_allclose(
                    batch[f"crop_{view + 1}"][index], expected, atol=tolerance
                )
