"""Whether maps of EfficientNet-Lite0 outline the subject of real photographs, against boxes; for E3's page.

    python -m experiments.localisation.photographs

Resumes from photographs.json, a line per map. Writes the README's table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from experiments.boats.networks import as_input, enlarged
from experiments.boats.photographs import SIDE, Photographs, photographs
from experiments.common.imagenet import efficientnet, tiny_classes
from experiments.common.pages import fill
from experiments.common.runner import Results, command
from experiments.common.tables import Line, markdown
from interpnet import attribute
from interpnet.evaluate import Score, energy_pointing, pointing_game, segment
from interpnet.support.types import Float64, Int64

HERE = Path(__file__).parent
COMMAND = "experiments.localisation.photographs"
CONTROLS = ("center", "edge", "random")
MAPS = ("gradcam", "layercam", "guided_gradcam", "guided", *CONTROLS)
_LARGEST = 0.9  # of a photograph: a box that holds more is no place
_SUPERPIXELS = 100
_BATCH = 20


def chosen(given: Photographs, each: int) -> Int64:
    """Return rows of held-out photographs, the first of each class whose box is neither tiny nor nearly all."""
    return np.concatenate([given.rows((name,), most=_LARGEST)[:each] for name in given.classes])


def boxes_of(given: Photographs, rows: Int64, side: int) -> Float64:
    """Return boxes (N, 4) in pixels of photographs enlarged to ``side``; the files name the last pixel inside."""
    ends: Float64 = (given.boxes[rows] + np.array([0, 0, 1, 1])) * (side / SIDE)
    return ends


def superpixels(images: Tensor) -> Tensor:
    """Return the segments (N, H, W) of images with values from -1 to 1."""
    from skimage.segmentation import slic

    pictures = (images.double() + 1).movedim(1, -1).numpy() / 2
    return torch.stack([torch.as_tensor(slic(picture, n_segments=_SUPERPIXELS)).long() for picture in pictures])


def positive_maps(model: nn.Module, images: Tensor, target: Tensor, name: str) -> Tensor:
    """Return what speaks for the class (N, H, W) by a method."""
    parts = [
        attribute(model, x, t, name).detach().clamp(min=0).float()
        for x, t in zip(torch.split(images, _BATCH), torch.split(target, _BATCH), strict=True)
    ]
    return torch.cat(parts)


def scores(maps: Tensor, boxes: Float64, labels: Tensor) -> Line:
    """Return the means of a map's measures, with the ends of the intervals of its overlap."""
    plain = segment(maps, boxes=boxes, constant="zero")
    refined = segment(maps, boxes=boxes, segments=labels, constant="zero")
    found = {
        "iou": plain.iou,
        "precision": plain.precision,
        "recall": plain.recall,
        "refined": refined.iou,
        "energy": energy_pointing(maps, boxes=boxes, constant="zero"),
        "pointing": pointing_game(maps, boxes=boxes, constant="zero"),
        "everywhere": plain.iou.controls["everywhere"],
    }
    return {"n": len(maps), "threshold": round(plain.threshold, 2), **{name: _ends(s) for name, s in found.items()}}


def _ends(score: Score) -> list[float]:
    return [round(value, 4) for value in (score.mean, *score.interval())]


def table(lines: list[Line]) -> str:
    """Return Markdown: a row per map, the highest overlap first."""
    rows = []
    for line in sorted(lines, key=lambda one: -one["iou"][0]):
        name = f"*{line['map']}*" if line["map"] in CONTROLS else line["map"]
        cells = [_percent(line[key]) for key in ("iou", "refined")]
        cells += [f"{100 * line[key][0]:.1f}" for key in ("precision", "recall", "energy", "pointing")]
        rows.append([name, *cells])
    first = lines[0]
    rows.append(
        ["*all pixels*", _percent(first["everywhere"]), "–", f"{100 * first['everywhere'][0]:.1f}", "100.0", "–", "–"]
    )
    head = ["map, %", "IoU", "IoU with superpixels", "precision", "recall", "energy in the box", "maximum in the box"]
    return f"{first['n']} photographs, each cut where those of four other folds say.\n\n{markdown(head, rows)}"


def _percent(ends: list[float]) -> str:
    mean, low, high = (100 * value for value in ends)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


@command()
def main(*, each: int = 10, maps: tuple[str, ...] = MAPS) -> None:
    """Measure what is missing, and write."""
    results = Results(HERE / "photographs.json")
    wanted = [{"map": name, "each": each} for name in maps]
    if results.todo(wanted):
        given = photographs()
        rows = chosen(given, each)
        images = enlarged(as_input(given.images[rows]))
        boxes = boxes_of(given, rows, images.shape[2])
        outputs = torch.tensor([int(row["imagenet_index"]) for row in tiny_classes()])
        target = outputs[torch.from_numpy(given.labels[rows])]
        labels = superpixels(images)
        model = efficientnet()
        for line in results.missing(wanted):
            line.update(scores(positive_maps(model, images, target, line["map"]), boxes, labels))
    if results.lines:
        fill(HERE / "README.md", COMMAND, table(results.lines))
