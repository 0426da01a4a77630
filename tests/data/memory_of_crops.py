"""Prints the peak memory of a process that crops photos while decoding them.

Run as `python memory_of_crops.py FOLDER`; in MiB above what it began with.
"""

import os
import resource
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

from simclr_keras import augmentation, data

UNIT = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is KiB on Linux


def peak():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss * UNIT / 2**20


def main():
    photos = data.load_image_folder(sys.argv[1], 256, in_memory=False).train
    crop = augmentation.RandomResizedCrop(64, 64, seed=0)
    batches = data.training_dataset(photos, 32, crop=crop).repeat()
    before = peak()
    for _ in batches.take(4):
        pass
    print(peak() - before)


if __name__ == "__main__":
    main()
