"""E2: identified channels of low, middle and high layers, by three kinds of pictures, with a number under each.

    python -m experiments.qualitative.run [--subjects squeezenet resnet20 flowers] [--work runs/qualitative] [--quick]

A network at a time: a contact sheet of three images, and results.json's line of what was measured on these and on more
images. What is there is not done again. SqueezeNet and ResNet-20 need the shared folder (see experiments/README.md)
and scikit-image; --quick takes tiny flowers.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.common.pages import commit, measured_before
from experiments.qualitative.choose import LEVELS, Choice, choose
from experiments.qualitative.maps import Maps, half_mass, pictures, strided_below
from experiments.qualitative.sheet import Row, draw
from experiments.qualitative.subjects import SUBJECTS, Subject
from experiments.qualitative.table import write_readme
from interpnet.engine import Instrument, Trace, evaluating, find_sites, instrument
from interpnet.evaluate import iou_auc
from interpnet.scores import ScoreReader
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent
_BATCH = 20


def choices(subject: Subject, images: Tensor, trace: Trace) -> tuple[list[int], list[list[Choice]]]:
    """Return each image's predicted class and its channel of each level."""
    reader = ScoreReader([trace[name] for name in subject.found.channels.layers])
    with torch.no_grad(), evaluating(subject.model), instrument(subject.model, Instrument(reads=reader.reads)):
        predicted = subject.model(images.clone()).argmax(1).tolist()
    scores = reader.take().double().numpy()
    return predicted, [choose(subject.found, subject.table, x, c) for x, c in zip(scores, predicted, strict=True)]


def numbers(shown: Maps, i: int, masks: Tensor | None) -> dict[str, dict[str, float]]:
    """Return what is measured of one image's pictures: grid, concentration, and overlap where there is a mask."""
    found: dict[str, dict[str, float]] = {}
    for name, maps in shown.maps.items():
        row = {"half": float(half_mass(maps[i : i + 1]))}
        if name in shown.grid:
            row["grid"] = float(shown.grid[name][i])
        if masks is not None:
            heat = maps[i : i + 1].clamp(min=0)
            row["iou"] = float(iou_auc(heat, masks[i : i + 1], constant="zero").values)
        found[name] = {k: round(v, 5) for k, v in row.items()}
    return found


def examine(
    subject: Subject, images: Tensor, masks: Tensor | None, title: str, sheet: Path | None
) -> list[dict[str, Any]]:
    """Return a line for every image and level; draw the sheet where its path is given."""
    trace = find_sites(subject.model, images[:1])
    predicted, chosen = choices(subject, images, trace)
    lines, rows = [], {}
    for position, level in enumerate(LEVELS):
        picks = [c[position] for c in chosen]
        shown = pictures(subject.model, images, [c.channel for c in picks])
        for i, pick in enumerate(picks):
            values = numbers(shown, i, masks)
            lines.append({
                "image": i, "class": subject.found.classes[predicted[i]], "level": level,
                "layer": pick.channel.layer, "channel": pick.channel.index, "relevant": pick.relevant,
                "strided": strided_below(trace, pick.channel.layer), "maps": values,
            })  # fmt: skip
            if sheet is not None:
                rows[i, position] = Row(
                    subject.pixels[i],
                    f"{level}: channel {pick.channel.index}{'' if pick.relevant else ' *'}\n{pick.channel.layer}",
                    f"predicted: {subject.found.classes[predicted[i]]}",
                    {name: m[i].clamp(min=0) for name, m in shown.maps.items()},
                    {n: words(v) for n, v in values.items()},
                )
    if sheet is not None:
        draw([rows[key] for key in sorted(rows)], len(LEVELS), title, sheet)
    return lines


def words(values: dict[str, float]) -> str:
    """Return the caption of a picture."""
    parts = [f"grid {100 * values['grid']:.1f} %"] if "grid" in values else []
    parts += [f"IoU-AUC {100 * values['iou']:.1f} %"] if "iou" in values else []
    return ", ".join(parts)


def measured(key: str, work: Path, folder: Path, options: str, n: int) -> dict[str, Any]:
    """Return a network's line of results.json; its sheet goes to ``folder``."""
    began = time.perf_counter()
    title, load = SUBJECTS[key]
    subject = load(work, options)
    at = len(subject.shown)
    masks = subject.masks
    shown = examine(subject, subject.shown, None if masks is None else masks[:at], title, folder / f"{key}.png")
    lines: list[dict[str, Any]] = []
    images = subject.measured[:n]
    for start in range(0, len(images), _BATCH):
        part = slice(start, min(start + _BATCH, len(images)))
        inside = None if masks is None else masks[at + part.start : at + part.stop]
        found = examine(subject, images[part], inside, title, None)
        lines += [{**x, "image": x["image"] + start} for x in found]
    return {
        "subject": key,
        "images": len(images),
        "shown": shown,
        "measured": lines,
        "seconds": round(time.perf_counter() - began, 1),
        "commit": commit(),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write sheets, results.json and the README's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--work", type=Path, default=Path("runs/qualitative"), help="weights and images")
    parser.add_argument("--out", type=Path, default=HERE / "results.json", help="sheets go beside it")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    options.work.mkdir(parents=True, exist_ok=True)
    lines = measured_before(options.out)
    done = {x["subject"] for x in lines}
    for key in ["flowers"] if options.quick else options.subjects:
        if key in done:
            continue
        data, n = ("?size=80&n=120", 6) if options.quick else ("", 10_000)
        lines.append(measured(key, options.work, options.out.parent, data, n))
        write_text(options.out, json.dumps(lines) + "\n")
        print(key, f"{lines[-1]['images']} images, {lines[-1]['seconds']} s", flush=True)
    if not options.quick:
        write_readme(HERE / "README.md", lines)


if __name__ == "__main__":
    main()
