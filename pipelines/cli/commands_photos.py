"""``interpnet demo photos``: a network trained on ImageNet, its filters, and photographs explained; no download."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from interpnet.errors import InterpNetError
from interpnet.models import load_model

from ..run.folder import RunFolder
from ..run.settings import Given, option
from .commands_filters import filters
from .demo_photographs import write_photographs
from .options import Request

_NETWORK: dict[str, Any] = {"model": "efficientnet-lite0", "classes": "imagenet"}
_OUT = "runs/demo-photos"
_PHOTOGRAPHS = "photographs"  # below the run folder
_PICTURED: dict[str, Any] = {"max_classes": 5, "per_layer": 4}  # of the filter report
_EXPLAINED = 5  # photographs, the first; each takes some seconds
_TAKEN = {"seed", "device"}  # what else of a demo of flowers has a meaning here


def photos(given: Given, request: Request) -> None:
    """Write the photographs that come with two packages, picture the network on them, and explain each."""
    asked = [name for name in given.values if name not in _TAKEN]
    asked += [name for name in ("shortcut", "strength") if getattr(request, name) is not None]
    if asked:
        raise InterpNetError(
            f"{', '.join(map(option, asked))} came with interpnet demo photos, which trains and solves nothing; leave "
            "it out, or run interpnet demo"
        )
    load_model(_NETWORK["model"])  # what is not installed is said before a folder is made
    out = Path(request.out or _OUT)
    run = RunFolder.create(out, fresh=request.fresh)
    with run.locked(fresh=request.fresh):
        run.save()
        whole = write_photographs(out / _PHOTOGRAPHS)
    chosen = {**_NETWORK, "data": f"imagefolder:{out / _PHOTOGRAPHS}"}
    shown = replace(request, out=str(out), image=tuple(map(str, whole[:_EXPLAINED])))
    filters(Given({**given.values, **chosen}), shown, Given(_PICTURED))
