"""V's tables and figure, from selection.json, confirmation.json and E3's results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments.common.maps import PAPER as PAPER_MAP
from experiments.common.pages import figure_file, fill
from experiments.common.tables import Line, commits, emphasised, markdown, minutes, paired, sections, signed
from experiments.localisation.table import ABSOLUTE
from experiments.variant.select import PAPER, Setting, alone, chosen, ranked
from interpnet.plotting.style import BLUE, VERMILLION

COMMAND = "experiments.variant.run"
CONTROLS = ("random", "edge", "center")  # of deletion and insertion
_E3 = Path(__file__).parent.parent / "localisation" / "results.json"
_SHOWN = 6  # settings, and the paper's
_MEASURES = {"iou": "IoU-AUC", "precision": "average precision", "pointing": "pointing game"}  # on masks


def selection_table(lines: list[Line]) -> str:
    """Return Markdown: the best settings by IoU-AUC, and the paper's."""
    found = ranked(lines)
    precise = {s: mean for s, mean, _ in ranked(lines, "precision")}
    rows = []
    for place, (setting, mean, spread) in enumerate(found, 1):
        if place > _SHOWN and setting != PAPER:
            continue
        name = emphasised(str(setting), [str(PAPER)]) + " (the paper's)" * (setting == PAPER)
        rows.append([str(place), name, f"{100 * mean:.1f} ± {100 * spread:.1f}", f"{100 * precise[setting]:.1f}"])
    return markdown(["rank", f"setting, of {len(found)}", "IoU-AUC, %", "average precision, %"], rows)


def single_changes(lines: list[Line]) -> str:
    """Return Markdown: what each change alone does to the paper's variant, paired over networks."""
    rows = [[field, str(value), _points(iou), _points(precise)] for field, value, iou, precise in alone(lines)]
    return markdown(["changed alone", "to", "IoU-AUC, points", "average precision, points"], rows)


def _points(values: Iterable[float]) -> str:
    return signed(paired([100 * v for v in values]))


def gains(lines: list[Line], data: str, measure: str) -> list[float]:
    """Return the chosen variant's gain over the paper's: by network on masks, by image on CIFAR-10."""
    here = [x for x in lines if x["data"] == data]
    if data == "cifar10":
        return [b - a for x in here for a, b in zip(x["paper"][measure], x["chosen"][measure], strict=True)]
    return [x["chosen"][measure] - x["paper"][measure] for x in here]


def confirmation_table(lines: list[Line], setting: Setting) -> str:
    """Return Markdown: both variants on data that nothing was chosen on."""
    rows = []
    here = [x for x in lines if x["data"] == "double-12c"]
    for measure, name in _MEASURES.items():
        means = [f"{100 * float(np.mean([x[k][measure] for x in here])):.1f}" for k in ("paper", "chosen")]
        change = _points(gains(lines, "double-12c", measure))
        rows.append([f"double-12c, {len(here)} small networks", f"{name}, %", *means, change])
    for variant, pairs in resnet18(setting).items():
        means = [f"{100 * float(np.mean(values)):.1f}" for values in zip(*pairs, strict=True)]
        change = _points(b - a for a, b in pairs)
        rows.append([f"{variant}, {len(pairs)} ResNet-18 (E3)", "IoU-AUC, %", *means, change])
    for x in (x for x in lines if x["data"] == "cifar10"):
        for measure, direction in (("deletion", "lower"), ("insertion", "higher")):
            means = [f"{np.mean(x[k][measure]):.3f}" for k in ("paper", "chosen")]
            change = signed(paired(gains(lines, "cifar10", measure)), 3)
            subject = f"CIFAR-10, {x['network']}, {x['n_images']} images"
            rows.append([subject, f"{measure} ({direction} is better)", *means, change])
            rows += [["", f"control: {one}", f"{np.mean(x[one][measure]):.3f}", "", ""] for one in CONTROLS]
    return markdown(["data", "measure", "paper", "chosen", "difference (95 % interval)"], rows)


def reason_table(lines: list[Line]) -> str:
    """Return Markdown: the chosen variant's gain where petals are darker, and brighter, than what is around them."""
    rows = []
    for name in ("darker", "brighter"):
        images = f"{np.mean([x[name]['images'] for x in lines]):.0f}"
        rows.append([f"petals {name} than a ring around them", images, _points(x[name]["gain"] for x in lines)])
    rows.append(["rank correlation of darkness and gain", "", signed(paired([x["spearman"] for x in lines]), 2)])
    return markdown(["single-6c", "images per network", "gain in IoU-AUC, points"], rows)


def resnet18(setting: Setting) -> dict[str, list[tuple[float, float]]]:
    """Return E3's pairs (paper, chosen) on ResNet-18, where the chosen variant is one that E3 measures."""
    if setting != Setting(reduction="abs") or not _E3.exists():
        return {}
    found: dict[str, list[tuple[float, float]]] = {}
    for x in json.loads(_E3.read_text()):
        if x["architecture"] == "resnet18":
            pair = (x["maps"][PAPER_MAP]["iou"], x["maps"][ABSOLUTE]["iou"])
            found.setdefault(x["variant"], []).append(pair)
    return {k: v for k, v in found.items() if len(v) > 1}


def figure(lines: list[Line], path: Path) -> None:
    """Draw what each change alone does, in points of IoU-AUC."""
    found = [(f"{field}: {value}", [100 * v for v in iou]) for field, value, iou, _ in alone(lines)]
    found.sort(key=lambda x: float(np.mean(x[1])))  # the largest gain on top
    with figure_file(path, 6.5, 0.3 * len(found) + 1.0, 120) as drawn:
        axes = drawn.subplots()
        means = np.array([np.mean(v) for _, v in found])
        axes.barh(range(len(found)), means, color=np.where(means > 0, BLUE, VERMILLION).tolist(), alpha=0.6)
        for i, (_, values) in enumerate(found):
            axes.plot(values, [i] * len(values), "k.", ms=4)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.axvline(0, color="black", lw=0.8)
        axes.set_xlabel("change of IoU-AUC against the paper's variant, points (dots: networks)")
        axes.set_title("One change at a time, single-6c")


def write_readme(folder: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    lines, confirmed, reasons = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("selection", "confirmation", "reason")
    )
    setting = chosen(lines)
    size = f"{len(lines)} small networks, single-6c, {lines[0]['n_images']} test images each"
    parts = {
        f"Selection: {size}": selection_table(lines),
        "One change at a time": single_changes(lines),
        f"Confirmation of: {setting}": confirmation_table(confirmed, setting),
        "Where the gain is": reason_table(reasons),
    }
    facts = f"{minutes([*lines, *confirmed]):.0f} minutes of one core. Commit {commits(confirmed)}."
    fill(folder / "README.md", COMMAND, sections(parts, facts))
    figure(lines, folder / "changes.png")
