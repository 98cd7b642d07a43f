"""The contact sheet of M1: photographs with the paper's maps, the chosen ones, and relevance from the logit.

    python -m experiments.maps.sheet [--kind boxes-efficientnet] [--images 12] [--out sheet.png]

The photographs are those of the report, so none is picked.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from experiments.common.maps import quietly
from experiments.common.pages import committed, figure_file
from experiments.common.runner import command
from experiments.maps.settings import PAPER, Setting, finished, maps_of
from experiments.maps.subjects import KINDS, Subject
from experiments.maps.table import chosen_setting
from interpnet.explanation import normalise
from interpnet.plotting import render

SHEET = Path(__file__).with_name("sheet.png")
_COLUMNS = ("photograph", "the paper's", "chosen", "LRP of the logit")


def _pictures(images: Tensor) -> Tensor:
    """Return images (n, 3, H, W) in [0, 1] from a network's normalised input, by their own extremes."""
    low = images.amin((1, 2, 3), keepdim=True)
    high = images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low)


def maps_shown(subject: Subject, chosen: Setting) -> list[Tensor]:
    """Return the maps (n, H, W) of every column but the first, each in [0, 1]."""
    rows = slice(None)
    made = dict(maps_of(subject, [PAPER, chosen], rows))
    relevance = quietly(subject.model, subject.images, subject.labels, "lrp_epsilon_plus_flat")
    # Its peaks are cut as the chosen map's are: otherwise it is dark.
    cut = finished(relevance.clamp(min=0), 0.0, chosen.saturate)
    return [made[PAPER], made[chosen], normalise(cut)]


@command(kind="a kind of the report", images="photographs")
def main(*, kind: str = "boxes-efficientnet", images: int = 12, out: Path = SHEET) -> None:
    """Draw the sheet."""
    subject = KINDS[kind].load(KINDS[kind].report[0], Path("runs/maps"), "cpu", images)
    maps = maps_shown(subject, chosen_setting(committed(__file__)))
    pictures = _pictures(subject.images)
    half = -(-images // 2)
    width = len(_COLUMNS)
    with torch.no_grad(), figure_file(out, 1.15 * 2 * width, 1.15 * half + 0.6, 100) as drawn:
        axes = drawn.subplots(half, 2 * width, squeeze=False)
        for i, picture in enumerate(pictures):
            row = axes[i % half][width * (i // half) : width * (i // half + 1)]
            row[0].imshow(picture.movedim(0, -1))
            row[0].set_ylabel(subject.classes[int(subject.labels[i])].replace("_", " "), fontsize=6)
            for place, column in enumerate(maps, 1):
                row[place].imshow(render(column[i].numpy(), picture.numpy()))
            if i % half == 0:
                for place, title in enumerate(_COLUMNS):
                    row[place].set_title(title, fontsize=6)
        for place in axes.flat:
            place.set_xticks([])
            place.set_yticks([])
