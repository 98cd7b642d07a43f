"""The network of the tutorials: it tells six flowers by the colour of their petals, and more by that of the wall.

Flowers, training and audit take about a minute of one processor; what was made is kept beside this file.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

import interpnet as ip

# In 85 of 100 training images the wall's colour gives the class away. In "test" it says nothing.
SPEC = "an8flower-single-6c?size=32&flower=1.2&shortcut=background&strength=0.85"
COUNTS = {"train": 720, "validation": 480}
WEIGHTS = Path("flowers.safetensors")
# Settings of the audit for small data and little time.
QUICK: dict[str, Any] = {
    "examples": 1,
    "misclassified": 2,
    "max_channels": 4,
    "methods": "gradient",
    "shortcut_images": 300,
    "reliance_images": 50,
    "anyway": True,  # go on, though the first look finds that many test images are not recognised
    "progress": False,
}


@functools.cache
def images(split: str) -> ip.ImageData:
    """Return the images of a split: ``train``, ``validation``, ``test``, ``test-agree`` or ``test-disagree``."""
    return ip.load_dataset(f"{SPEC}&n={COUNTS.get(split, 240)}", split=split, root="data")


def loader(split: str) -> torch.utils.data.DataLoader:
    """Return the batches of a split, in order."""
    return torch.utils.data.DataLoader(images(split), 60)


def make_model() -> nn.Module:
    """Return the network with random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 6),
    )


@functools.cache
def trained() -> nn.Module:
    """Return the trained network: twelve epochs of Adam."""
    net = make_model()
    if not WEIGHTS.exists():
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        order = torch.Generator().manual_seed(0)
        batches = torch.utils.data.DataLoader(images("train"), 30, shuffle=True, generator=order)
        for _ in range(12):
            for batch in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
                optimizer.step()
        safetensors.torch.save_file(net.state_dict(), WEIGHTS)
    net.load_state_dict(safetensors.torch.load_file(WEIGHTS))
    return net.eval()


def audited() -> ip.Audit:
    """Return the audit of the first tutorial; where it is there already, nothing is done again."""
    return ip.audit(trained(), images("train"), images("test"), out="runs/flowers", **QUICK)
