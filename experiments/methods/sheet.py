"""Draw images through every attribution method: one picture per method, all on one sheet.

    python -m experiments.methods.sheet --out sheet.png [--images 0 60 120 180 240 300 360 420]

The sheet of samples is for looking at, not for shipping: ImageNet's terms apply to them. The one in docs/ is made by
``python -m experiments.methods.page`` from a photograph in the public domain.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from experiments.common.imagenet import squeezenet
from experiments.common.runner import command
from experiments.methods.subject import batch, class_name, unnormalised
from interpnet.attribution import Attribution, attribute_full, methods
from interpnet.plotting.style import house_style, new_figure, plain
from interpnet.support.io import atomic_path


def level(values: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return a map's picture: signed maps red for and blue against, white at zero; others dark to bright.

    The strongest 0.5 % of the positions are clipped, else one pixel makes the rest of a noisy map invisible.
    """
    top = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    if float(values.min()) < 0:
        return np.clip(values / top, -1, 1) / 2 + 0.5, mpl.colormaps["RdBu_r"]
    low = float(values.min())
    return np.clip((values - low) / max(top - low, 1e-30), 0, 1), mpl.colormaps["inferno"]


def draw(images: Tensor, titles: Sequence[str], found: dict[str, Attribution], columns: int = 6) -> Figure:
    """Draw one row per method and one column per image; a single image is laid out in ``columns`` instead."""
    n = len(images)
    blank = np.ones((1, 1, 3))
    cells = [(title, unnormalised(image).permute(1, 2, 0).numpy()) for title, image in zip(titles, images, strict=True)]
    if n == 1:
        cells += [(name + " (zero)" * (not f.maps[0].any()), _picture(f, 0)) for name, f in found.items()]
        height = 1.95
        apart = 0.16
    else:
        columns = n + 1  # the first column has the methods' names
        cells.insert(0, ("", blank))
        for name, f in found.items():
            cells += [(name, blank), *(("", _picture(f, i)) for i in range(n))]
        height = 1.7
        apart = 0.04
    down = -(-len(cells) // columns)  # rounded up
    with house_style():
        figure = new_figure(1.75 * columns, height * down)
        grid = figure.subplots(down, columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": apart})
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, (title, picture) in zip(grid.flat, cells, strict=False):
            if picture is blank:
                axes.text(0.98, 0.5, title, ha="right", va="center", transform=axes.transAxes, fontsize=9)
                continue
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(plain(title, 24), fontsize=8.5, loc="center", fontweight="normal", pad=3)
    return figure


def _picture(found: Attribution, i: int) -> np.ndarray:
    values, colours = level(found.maps[i].cpu().double().numpy())
    return np.asarray(colours(values)[..., :3])


def save(figure: Figure, path: Path, dpi: int = 100) -> None:
    """Write a figure whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight", format="png")
    with atomic_path(path) as part, Image.open(buffer) as drawn:
        # 256 colours are enough for two colour maps and a photograph, at a third of the size.
        drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(part, optimize=True)


@command(out="the picture", images="numbers of the samples")
def main(*, out: Path, images: tuple[int, ...] = (5, 71, 142, 190, 235, 330, 420, 482)) -> None:
    """Draw the sheet of samples."""
    shown, target = batch(list(images))
    model = squeezenet()
    with torch.no_grad():
        predicted = model(shown).argmax(1)
    titles = []
    for right, guess in zip(target.tolist(), predicted.tolist(), strict=True):
        titles.append(class_name(right) + f" ({class_name(guess)}?)" * (right != guess))
    found = {}
    for method in methods():
        found[method.name] = attribute_full(model, shown, target, method.name, max_batch=16)
        print(method.name, flush=True)
    save(draw(shown, titles, found), out)
