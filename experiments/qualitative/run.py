"""E2: identified channels of low, middle and high layers, by three kinds of pictures, with a number under each.

    python -m experiments.qualitative.run [--subjects squeezenet resnet20 flowers] [--work runs/qualitative] [--quick]

Draws a contact sheet of three images per network. Resumes from results.json, a line per network. SqueezeNet and
ResNet-20 need the shared folder (see experiments/README.md) and scikit-image; --quick takes tiny flowers.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from experiments.common.runner import Results, study
from experiments.common.tables import Line
from experiments.qualitative.choose import LEVELS, Choice, choose
from experiments.qualitative.maps import Maps, half_mass, pictures, strided_below
from experiments.qualitative.sheet import Row, draw
from experiments.qualitative.subjects import SUBJECTS, Subject
from experiments.qualitative.table import PAGE
from interpnet.engine import Instrument, Trace, evaluating, find_sites, instrument
from interpnet.evaluate import iou_auc
from interpnet.scores import ScoreReader

_BATCH = 20  # images at a time


def choices(subject: Subject, images: Tensor, trace: Trace) -> tuple[list[int], list[list[Choice]]]:
    """Return each image's predicted class and its channel of each level."""
    reader = ScoreReader([trace[name] for name in subject.found.channels.layers])
    with torch.no_grad(), evaluating(subject.model), instrument(subject.model, Instrument(reads=reader.reads)):
        predicted = subject.model(images.clone()).argmax(1).tolist()
    scores = reader.take().double().numpy()  # docs/method.md, section 1
    return predicted, [choose(subject.found, subject.table, x, c) for x, c in zip(scores, predicted, strict=True)]


def numbers(shown: Maps, i: int, masks: Tensor | None) -> dict[str, dict[str, float]]:
    """Return what is measured of one image's pictures: grid, concentration, and overlap where there is a mask."""
    one = slice(i, i + 1)
    found: dict[str, dict[str, float]] = {}
    for name, maps in shown.maps.items():
        row = {"half": half_mass(maps[one])}
        if name in shown.grid:
            row["grid"] = shown.grid[name][i]
        if masks is not None:  # overlap with what speaks for the channel
            row["iou"] = iou_auc(maps[one].clamp(min=0), masks[one], constant="zero").values
        found[name] = {k: round(float(v), 5) for k, v in row.items()}
    return found


def examine(
    subject: Subject, images: Tensor, masks: Tensor | None, sheet: tuple[str, Path] | None = None
) -> list[Line]:
    """Return a line for every image and level; draw the sheet where its title and path are given."""
    trace = find_sites(subject.model, images[:1])
    predicted, chosen = choices(subject, images, trace)
    names = [subject.found.classes[c] for c in predicted]
    lines = []
    rows = {}
    for position, level in enumerate(LEVELS):
        picks = [c[position] for c in chosen]  # each image has its own
        shown = pictures(subject.model, images, [c.channel for c in picks])
        for i, pick in enumerate(picks):
            layer = pick.channel.layer
            values = numbers(shown, i, masks)
            line = {
                "image": i,
                "class": names[i],
                "level": level,
                "layer": layer,
                "channel": pick.channel.index,
                "relevant": pick.relevant,
                "strided": strided_below(trace, layer),
                "maps": values,
            }
            lines.append(line)
            if sheet is not None:
                rows[i, position] = Row(
                    image=subject.pixels[i],
                    channel=f"{level}: channel {pick.channel.index}{' *' * (not pick.relevant)}\n{layer}",
                    title=f"predicted: {names[i]}",
                    maps={name: m[i].clamp(min=0) for name, m in shown.maps.items()},
                    words={n: words(v) for n, v in values.items()},
                )
    if sheet is not None:
        draw([rows[key] for key in sorted(rows)], len(LEVELS), *sheet)
    return lines


def words(values: dict[str, float]) -> str:
    """Return the caption of a picture."""
    known = {"grid": "grid", "iou": "IoU-AUC"}
    return ", ".join(f"{name} {100 * values[key]:.1f} %" for key, name in known.items() if key in values)


def measured(key: str, work: Path, folder: Path, *, quick: bool) -> Line:
    """Return a network's numbers, of the images shown and of others; the sheet is drawn in ``folder``."""
    title, load = SUBJECTS[key]
    data = "?size=64&n=60" * quick
    subject = load(work, data)
    images = subject.measured[:6] if quick else subject.measured
    every = torch.cat([subject.shown, images])
    at = len(subject.shown)  # the masks of the measured images begin here

    def masks(rows: slice) -> Tensor | None:
        return None if subject.masks is None else subject.masks[rows]

    shown = examine(subject, subject.shown, masks(slice(at)), (title, folder / f"{key}.png"))
    lines = []
    for start_at in range(at, len(every), _BATCH):
        rows = slice(start_at, start_at + _BATCH)
        found = examine(subject, every[rows], masks(rows))
        lines += [{**x, "image": x["image"] + start_at - at} for x in found]
    return {"images": len(images), "shown": shown, "measured": lines}


@study(PAGE, "runs/qualitative", subjects=SUBJECTS, out="sheets go beside it")
def main(results: Results, work: Path, *, quick: bool, subjects: tuple[str, ...] = tuple(SUBJECTS)) -> None:
    """Measure what is missing and write sheets, results.json and the README's tables."""
    if quick:
        subjects = ("flowers",)
    for line in results.missing({"subject": key} for key in subjects):
        line |= measured(line["subject"], work, results.file.parent, quick=quick)
