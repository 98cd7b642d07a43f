"""Q5: do maps mark the coloured part, or the whole plant, which carries information, too.

    python -m experiments.coloured_part.run

Nothing is measured here: reads the overlaps of E3's results.json, writes the README's table and the figure.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common.maps import PAPER
from experiments.common.pages import figure_file, fill
from experiments.common.runner import command
from experiments.common.tables import Interval, Line, emphasised, markdown, paired, signed
from experiments.localisation.table import CONTROLS, kinds_of
from interpnet.plotting.style import BLUE, GREEN, INK, MUTED, VERMILLION

PART = "part"  # the words of the table
PLANT = "plant"
BETWEEN = "undecided"
NEITHER = "neither"


class Mark(NamedTuple):
    """What a map marks, over the networks of a kind."""

    part: float  # Mean IoU-AUC in percent against the coloured part, and against the whole plant
    plant: float
    pointing: float  # Share of images whose largest value lies in the coloured part
    difference: Interval  # `part` less `plant` in points, with the ends of its 95 % interval over networks
    marks: str  # See :func:`verdict`


Marks = dict[tuple[str, str], dict[str, Mark]]  # by kind of network and map


def verdict(difference: Interval, part: float, plant: float, controls: tuple[float, float]) -> str:
    """Return which mask a map resembles.

    A map equal to the part's mask has IoU 1 with the part and |part|/|plant| with the plant, one equal to the plant's
    mask the reverse; so the sign of the difference says which is nearer. It says nothing of a map that overlaps
    neither better than a control.

    Examples
    --------
    >>> gain = Interval(3.0, 1.0, 5.0)
    >>> [verdict(gain.times(sign), 20.0, 20.0, (8.0, 15.0)) for sign in (1, -1)], verdict(gain, 7.0, 12.0, (8.0, 15.0))
    (['part', 'plant'], 'neither')
    """
    if part <= controls[0] and plant <= controls[1]:
        return NEITHER
    if difference.above:
        return PART
    return PLANT if difference.below else BETWEEN


def marks(lines: list[Line]) -> Marks:
    """Return for each kind of network on double-12c (with two networks or more) what each map marks."""
    found = {}
    for kind, part in kinds_of(x for x in lines if x["variant"] == "double-12c").items():
        networks = [x["maps"] for x in part]
        if len(networks) < 2:  # no interval over networks
            continue
        measures = {
            name: {k: float(np.mean([n[name][k] for n in networks])) for k in ("iou", "iou_plant", "pointing")}
            for name in networks[0]
            if all(name in n for n in networks)
        }
        known = [measures[c] for c in CONTROLS if c in measures]
        best = (100 * max(m["iou"] for m in known), 100 * max(m["iou_plant"] for m in known))
        rows = {}
        for name, mean in measures.items():
            difference = paired([100 * (n[name]["iou"] - n[name]["iou_plant"]) for n in networks])
            both = (100 * mean["iou"], 100 * mean["iou_plant"])
            rows[name] = Mark(*both, mean["pointing"], difference, verdict(difference, *both, best))
        found[kind] = rows
    return found


HERE = Path(__file__).parent
MEASURED = HERE.parent / "localisation" / "results.json"  # by E3
COMMAND = "experiments.coloured_part.run"
_STYLES = {PART: (VERMILLION, "o"), PLANT: (GREEN, "s"), BETWEEN: (BLUE, "D"), NEITHER: (MUTED, "^")}
#: Maps with their name in the figure, and how far from the dot it stands, right and above, in points.
NAMED = {
    PAPER: (-30, 50),
    "guided": (-74, 8),
    "gradcam": (-6, -24),
    "lime": (14, -12),
    "integrated_gradients": (-40, -30),
    "center": (-10, 12),
    "random": (-30, -14),
    "deeplift_revealcancel": (-90, 10),
    "deep_taylor": (60, -6),
}


def table(found: Marks) -> str:
    """Return Markdown: for each kind of network a row per map, the nearest to the part first."""
    parts = []
    for kind, rows in found.items():
        counts = {w: sum(m.marks == w for n, m in rows.items() if n not in CONTROLS) for w in _STYLES}
        parts.append(
            f"**{', '.join(kind)}**: of {sum(counts.values())} maps, {counts[PART]} are nearer the part, "
            f"{counts[PLANT]} nearer the plant, {counts[BETWEEN]} undecided, {counts[NEITHER]} no better than a "
            "control on either."
        )
        cells = []
        for name, row in sorted(rows.items(), key=lambda item: -item[1].difference.mean):
            figures = [f"{row.part:.1f}", f"{row.plant:.1f}", signed(row.difference), f"{row.pointing:.2f}", row.marks]
            cells.append([emphasised(name, [PAPER], CONTROLS), *figures])
        parts.append(markdown(["map", "part", "plant", "part less plant", "pointing game, part", "marks"], cells))
    return "\n\n".join(parts)


def figure(found: Marks, path: Path) -> None:
    """Draw each map's overlap with the part against that with the plant; the diagonal parts them."""
    with figure_file(path, 5.2 * len(found), 4.8) as drawn:
        panels = drawn.subplots(1, len(found), squeeze=False)[0]
        for axis, (kind, rows) in zip(panels, found.items(), strict=True):
            top = 1.12 * max(max(m.part, m.plant) for m in rows.values())  # room above the highest dot
            axis.plot([0, top], [0, top], color=INK, linewidth=0.8)  # on the diagonal neither mask is nearer
            for word, (colour, shape) in _STYLES.items():
                chosen = [m for m in rows.values() if m.marks == word]
                axis.plot([m.plant for m in chosen], [m.part for m in chosen], shape, color=colour, label=word, ms=5)
            for name in (name for name in NAMED if name in rows):
                axis.annotate(
                    name,
                    (rows[name].plant, rows[name].part),
                    xytext=NAMED[name],
                    textcoords="offset points",
                    fontsize=8,
                    arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.6, "shrinkB": 3},
                )
            axis.set_xlim(0, top)
            axis.set_ylim(0, top)
            axis.set_xlabel("IoU-AUC against the whole plant, %")
            axis.set_ylabel("IoU-AUC against the coloured part, %")
            axis.set_title(", ".join(kind))
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title="nearer to")


@command(results="what E3 has measured", page="the figure goes beside it")
def main(*, results: Path = MEASURED, page: Path = HERE / "README.md") -> None:
    """Write the README's table and the figure."""
    found = marks(json.loads(results.read_text()))
    if not found:
        raise SystemExit("E3 has not measured two networks of a kind on double-12c yet")
    fill(page, COMMAND, table(found))
    figure(found, page.parent / "part_and_plant.png")
