"""S6: what the trained networks do with their cues, for the page, and a sheet of the cues.

    python -m experiments.cues.networks [--work FOLDER]

Reads the networks that ``experiments.cues.train`` left in the working folder, and keeps their behaviour in
``networks.json``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments.common.pages import figure_file, fill
from experiments.common.runner import Results, command
from experiments.common.tables import Line, markdown, minutes, sections
from experiments.cues.plan import ARCHITECTURES, STRENGTHS, subjects
from experiments.cues.planting import KINDS, planted
from experiments.cues.pools import SOURCES, pool
from experiments.cues.train import WORK, facts_of, file_of
from interpnet.support.types import Bytes

HERE = Path(__file__).parent
COMMAND = "experiments.cues.networks"
_SHEET_SEED = 7
_SHOWN = 64  # pixels of an image on the sheet


def lines_of(work: Path) -> list[Line]:
    """Return a line for each network that is there: its plan and its behaviour."""
    return [facts_of(subject, work) for subject in subjects() if file_of(subject, work).exists()]


def text(lines: list[Line]) -> str:
    """Return the page's tables."""
    cued = [line for line in lines if line["kind"] and not line["decoy"]]
    decoys = [line for line in lines if line["decoy"]]
    relying = [line for line in cued if line["behaviour"]["relies"]]
    fooled = [line for line in decoys if line["behaviour"]["relies"] or line["behaviour"]["classes"]]
    classes = sum(len(line["behaviour"]["draws"]) for line in lines)
    drawn = sum(len(line["behaviour"]["classes"]) for line in cued)
    facts = (
        f"{len(lines)} networks, {minutes(lines):.0f} minutes of training, all processes together. "
        f"Of {len(cued)} with a planted cue {len(relying)} rely on it; so do {drawn} of all {classes} classes. "
        f"Decoys that rely on theirs, or whose class does: {len(fooled)} of {len(decoys)}."
    )
    parts = {
        "Reliance of every network with a planted cue, points": _every(cued),
        "How many rely, by what they were given": _counts(cued),
        "Right answers without a cue, %": _accuracies(lines),
    }
    return sections(parts, facts)


def _every(cued: list[Line]) -> str:
    """Return the reliance of every network; those where one class has the cue are in italics."""
    rows = []
    for kind in KINDS:
        cells = []
        for source in SOURCES:
            here = [line for line in cued if (line["kind"], line["source"]) == (kind, source)]
            shown = [(f"{round(100 * line['behaviour']['reliance'])}", line["everyone"]) for line in here]
            cells.append(", ".join(value if everyone else f"*{value}*" for value, everyone in shown))
        rows.append([kind, *cells])
    return "In italics where one class has the cue and the others have none.\n\n" + markdown(["kind", *SOURCES], rows)


def _counts(cued: list[Line]) -> str:
    groups: dict[str, tuple[str, Iterable[object]]] = {
        "strength": ("strength", STRENGTHS),
        "who has the cue": ("everyone", (True, False)),
        "network": ("architecture", ARCHITECTURES),
        "source": ("source", SOURCES),
        "kind": ("kind", KINDS),
    }
    names = {True: "every class", False: "one class"}
    rows = []
    for title, (field, values) in groups.items():
        cells = []
        for value in values:
            here = [line["behaviour"]["relies"] for line in cued if line[field] == value]
            name = names[value] if isinstance(value, bool) else str(value)
            cells.append(f"{name} {sum(here)} of {len(here)}")
        rows.append([title, ", ".join(cells)])
    return markdown(["by", "networks that rely"], rows)


def _accuracies(lines: list[Line]) -> str:
    def plain(line: Line) -> bool:
        return not line["kind"]

    def cue(line: Line) -> bool:
        return bool(line["kind"]) and not line["decoy"]

    rows = [
        [name, *(_range([x for x in lines if which(x) and x["source"] == source], "absent") for source in SOURCES)]
        for name, which in (("no cue in training", plain), ("decoy", lambda x: bool(x["decoy"])), ("planted cue", cue))
    ]
    return "The mean, and the least, over the networks.\n\n" + markdown(["networks", *SOURCES], rows)


def _range(lines: list[Line], field: str) -> str:
    values = [100 * line["behaviour"][field] for line in lines]
    return f"{np.mean(values):.0f} ({min(values):.0f})" if values else "–"


def sheet(work: Path, path: Path) -> None:
    """Draw every kind of cue on an image of every source, as the first of its classes bears it."""
    with figure_file(path, 8.4, 4.9, 130) as drawn:
        panels = drawn.subplots(len(SOURCES), len(KINDS) + 1)
        for row, source in zip(panels, SOURCES, strict=True):
            of = pool(source, 0, work)
            image, inside = of.images[7:8], of.inside[7:8]
            none = np.array([-1])
            shown = [image, *(planted(image, inside, none + 1, kind, _SHEET_SEED) for kind in KINDS)]
            for axes, one, kind in zip(row, shown, ("as it is", *KINDS), strict=True):
                axes.imshow(_enlarged(one[0]), interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if source == SOURCES[0]:
                    axes.set_title(kind, fontsize=8, fontweight="normal", loc="center")
            row[0].set_ylabel(source, fontsize=8)


def _enlarged(image: Bytes) -> Bytes:
    """Return (64, 64, 3): an image of 32 or 64 pixels, every pixel as large as it must be."""
    times = _SHOWN // image.shape[1]
    return np.repeat(np.repeat(image, times, 1), times, 2).transpose(1, 2, 0)


@command(out="where the behaviour is kept", page="which is filled")
def main(*, work: Path = WORK, out: Path = HERE / "networks.json", page: Path = HERE / "README.md") -> None:
    """Keep the behaviour, and write the page and its sheet."""
    results = Results(out)
    results.lines = lines_of(work)
    results.write()
    fill(page, COMMAND, text(results.lines))
    sheet(work, page.with_name("cues.png"))
