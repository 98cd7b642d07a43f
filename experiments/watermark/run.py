"""ImageNet-W's watermark, and texts and strokes of its size, on photographs of other classes.

    pip install imagenet-w -e '.[photos]'
    OMP_NUM_THREADS=2 python -m experiments.watermark.run

What lies on the images is recovered from what the package draws on a black and on a white picture. Results are kept in
``results.json``; the page's table is written from them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.imagenet import networks, read
from experiments.common.pages import fill
from experiments.common.runner import command
from experiments.common.shared_data import shared_data
from experiments.common.tables import markdown
from interpnet.errors import DataError
from interpnet.shortcuts import OverlayProbe, overlay_probe
from interpnet.support.io import read_json, write_json

HERE = Path(__file__).parent
COMMAND = "experiments.watermark.run"
CARTON = 478
_SIDE = 224
_LETTER = 27  # pixels: a letter of ImageNet-W's text is 36 wide
_SHOWN = 5  # classes of a row
#: What is drawn, by name: ImageNet-W's text, the same words elsewhere, other texts of the same font, and none.
TEXTS: dict[str, dict[str, Any]] = {
    "ImageNet-W's watermark": {},
    "the same at the bottom": {"y_pos": 0.8},
    "Latin text": {"text": "shortcut shortcut"},
    "plain strokes": {"text": "IIIIIIIIIIIIIIIII"},
}


def laid_out(draw: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return colour (3, H, W) and opacity (H, W) of what ``draw`` puts on a picture of values from 0 to 1.

    On black it shows ``opacity * colour``, on white ``1 - opacity`` more.
    """
    black, white = (draw(torch.full((3, _SIDE, _SIDE), value)) for value in (0.0, 1.0))
    opacity = (1 - (white - black).mean(0)).clamp(0, 1)
    # Rounding to 256 steps is no writing.
    opacity[opacity < 2 / 255] = 0.0
    colour = torch.where(opacity > 0, black / opacity.clamp_min(1 / 255), 0.0).clamp(0, 1)
    return colour, opacity


def photographs(prepare: Callable[[Any], Tensor], most: int) -> tuple[Tensor, Tensor]:
    """Return every second of the samples, at most so many, and their classes."""
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(member.name for member in archive.getmembers() if member.isfile())
        # There is one sample of every second class, in their order.
        chosen = {2 * i: [name] for i, name in enumerate(files) if i % 2 == 0}
        found = read(archive, dict(list(chosen.items())[:most]), prepare)
    return found.images, torch.from_numpy(found.labels)


def measured(model: nn.Module, images: Tensor, labels: Tensor, draw: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Return what an overlay does: to the carton, to the classes that rise most, and to the accuracy."""
    colour, opacity = laid_out(draw)
    # From values between 0 and 1 to those of the network, whose mean and standard deviation are one half.
    by_piece = {
        piece: overlay_probe(model, images, 2 * colour - 1, opacity, classes=labels, piece=piece, controls=2)
        for piece in (1, _LETTER)
    }
    found = by_piece[1]
    first = found.raised()
    return {
        "covered": float((opacity > 0).float().mean()),
        "carton": figures(found, CARTON),
        "carton, pieces of a letter's size": figures(by_piece[_LETTER], CARTON),
        "raised": [{"class": c, **figures(found, c)} for c, _ in first[:_SHOWN]],
        "classes raised": len(first),
        "place of the carton": 1 + int((found.rise > found.rise[CARTON]).sum()),
        "accuracy": accuracies(model, images, labels, colour, opacity),
    }


def figures(found: OverlayProbe, c: int) -> dict[str, float]:
    """Return one class's figures."""
    names = ("rise", "low", "high", "whole", "control", "taken_before", "taken", "taken_control")
    return {name: float(getattr(found, name)[c]) for name in names}


def accuracies(model: nn.Module, images: Tensor, labels: Tensor, colour: Tensor, opacity: Tensor) -> dict[str, float]:
    """Return the share of right answers as the images are, and with the overlay."""
    with torch.no_grad():
        right = {
            name: [model(x).argmax(1) == y for x, y in zip(torch.split(part, 50), torch.split(labels, 50), strict=True)]
            for name, part in (("before", images), ("with", torch.lerp(images, 2 * colour - 1, opacity)))
        }
    return {name: float(torch.cat(values).double().mean()) for name, values in right.items()}


def names_of_classes() -> dict[int, str]:
    """Return the names of the classes that the samples show."""
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        folders = sorted({member.name.split("/")[-2] for member in archive.getmembers() if member.isfile()})
    return {2 * i: name.partition("_")[2].replace("_", " ") for i, name in enumerate(folders)}


def beyond(figures: dict[str, float]) -> str:
    """Return a rise beyond controls with its interval."""
    return f"{figures['rise']:+.2f} ({figures['low']:+.2f} to {figures['high']:+.2f})"


def table(found: dict[str, Any]) -> str:
    """Return Markdown: a row for each overlay."""
    rows = []
    for name, row in found["overlays"].items():
        carton = row["carton"]
        first = ", ".join(f"{one['name']} {one['rise']:+.1f}" for one in row["raised"][:3])
        rows.append(
            [
                name,
                f"{100 * row['covered']:.0f}",
                f"{carton['whole']:+.2f}",
                f"{carton['control']:+.2f}",
                beyond(carton),
                beyond(row["carton, pieces of a letter's size"]),
                str(row["place of the carton"]),
                first,
                f"{100 * row['accuracy']['before']:.1f} to {100 * row['accuracy']['with']:.1f}",
            ]
        )
    head = ["overlay", "covers, %", "carton rises by", "by its pixels shuffled", "beyond these (95 %)"]
    head += ["beyond pieces of a letter's size", "place among 1,000"]
    return (
        f"EfficientNet-Lite0, {found['images']} photographs, two controls of each kind for each; log-odds.\n\n"
        + markdown([*head, "first three", "accuracy, %"], rows)
    )


@command(images="how many photographs", out="where the results are kept", page="which is filled")
def main(*, images: int = 250, out: Path = HERE / "results.json", page: Path = HERE / "README.md") -> None:
    """Measure what is missing, and write the page."""
    try:
        from imagenet_w import AddWatermark
    except ImportError as error:
        raise DataError("ImageNet-W's watermark is not here: pip install imagenet-w") from error
    model, prepare = networks("efficientnet")
    pictures, labels = photographs(prepare, images)
    names = names_of_classes()
    found: dict[str, Any] = {"images": len(pictures), "overlays": {}}
    if out.is_file() and read_json(out)["images"] == len(pictures):
        found = read_json(out)
    for name, options in TEXTS.items():
        if name in found["overlays"]:
            continue
        row = measured(model, pictures, labels, AddWatermark(_SIDE, **options))
        for one in row["raised"]:
            one["name"] = names.get(one["class"], f"class {one['class']}")
        found["overlays"][name] = row
        write_json(out, found)
    fill(page, COMMAND, table(found))
    print(np.round([row["carton"]["rise"] for row in found["overlays"].values()], 2).tolist())
