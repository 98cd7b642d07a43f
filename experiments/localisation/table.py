"""The README's table and figure, from results.json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments.common.maps import PAPER
from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, emphasised, grouped, markdown, minutes, paired, signed
from interpnet.plotting.style import BLUE, MUTED, VERMILLION

CONTROLS = ("random", "edge", "center")  # maps that know nothing of the network
ABSOLUTE = f"{PAPER}, absolute"

#: Pairs of maps whose difference answers a question: (question, one map, the other).
QUESTIONS = (
    ("resampling, from the channels", PAPER, "channels guided plain"),
    ("resampling, from the logit", "logit guided resampled", "guided"),
    ("channels instead of the logit, resampled", PAPER, "logit guided resampled"),
    ("channels instead of the logit, plain", "channels guided plain", "guided"),
    ("guided instead of gradient, from the channels", PAPER, "channels gradient resampled"),
    ("absolute values instead of positive parts", ABSOLUTE, PAPER),
    ("the method against Guided Grad-CAM++", PAPER, "guided_gradcam++"),
    ("the method against LIME", PAPER, "lime"),
    ("the method, absolute, against LIME", ABSOLUTE, "lime"),
)


def by_map(lines: Iterable[Line], key: str) -> dict[str, tuple[float, float, int]]:
    """Return mean, standard deviation over networks, and number of networks, of each map."""
    values: dict[str, list[float]] = {}
    for line in lines:
        for name, scores in line["maps"].items():
            values.setdefault(name, []).append(scores[key])
    # A single network has no deviation to show: 0.
    return {name: (float(np.mean(v)), float(np.std(v, ddof=min(1, len(v) - 1))), len(v)) for name, v in values.items()}


def kinds_of(lines: Iterable[Line]) -> dict[tuple[str, str], list[Line]]:
    """Return the lines by kind of network, (architecture, data set), the small ones and the six classes first."""
    found = grouped(lines, "architecture", "variant").items()
    return dict(sorted(found, key=lambda item: (item[0][0] != "smallcnn", item[0][1] != "single-6c")))


def gain(lines: Iterable[Line], one: str, other: str) -> Interval | None:
    """Return a map's gain in IoU-AUC over another's, in points, paired over the networks; None below two."""
    maps = [line["maps"] for line in lines if {one, other} <= set(line["maps"])]
    if len(maps) < 2:
        return None
    return paired([100 * (found[one]["iou"] - found[other]["iou"]) for found in maps])


def differences(lines: list[Line]) -> str:
    """Return Markdown: paired differences over the networks of a kind, with Student's 95 % interval."""
    kinds = kinds_of(lines)
    rows = []
    for question, one, other in QUESTIONS:
        gains = [gain(part, one, other) for part in kinds.values()]
        rows.append([question, *("–" if found is None else signed(found) for found in gains)])
    return markdown(["gain in IoU-AUC, points", *map(", ".join, kinds)], rows)


def table(lines: list[Line]) -> str:
    """Return Markdown: a row per map, IoU-AUC in percent for each kind of network, best first by the first kind."""
    kinds = kinds_of(lines)
    iou = [by_map(part, "iou") for part in kinds.values()]
    first = ", ".join(next(iter(kinds)))
    here = next(iter(kinds.values()))
    absolute = by_map(here, "iou_abs")
    pointing = by_map(here, "pointing")
    head = ["map", *map(", ".join, kinds), f"absolute ({first})", f"pointing game ({first})"]
    doubled = [kind for kind in kinds if kind[1] == "double-12c"][:1]
    head += [f"against the plant ({', '.join(kind)})" for kind in doubled]
    plant = [by_map(kinds[kind], "iou_plant") for kind in doubled]
    rows = []
    for name in sorted(iou[0], key=lambda n: -iou[0][n][0]):
        row = [emphasised(name, [PAPER], CONTROLS), *(_cell(found, name) for found in iou)]
        row += [f"{100 * absolute[name][0]:.1f}", f"{pointing[name][0]:.2f}"]
        rows.append([*row, *(_cell(found, name).partition(" ")[0] for found in plant)])
    facts = [_facts(", ".join(kind), part) for kind, part in kinds.items()]
    return "\n".join([*facts, "", differences(lines), "", markdown(head, rows)])


def _facts(kind: str, lines: list[Line]) -> str:
    reached = [x["accuracy"] for x in lines]
    channels = np.mean([x["channels_a_class"] for x in lines])
    # Networks may have been asked about different numbers of images.
    counts = sorted({str(x["n_images"]) for x in lines}, key=int)
    images = " to ".join(dict.fromkeys([counts[0], counts[-1]]))
    covered = 100 * lines[0]["mask_share"]
    return (
        f"- {kind}: {len(lines)} networks, test accuracy {min(reached):.3f} to {max(reached):.3f}, {channels:.1f} "
        f"channels per class, {images} test images each, of which the mask covers {covered:.1f} %; "
        f"{minutes(lines):.0f} minutes"
    )


def _cell(found: dict[str, tuple[float, float, int]], name: str) -> str:
    if name not in found:
        return "–"
    mean, deviation, _ = found[name]
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def _colour(name: str) -> str:
    if name.startswith("channels"):
        return VERMILLION
    return MUTED if name in CONTROLS else BLUE


def figure(lines: list[Line], path: Path) -> None:
    """Draw the means as bars with standard deviations, for single-6c and the small network."""
    chosen = kinds_of(lines).get(("smallcnn", "single-6c"), lines)
    bars = sorted(by_map(chosen, "iou").items(), key=lambda item: item[1][0])
    names = [name for name, _ in bars]
    means = [100 * mean for _, (mean, _, _) in bars]
    deviations = [100 * deviation for _, (_, deviation, _) in bars]
    with figure_file(path, 7.5, 0.21 * len(names) + 1.0) as drawn:
        axes = drawn.subplots()
        at = range(len(names))
        axes.barh(at, means, xerr=deviations, color=list(map(_colour, names)), error_kw={"lw": 0.8})
        axes.set_yticks(at, names, fontsize=7.5)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlabel(f"IoU-AUC, % (mean and standard deviation of {len(chosen)} networks)")
        axes.grid(axis="x")
        axes.set_title("Identified channels (red), other maps (blue), controls (grey)")


PAGE = Page("experiments.localisation.run", table, {"iou.png": figure})  # the README, from results.json
