"""Q5: do maps mark the coloured part, or the whole plant, which carries information, too.

    python -m experiments.coloured_part.run

Nothing is measured here: E3 has measured both overlaps. Reads its results.json, writes the README's table and the
figure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.coloured_part.marks import BETWEEN, NEITHER, PART, PLANT, Mark, marks
from experiments.common.maps import PAPER
from experiments.common.pages import fill, markdown, signed
from experiments.localisation.table import CONTROLS
from interpnet.plotting.style import BLUE, GREEN, INK, MUTED, VERMILLION, house_style, new_figure
from interpnet.support.io import atomic_path

HERE = Path(__file__).parent
MEASURED = HERE.parent / "localisation" / "results.json"
COMMAND = "experiments.coloured_part.run"
_COLOURS = {PART: VERMILLION, PLANT: GREEN, BETWEEN: BLUE, NEITHER: MUTED}


def table(found: dict[tuple[str, str], dict[str, Mark]]) -> str:
    """Return Markdown: for each kind of network a row a map, the nearest to the part first."""
    parts = []
    for (architecture, variant), rows in found.items():
        counts = {w: sum(m.marks == w for n, m in rows.items() if n not in CONTROLS) for w in _COLOURS}
        parts.append(
            f"**{architecture}, {variant}**: of {sum(counts.values())} maps, {counts[PART]} are nearer the part, "
            f"{counts[PLANT]} nearer the plant, {counts[BETWEEN]} undecided, {counts[NEITHER]} no better than a "
            "control on either."
        )
        cells = []
        for name in sorted(rows, key=lambda n: -rows[n].difference[0]):
            mark = "**" if name == PAPER else "*" if name in CONTROLS else ""
            row = rows[name]
            cells.append([f"{mark}{name}{mark}", f"{row.part:.1f}", f"{row.plant:.1f}", signed(row.difference),
                          f"{row.pointing:.2f}", row.marks])  # fmt: skip
        head = ["map", "part", "plant", "part less plant", "pointing game, part", "marks"]
        parts.append(markdown(head, cells))
    return "\n\n".join(parts)


def figure(found: dict[tuple[str, str], dict[str, Mark]], path: Path) -> None:
    """Draw each map's overlap with the part against that with the plant; the diagonal parts them."""
    with house_style():
        drawn = new_figure(5.2 * len(found), 4.8)
        panels = drawn.subplots(1, len(found), squeeze=False)[0]
        for axis, ((architecture, variant), rows) in zip(panels, found.items(), strict=True):
            top = 1.12 * max(max(m.part, m.plant) for m in rows.values())
            axis.plot([0, top], [0, top], color=INK, linewidth=0.8)
            for (word, colour), shape in zip(_COLOURS.items(), "osD^", strict=True):
                chosen = [m for m in rows.values() if m.marks == word]
                axis.plot([m.plant for m in chosen], [m.part for m in chosen], shape, color=colour, label=word, ms=5)
            for name, (right, above) in NAMED.items():
                if name in rows:
                    axis.annotate(
                        name, (rows[name].plant, rows[name].part), xytext=(right, above), textcoords="offset points",
                        fontsize=8, arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.6, "shrinkB": 3},
                    )  # fmt: skip
            axis.set_xlim(0, top)
            axis.set_ylim(0, top)
            axis.set_xlabel("IoU-AUC against the whole plant, %")
            axis.set_ylabel("IoU-AUC against the coloured part, %")
            axis.set_title(f"{architecture}, {variant}")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title="nearer to")
        with atomic_path(path) as part_file:
            drawn.savefig(part_file, dpi=110, bbox_inches="tight")


#: Maps with their name in the figure, and how far from the dot it stands, right and above, in points.
NAMED = {
    PAPER: (-30, 50), "guided": (-74, 8), "gradcam": (-6, -24), "lime": (14, -12), "integrated_gradients": (-40, -30),
    "center": (-10, 12), "random": (-30, -14), "deeplift_revealcancel": (-90, 10), "deep_taylor": (60, -6),
}  # fmt: skip


def written(lines: list[dict[str, Any]], page: Path, picture: Path) -> None:
    """Write table and figure."""
    found = marks(lines)
    if not found or not np.all([len(rows) for rows in found.values()]):
        raise SystemExit("E3 has not measured two networks of a kind on double-12c yet")
    fill(page, COMMAND, table(found))
    figure(found, picture)


def main(arguments: list[str] | None = None) -> None:
    """Write the README's table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=MEASURED, help="what E3 has measured")
    parser.add_argument("--page", type=Path, default=HERE / "README.md")
    options = parser.parse_args(arguments)
    written(json.loads(options.results.read_text()), options.page, options.page.parent / "part_and_plant.png")


if __name__ == "__main__":
    main()
