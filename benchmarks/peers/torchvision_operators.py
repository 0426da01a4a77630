"""Makes torchvision importable where its compiled operators do not load.

They do not where the wheel was built for another PyTorch, such as one with
CUDA. At import torchvision describes two of them, which nothing here calls:
without a declaration that is an error. Import this first. Can go once
torchvision passes over what it lacks.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )
