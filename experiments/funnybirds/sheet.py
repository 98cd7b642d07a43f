"""A picture of C4's birds: each beside the same scene without single parts, with what that costs the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.common.pages import figure_file
from experiments.common.tables import number
from experiments.funnybirds.birds import Birds
from interpnet.plotting.style import MUTED, VERMILLION
from interpnet.support.types import Float64

_BIRDS = 4


def sheet(data: Birds, lost: Float64, path: Path) -> None:
    """Draw a row for each of the first birds of some classes that show all parts."""
    birds = data.test
    whole = [i for i in range(len(birds)) if data.seen[i].all()]
    _, firsts = np.unique(birds.labels[whole], return_index=True)
    rows = [whole[i] for i in firsts[:: max(1, len(firsts) // _BIRDS)][:_BIRDS]]
    with figure_file(path, 1.45 * (1 + len(birds.parts)), 1.6 * len(rows), 70) as drawn:
        panels = drawn.subplots(len(rows), 1 + len(birds.parts), squeeze=False)
        for line, i in zip(panels, rows, strict=True):
            line[0].imshow(birds.image(i))
            worst = int(lost[i].argmax())
            for p, (axes, part) in enumerate(zip(line[1:], birds.parts, strict=True)):
                axes.imshow(birds.without(i, (part,)))
                axes.set_xlabel(number(lost[i, p], "+.1f"), fontsize=8, color=VERMILLION if p == worst else MUTED)
            for axes in line:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
        for axes, title in zip(panels[0], ["picture", *(f"without {part}" for part in birds.parts)], strict=True):
            axes.set_title(title, fontsize=8)
