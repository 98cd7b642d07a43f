"""A small plain convolutional network, trained in seconds, for demos, tests and first audits.

Its file of weights is self-describing: the architecture stands in the safetensors metadata, so
``load_model("smallcnn", weights="digits.safetensors")`` needs nothing else.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from interpnet.errors import ModelError
from interpnet.models._fit import fit_weights
from interpnet.models._weights import existing_file, read_weights
from interpnet.support.checks import whole_number
from interpnet.support.io import atomic_path
from interpnet.support.seed import seeded

_METADATA_KEY = "interpnet"
# The parameters that a file of weights keeps, and the least value of each.
_LEAST = {"in_channels": 1, "n_classes": 1, "image_size": 8, "width": 1, "hidden": 0}
# Strided blocks go on until the map is this small: it bounds the hidden layer's weights for any image size.
_LARGEST_FINAL_SIDE = 7


class SmallCNN(nn.Module):
    """Convolution blocks with stride 2 instead of pooling, a global average, a classifier.

    A block is a 3x3 convolution, batch normalisation and a ReLU. The first keeps the image's size; then each
    strided block is followed by one that is not, until the longer side is at most 7. The last maps are
    averaged over their positions and classified, as residual networks do, so that each of their channels
    is a feature of the whole image; or, with ``hidden``, flattened into one fully connected layer first.

    Parameters
    ----------
    in_channels, n_classes : int
        Channels of the images and number of classes, at least 1 each.
    image_size : int or (int, int)
        Height and width of the images (one number: square), each at least 8.
    width : int
        Channels of the first block; strided blocks double it, up to four times ``width``.
    hidden : int
        Units of a hidden fully connected layer; 0 for none.
    seed : int, optional
        Fixes the initial weights without touching torch's global random state; ``None`` draws from it.

    Examples
    --------
    >>> import torch
    >>> model = SmallCNN(1, 10, 8, seed=0).eval()
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        image_size: int | tuple[int, int],
        width: int = 16,
        *,
        hidden: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        height, width_px = (image_size, image_size) if isinstance(image_size, int) else image_size
        given = (in_channels, n_classes, [height, width_px], width, hidden)
        self.architecture: dict[str, Any] = {}
        for (name, least), value in zip(_LEAST.items(), given, strict=True):
            # Python's own numbers, because numpy's have no JSON.
            self.architecture[name] = np.asarray(value).tolist()
            for number in np.ravel(np.asarray(value)).tolist():
                whole_number(number, f"SmallCNN: {name}", least=least, error=ModelError)
        with nullcontext() if seed is None else seeded(seed):
            self._build()

    def _build(self) -> None:
        in_channels, n_classes, size, width, hidden = self.architecture.values()
        channels = width
        blocks = [_Block(in_channels, channels, stride=1)]
        while max(size) > _LARGEST_FINAL_SIDE:
            grown = min(2 * channels, 4 * width)
            blocks += [_Block(channels, grown, stride=2), _Block(grown, grown, stride=1)]
            channels = grown
            # A stride of 2 keeps every other position, the first included.
            size = [(side + 1) // 2 for side in size]
        self.blocks = nn.Sequential(*blocks)
        # Averaged, as residual networks do, so that each channel of the last maps is a feature of the whole image.
        self.head: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if hidden:
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels * math.prod(size), hidden), nn.ReLU())
        self.classifier = nn.Linear(hidden or channels, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, in_channels, H, W) to logits (B, n_classes)."""
        logits: Tensor = self.classifier(self.head(self.blocks(images)))
        return logits


class _Block(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        # The normalisation's shift makes a bias of the convolution redundant.
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.relu(self.bn(self.conv(maps)))
        return out


def save_smallcnn(model: SmallCNN, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
    """Write weights and architecture to one safetensors file.

    ``extra`` are JSON-able facts to keep with it, such as the classes, the preprocessing, or the accuracy reached.
    Where the file cannot be written, a RunFolderError says so and an older file of that name is untouched.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> save_smallcnn(SmallCNN(1, 10, 8), path, {"classes": ["0", "1"]})
    >>> load_smallcnn(path).architecture["n_classes"], smallcnn_extra(path)
    (10, {'classes': ['0', '1']})
    """
    facts = {"kind": "smallcnn", "architecture": model.architecture, "extra": dict(extra or {})}
    metadata = {"format": "pt", _METADATA_KEY: json.dumps(facts, allow_nan=False)}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # As bytes, because safetensors' own writer reports a full disk as an error of another kind.
    content = save(state, metadata=metadata)
    with atomic_path(path) as tmp:
        tmp.write_bytes(content)


def load_smallcnn(path: str | os.PathLike[str]) -> SmallCNN:
    """Read a network written by :func:`save_smallcnn`, in evaluation mode; other files are ModelErrors."""
    architecture = _facts(path)["architecture"]
    # The seed keeps torch's global random state: the initial weights are replaced at once.
    model = SmallCNN(**{name: architecture[name] for name in _LEAST}, seed=0)
    fit_weights(model, read_weights(path))
    return model.eval()


def smallcnn_extra(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the ``extra`` facts that :func:`save_smallcnn` kept in the file at ``path``."""
    extra: dict[str, Any] = _facts(path)["extra"]
    return extra


def _facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    file = existing_file(path)
    remedy = "give a file that `interpnet train` or save_smallcnn wrote"
    try:
        with safe_open(str(file), framework="pt") as handle:
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{str(file)!r} is no readable safetensors file ({error}); {remedy}") from error
    try:
        facts = json.loads(metadata.get(_METADATA_KEY, "{}"))
        complete = facts["kind"] == "smallcnn" and set(_LEAST) <= set(facts["architecture"])
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete:
        raise ModelError(f"{str(file)!r} does not say which SmallCNN it holds; {remedy}")
    return {"extra": {}, **facts}
