"""The README's table and figure, from results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.maps import PAPER
from experiments.common.pages import begin, fill, markdown, paired, signed
from interpnet.plotting.style import BLUE, MUTED, VERMILLION, house_style, new_figure
from interpnet.support.io import atomic_path

_COMMAND = "experiments.localisation.run"
BEGIN = begin(_COMMAND)
CONTROLS = ("random", "edge", "center")


def by_map(lines: list[dict[str, Any]], key: str) -> dict[str, tuple[float, float, int]]:
    """Return mean, standard deviation over networks, and number of networks, of each map."""
    values: dict[str, list[float]] = {}
    for line in lines:
        for name, scores in line["maps"].items():
            values.setdefault(name, []).append(scores[key])
    return {
        name: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, len(v)) for name, v in values.items()
    }


#: Pairs of maps whose difference answers a question: (question, one map, the other).
QUESTIONS = (
    ("resampling, from the channels", PAPER, "channels guided plain"),
    ("resampling, from the logit", "logit guided resampled", "guided"),
    ("channels instead of the logit, resampled", PAPER, "logit guided resampled"),
    ("channels instead of the logit, plain", "channels guided plain", "guided"),
    ("guided instead of gradient, from the channels", PAPER, "channels gradient resampled"),
    ("absolute values instead of positive parts", f"{PAPER}, absolute", PAPER),
    ("the method against Guided Grad-CAM++", PAPER, "guided_gradcam++"),
    ("the method against LIME", PAPER, "lime"),
    ("the method, absolute, against LIME", f"{PAPER}, absolute", "lime"),
)


def differences(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: paired differences over the networks of a kind, with Student's 95 % interval."""
    kinds = kinds_of(lines)
    head = ["gain in IoU-AUC, points", *(f"{a}, {v}" for a, v in kinds)]
    rows = []
    for question, one, other in QUESTIONS:
        cells = []
        for kind in kinds:
            pairs = [
                100 * (x["maps"][one]["iou"] - x["maps"][other]["iou"])
                for x in lines
                if (x["architecture"], x["variant"]) == kind and {one, other} <= set(x["maps"])
            ]
            if len(pairs) < 2:
                cells.append("–")
                continue
            cells.append(signed(paired(pairs)))
        rows.append([question, *cells])
    return markdown(head, rows)


def kinds_of(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the kinds of networks, (architecture, data set), the small ones and the six classes first."""
    found = {(x["architecture"], x["variant"]) for x in lines}
    return sorted(found, key=lambda k: (k[0] != "smallcnn", k[1] != "single-6c"))


def table(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: a row a map, IoU-AUC in percent for each kind of network, best first by the first kind."""
    kinds = kinds_of(lines)
    parts = {k: [x for x in lines if (x["architecture"], x["variant"]) == k] for k in kinds}
    iou = {k: by_map(parts[k], "iou") for k in kinds}
    absolute = {k: by_map(parts[k], "iou_abs") for k in kinds}
    plant = {k: by_map(parts[k], "iou_plant") for k in kinds}
    pointing = {k: by_map(parts[k], "pointing") for k in kinds}
    head = ["map", *(f"{architecture}, {variant}" for architecture, variant in kinds)]
    first = kinds[0]
    head += [f"absolute ({first[0]}, {first[1]})", f"pointing game ({first[0]}, {first[1]})"]
    doubled = [k for k in kinds if k[1] == "double-12c"]
    if doubled:
        head.append(f"against the plant ({doubled[0][0]}, double-12c)")
    rows = []
    for name in sorted(iou[first], key=lambda n: -iou[first][n][0]):
        mark = "**" if name == PAPER else "*" if name in CONTROLS else ""
        row = [f"{mark}{name}{mark}", *(_cell(iou[k], name) for k in kinds)]
        row += [f"{100 * absolute[first][name][0]:.1f}", f"{pointing[first][name][0]:.2f}"]
        if doubled:
            row.append(f"{100 * plant[doubled[0]][name][0]:.1f}" if name in plant[doubled[0]] else "–")
        rows.append(row)
    facts = [
        f"- {a}, {v}: {len(parts[a, v])} networks, test accuracy {min(x['accuracy'] for x in parts[a, v]):.3f} to "
        f"{max(x['accuracy'] for x in parts[a, v]):.3f}, {np.mean([x['channels_a_class'] for x in parts[a, v]]):.1f} "
        f"channels a class, {_counts(parts[a, v])} test images each, of which the mask covers "
        f"{100 * parts[a, v][0]['mask_share']:.1f} %; {sum(x['seconds'] for x in parts[a, v]) / 60:.0f} minutes"
        for a, v in kinds
    ]
    return "\n".join(["", *facts, "", differences(lines), "", markdown(head, rows), ""])


def _counts(lines: list[dict[str, Any]]) -> str:
    """Return how many images each network was asked about: one number, or the smallest and the largest."""
    counts = sorted({int(x["n_images"]) for x in lines})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _cell(found: dict[str, tuple[float, float, int]], name: str) -> str:
    return f"{100 * found[name][0]:.1f} ± {100 * found[name][1]:.1f}" if name in found else "–"


def figure(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw the means as bars with standard deviations, for single-6c and the small network."""
    chosen = [x for x in lines if x["variant"] == "single-6c" and x["architecture"] == "smallcnn"] or lines
    iou = by_map(chosen, "iou")
    names = sorted(iou, key=lambda n: iou[n][0])
    with house_style():
        drawn = new_figure(7.5, 0.21 * len(names) + 1.0)
        axes = drawn.subplots()
        colours = [VERMILLION if n.startswith("channels") else MUTED if n in CONTROLS else BLUE for n in names]
        axes.barh(
            range(len(names)), [100 * iou[n][0] for n in names], xerr=[100 * iou[n][1] for n in names], color=colours,
            error_kw={"lw": 0.8},
        )  # fmt: skip
        axes.set_yticks(range(len(names)), names, fontsize=7.5)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlabel(f"IoU-AUC, % (mean and standard deviation of {len(chosen)} networks)")
        axes.grid(axis="x")
        axes.set_title("Identified channels (red), other maps (blue), controls (grey)")
        with atomic_path(path) as part:
            drawn.savefig(part, dpi=110, bbox_inches="tight")


def write_readme(path: Path, lines: list[dict[str, Any]], picture: Path) -> None:
    """Put the table between the README's marks and draw the figure."""
    fill(path, _COMMAND, table(lines))
    figure(lines, picture)
