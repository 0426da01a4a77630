"""A training step of Lightly's modules on an accelerator, compiled.

Run by `benchmarks/gpu.py` with its settings as JSON. The views lie in the
device's memory: Lightly makes them on the host, an image at a time, which is
left out, so that this is less work than the step it stands beside.
"""

import contextlib
import json
import resource
import statistics
import sys
import time


def main(config):
    if config["width"] != 1:
        return {"skipped": "torchvision's ResNet has width 1 only"}
    try:
        import torch
        import torchvision_operators  # noqa: F401  Before lightly.
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead
        from torchvision import models
    except ImportError as error:
        return {"skipped": str(error)}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = getattr(models, f"resnet{config['depth']}")()
    num_features = encoder.fc.in_features
    encoder.fc = torch.nn.Identity()
    head = SimCLRProjectionHead(num_features, num_features, 128)
    model = torch.nn.Sequential(encoder, head).to(device)
    model = torch.compile(model.to(memory_format=torch.channels_last))
    loss = NTXentLoss(0.1)
    # PyTorch has no LARS.
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    size = config["image_size"]
    views = torch.rand(2 * config["batch_size"], 3, size, size, device=device)
    views = views.to(memory_format=torch.channels_last)

    def step():
        optimizer.zero_grad()
        with contextlib.ExitStack() as stack:
            if config["bfloat16"]:
                stack.enter_context(torch.autocast(device, torch.bfloat16))
            value = loss(*model(views).chunk(2))
        value.backward()
        optimizer.step()
        return value

    def seconds():
        start = time.perf_counter()
        for _ in range(config["steps"]):
            value = step()
        value.item()  # waits
        return time.perf_counter() - start

    seconds()  # compiles
    median = statistics.median(seconds() for _ in range(config["runs"]))
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "step_seconds": median / config["steps"],
        "images_per_second": config["steps"] * config["batch_size"] / median,
        "peak_mebibytes": peak / 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
