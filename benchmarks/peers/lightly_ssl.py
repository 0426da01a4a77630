"""Lightly on PyTorch, as its SimCLR example uses it: not compiled.

Not called `lightly.py`, which would hide the package from itself.
"""

import itertools
import os

import torch
import torchvision_operators  # noqa: F401  Before all that is torchvision's.
import worker
from lightly.loss import NTXentLoss
from lightly.models import ResNetGenerator
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image


class TwoViews(torch.utils.data.Dataset):
    """Two views of each image of an array."""

    def __init__(self, images, config):
        self.images = images
        self.transform = SimCLRTransform(
            input_size=config["image_size"],
            cj_strength=0.5,
            gaussian_blur=0.0,
            normalize=None,  # The others take images in [0, 1] too.
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index]))


def load(images, config, shuffle=False):
    return torch.utils.data.DataLoader(
        TwoViews(images, config),
        config["batch_size"],
        shuffle=shuffle,
        drop_last=True,
        num_workers=os.cpu_count(),
        # So that a pass over the images does not start processes; between two
        # passes they do nothing.
        persistent_workers=True,
    )


def make_augmentation(config):
    loader = load(worker.random_images(config), config)

    def run():
        for _ in loader:
            pass

    return run, {}


def make_loss(config):
    loss = NTXentLoss(config["temperature"])
    dtype = getattr(torch, config["dtype"])
    z = [
        torch.from_numpy(x).to(dtype).requires_grad_()
        for x in worker.random_projections(config)
    ]

    def run():
        for x in z:
            x.grad = None
        loss(*z).backward()

    return run, {}


def make_step(config):
    encoder, step = build_step(config)
    views = [to_tensor(view) for view in worker.random_views(config)]

    def run():
        for _ in range(config["batches"]):
            step(views)

    return run, {"parameters": count(encoder)}


def make_end_to_end(config):
    encoder, step = build_step(config)
    loader = load(worker.random_images(config), config)

    def run():
        for views in loader:
            step(views)

    return run, {"parameters": count(encoder)}


def build_step(config):
    """The encoder, and a function that trains it on two views."""
    torch.manual_seed(config["seed"])
    if config["image_size"] != 32:
        raise ValueError("Lightly's ResNet with CIFAR stem takes 32 pixels.")
    encoder = ResNetGenerator("resnet-18", width=config["width"])
    num_features = encoder.linear.in_features
    encoder.linear = torch.nn.Identity()
    head = SimCLRProjectionHead(num_features, num_features, config["dim"])
    model = torch.nn.Sequential(encoder, head)
    loss = NTXentLoss(config["temperature"])
    optimizer = torch.optim.Adam(model.parameters(), config["learning_rate"])
    half = config["dtype"] == "bfloat16"

    def step(views):
        model.train()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            z = [model(view) for view in views]
            value = loss(*z)
        value.backward()
        optimizer.step()
        return value.item()

    return encoder, step


def count(encoder):
    """Weights and statistics of batch norm, as Keras counts."""
    tensors = itertools.chain(encoder.parameters(), encoder.buffers())
    return sum(x.numel() for x in tensors if x.dim())


def to_tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def race(config):
    train, test = worker.load_race(config)
    encoder, step = build_step(config)
    loader = load(train, config, shuffle=True)
    deadline = worker.Deadline(config["minutes"])
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    for views in epochs:
        step(views)
        if deadline.step():
            break
    result = deadline.result()
    encoder.eval()

    def encode(images):
        with torch.inference_mode():
            return encoder(to_tensor(images)).numpy()

    worker.write_features(config, encode, train, test)
    return result


if __name__ == "__main__":
    worker.serve(globals())
