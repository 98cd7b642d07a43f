"""V's tables and figure, from selection.json, confirmation.json and E3's results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.pages import fill, markdown, paired, signed
from experiments.variant.grid import PAPER, Setting
from experiments.variant.select import alone, chosen, ranked
from interpnet.plotting.style import BLUE, VERMILLION, house_style, new_figure
from interpnet.support.io import atomic_path

COMMAND = "experiments.variant.run"
_E3 = Path(__file__).parent.parent / "localisation" / "results.json"
_ABSOLUTE = Setting(reduction="abs")
_SHOWN = 6


def selection_table(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: the best settings by IoU-AUC, and the paper's."""
    found, precise = ranked(lines), {s: mean for s, mean, _ in ranked(lines, "precision")}
    place = next(i for i, (s, *_) in enumerate(found) if s == PAPER)
    rows = []
    for i in sorted({*range(min(_SHOWN, len(found))), place}):
        setting, mean, spread = found[i]
        name = f"**{setting}** (the paper's)" if setting == PAPER else str(setting)
        rows.append([str(i + 1), name, f"{100 * mean:.1f} ± {100 * spread:.1f}", f"{100 * precise[setting]:.1f}"])
    return markdown(["rank", f"setting, of {len(found)}", "IoU-AUC, %", "average precision, %"], rows)


def single_changes(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: what each change alone does to the paper's variant, paired over networks."""
    rows = [
        [field, str(value), *(signed(paired([100 * v for v in values])) for values in (iou, precision))]
        for field, value, iou, precision in alone(lines)
    ]
    return markdown(["changed alone", "to", "IoU-AUC, points", "average precision, points"], rows)


def gains(lines: list[dict[str, Any]], data: str, measure: str) -> list[float]:
    """Return the chosen variant's gain over the paper's: by network on masks, by image on CIFAR-10."""
    here = [x for x in lines if x["data"] == data]
    if data == "cifar10":
        return [b - a for x in here for a, b in zip(x["paper"][measure], x["chosen"][measure], strict=True)]
    return [x["chosen"][measure] - x["paper"][measure] for x in here]


def confirmation_table(lines: list[dict[str, Any]], setting: Setting) -> str:
    """Return Markdown: both variants on data that nothing was chosen on."""
    rows = []
    here = [x for x in lines if x["data"] == "double-12c"]
    for measure, name in (("iou", "IoU-AUC"), ("precision", "average precision"), ("pointing", "pointing game")):
        one, other = (100 * float(np.mean([x[k][measure] for x in here])) for k in ("paper", "chosen"))
        change = signed(paired([100 * g for g in gains(lines, "double-12c", measure)]))
        rows.append([f"double-12c, {len(here)} small networks", f"{name}, %", f"{one:.1f}", f"{other:.1f}", change])
    for variant, pairs in resnet18(setting).items():
        one, other = (100 * float(np.mean(p)) for p in zip(*pairs, strict=True))
        change = signed(paired([100 * (b - a) for a, b in pairs]))
        rows.append([f"{variant}, {len(pairs)} ResNet-18 (E3)", "IoU-AUC, %", f"{one:.1f}", f"{other:.1f}", change])
    for x in (x for x in lines if x["data"] == "cifar10"):
        for measure in ("deletion", "insertion"):
            one, other = (float(np.mean(x[k][measure])) for k in ("paper", "chosen"))
            label = f"{measure} {'(lower is better)' if measure == 'deletion' else '(higher is better)'}"
            change = signed(paired(gains(lines, "cifar10", measure)), 3)
            subject = f"CIFAR-10, {x['network']}, {x['n_images']} images"
            rows.append([subject, label, f"{one:.3f}", f"{other:.3f}", change])
            rows += [
                ["", f"control: {control}", f"{np.mean(x[control][measure]):.3f}", "", ""]
                for control in ("random", "edge", "center")
            ]
    return markdown(["data", "measure", "paper", "chosen", "difference (95 % interval)"], rows)


def reason_table(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: the chosen variant's gain where petals are darker, and brighter, than what is around them."""
    rows = []
    for name in ("darker", "brighter"):
        change = signed(paired([100 * x[name]["gain"] for x in lines]))
        rows.append(
            [f"petals {name} than a ring around them", f"{np.mean([x[name]['images'] for x in lines]):.0f}", change]
        )
    rows.append(["rank correlation of darkness and gain", "", signed(paired([x["spearman"] for x in lines]), 2)])
    return markdown(["single-6c", "images a network", "gain in IoU-AUC, points"], rows)


def resnet18(setting: Setting) -> dict[str, list[tuple[float, float]]]:
    """Return E3's pairs (paper, chosen) on ResNet-18, where the chosen variant is one that E3 measures."""
    if setting != _ABSOLUTE or not _E3.exists():
        return {}
    found: dict[str, list[tuple[float, float]]] = {}
    for x in json.loads(_E3.read_text()):
        if x["architecture"] == "resnet18":
            both = (x["maps"][n]["iou"] for n in ("channels guided resampled", "channels guided resampled, absolute"))
            found.setdefault(x["variant"], []).append((next(both), next(both)))
    return {k: v for k, v in found.items() if len(v) > 1}


def figure(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw what each change alone does, in points of IoU-AUC."""
    found = [(f"{field}: {value}", [100 * v for v in iou]) for field, value, iou, _ in alone(lines)]
    found.sort(key=lambda x: float(np.mean(x[1])))
    with house_style():
        drawn = new_figure(6.5, 0.3 * len(found) + 1.0)
        axes = drawn.subplots()
        means = [float(np.mean(v)) for _, v in found]
        axes.barh(range(len(found)), means, color=[BLUE if m > 0 else VERMILLION for m in means], alpha=0.6)
        for i, (_, values) in enumerate(found):
            axes.plot(values, [i] * len(values), "k.", ms=4)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.axvline(0, color="black", lw=0.8)
        axes.set_xlabel("change of IoU-AUC against the paper's variant, points (dots: networks)")
        axes.set_title("One change at a time, single-6c")
        with atomic_path(path) as part:
            drawn.savefig(part, dpi=120, bbox_inches="tight")


def write_readme(folder: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    lines = json.loads((folder / "selection.json").read_text())
    confirmed = json.loads((folder / "confirmation.json").read_text())
    setting = chosen(lines)
    minutes = sum(x["seconds"] for x in [*lines, *confirmed]) / 60
    size = f"{len(lines)} small networks, single-6c, {lines[0]['n_images']} test images each"
    parts = {
        f"Selection: {size}": selection_table(lines),
        "One change at a time": single_changes(lines),
        f"Confirmation of: {setting}": confirmation_table(confirmed, setting),
        "Where the gain is": reason_table(json.loads((folder / "reason.json").read_text())),
    }
    facts = f"{minutes:.0f} minutes of one core. Commit {', '.join(sorted({x['commit'] for x in confirmed}))}."
    fill(folder / "README.md", COMMAND, "\n\n".join([facts, *(f"### {k}\n\n{v}" for k, v in parts.items())]))
    figure(lines, folder / "changes.png")
