"""Views per second of Lightly's transform, out of JPEG files.

    lightly_photos.py FOLDER BATCH_SIZE BATCHES WORKERS

Measures once for each line that it reads, and writes the views per second as a
line. See `benchmarks/decoding.py`.
"""

import pathlib
import sys
import time

import torch
import torchvision_operators  # noqa: F401  Before all that is torchvision's.
from lightly.transforms import SimCLRTransform
from PIL import Image


class Photos(torch.utils.data.Dataset):
    """Two views of 224 pixels of each photo, by Lightly's defaults."""

    def __init__(self, folder):
        self.paths = sorted(pathlib.Path(folder).glob("*.jpg"))
        self.transform = SimCLRTransform(input_size=224)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def main():
    folder, *numbers = sys.argv[1:]
    batch_size, num_batches, num_workers = map(int, numbers)
    photos = Photos(folder)
    # The first batches fill the queues and are not counted; after the last one
    # there is none on its way that would disturb another's turn.
    first = 2 * num_workers
    loader = torch.utils.data.DataLoader(
        photos,
        batch_size,
        sampler=torch.utils.data.RandomSampler(
            photos,
            replacement=True,
            num_samples=(first + num_batches) * batch_size,
        ),
        num_workers=num_workers,
        persistent_workers=True,
    )
    for _ in sys.stdin:
        batches = iter(loader)
        for _ in range(first):
            next(batches)
        started = time.perf_counter()
        made = sum(1 for _ in batches)
        seconds = time.perf_counter() - started
        print(2 * made * batch_size / seconds, flush=True)


if __name__ == "__main__":
    main()
