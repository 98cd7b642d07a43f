"""How well maps outline their subjects, cut where other images say: flowers and streets by masks, photographs by boxes.

    python -m experiments.localisation.outlines [--kinds NAME ...]

For E3's page. Resumes from outlines.json, a line per kind of images. Writes the README's tables.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from experiments.common.maps import PAPER, quietly
from experiments.common.pages import fill
from experiments.common.runner import Results, command
from experiments.common.tables import Interval, Line, commits, emphasised, markdown, minutes, sections, signed
from experiments.localisation.outlined import KINDS, Outlined
from interpnet import explain
from interpnet.evaluate import Score, Segmentation, energy_pointing, pointing_game, segment
from interpnet.explanation import normalise, reduce_colours
from interpnet.support.types import Float64

HERE = Path(__file__).parent
COMMAND = "experiments.localisation.outlines"
CENTER = "center"
CONTROLS = (CENTER, "edge", "random")
MAPS = ("gradcam", "layercam", "guided_gradcam", "guided", "lrp_epsilon_plus_flat", *CONTROLS)
_SUPERPIXELS = 100
_BATCH = 20


def superpixels(pictures: Float64) -> Tensor:
    """Return the segments (N, H, W) of pictures (N, H, W, 3) with values from 0 to 1."""
    from skimage.segmentation import slic

    return torch.stack([torch.as_tensor(slic(picture, n_segments=_SUPERPIXELS)).long() for picture in pictures])


def positive_maps(given: Outlined, name: str) -> Tensor:
    """Return what speaks for the class (N, H, W) by a method."""
    parts = []
    for x, t in zip(torch.split(given.images, _BATCH), torch.split(given.target, _BATCH), strict=True):
        if name == PAPER and given.found is not None:
            signals = explain(given.model, x, given.found, k=3, classes=t, variant="paper").signals
            parts.append(normalise(reduce_colours(signals, "positive")).amax(1))
        else:
            parts.append(quietly(given.model, x, t, name).detach().clamp(min=0).float())
    return torch.cat(parts)


def measured(given: Outlined) -> Line:
    """Return each map's measures, with the ends of their intervals, and the differences from the blob in the middle."""
    labels = superpixels(given.pictures)
    names = [*([PAPER] if given.found is not None else []), *MAPS]
    maps = {name: positive_maps(given, name) for name in names}
    outlined = {name: outlines(given, own) for name, own in maps.items()}
    refined = {name: outlines(given, own, labels) for name, own in maps.items()}
    line: Line = {"n": len(given.images), "maps": {}}
    for name, own in maps.items():
        plain = outlined[name]
        scores = {
            "iou": plain.iou,
            "precision": plain.precision,
            "recall": plain.recall,
            "refined": refined[name].iou,
            "energy": energy_pointing(own, constant="zero", **given.region),
            "pointing": pointing_game(own, constant="zero", **given.region),
        }
        line["maps"][name] = {key: ends(score) for key, score in scores.items()} | {
            "less": ends(plain.iou, outlined[CENTER].iou),
            "refined less": ends(refined[name].iou, refined[CENTER].iou),
        }
        line["everywhere"] = ends(plain.iou.controls["everywhere"])
    return line


def outlines(given: Outlined, maps: Tensor, labels: Tensor | None = None) -> Segmentation:
    """Return how maps outline what they should."""
    return segment(maps, segments=labels, folds=given.folds, constant="zero", **given.region)


def ends(score: Score, other: Score | None = None) -> list[float]:
    """Return mean and interval of a score, or of its difference from another."""
    mean = score.mean - (0.0 if other is None else other.mean)
    return [round(value, 4) for value in (mean, *score.interval(against=other))]


def table(line: Line) -> str:
    """Return Markdown: a row per map, the highest overlap first."""
    rows = []
    for name, own in sorted(line["maps"].items(), key=lambda one: -one[1]["iou"][0]):
        cells = [
            percent(own["iou"]),
            gain(own.get("less"), name),
            percent(own["refined"]),
            gain(own.get("refined less"), name),
        ]
        cells += [f"{100 * own[key][0]:.1f}" for key in ("precision", "recall", "energy", "pointing")]
        rows.append([emphasised(name, [PAPER], CONTROLS), *cells])
    share = line["everywhere"]
    rows.append(["*all pixels*", percent(share), "", "", "", f"{100 * share[0]:.1f}", "100.0", "", ""])
    head = [
        "map, %",
        "IoU",
        "less *center*",
        "with superpixels",
        "less *center*",
        "precision",
        "recall",
        "energy",
        "maximum",
    ]
    return markdown(head, rows)


def percent(values: list[float]) -> str:
    """Return a mean and its interval in percent."""
    mean, low, high = (100 * value for value in values)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def gain(values: list[float] | None, name: str) -> str:
    """Return a difference in points, bold where its interval lies on one side of zero; nothing where none is known."""
    if name == CENTER or values is None:
        return ""
    value = Interval(*values).times(100)
    return f"**{signed(value)}**" if value.above or value.below else signed(value)


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    lines = sorted(lines, key=lambda one: list(KINDS).index(one["images"]))
    parts = {f"{line['images'][0].upper()}{line['images'][1:]}, {line['n']} images": table(line) for line in lines}
    return sections(parts, f"{minutes(lines):.0f} minutes; measured at {commits(lines)}.")


@command(kinds=tuple(KINDS))
def main(*, kinds: tuple[str, ...] = tuple(KINDS), work: Path = Path("runs/localisation"), n: int = 0) -> None:
    """Measure what is missing, and write; ``n`` images of each kind for a trial, which writes no page."""
    results = Results(HERE / "outlines.json" if not n else work / "outlines.json")
    words = {"n": n} if n else {}
    for line in results.missing({"images": name} for name in kinds):
        line |= measured(KINDS[line["images"]](work, **words))
    if not n:
        fill(HERE / "README.md", COMMAND, text(results.lines))
