"""The README's tables and figure, from results.json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, against, commits, grouped, markdown, minutes, paired, sections
from experiments.maps.settings import BLURS, CONTROLS, METHODS, PAPER, Setting, grid, settings_of
from experiments.maps.subjects import KINDS
from interpnet.plotting.style import BLUE, MUTED, VERMILLION

_SHOWN = 8  # settings of the grid
_WORDS = {"iou": "IoU-AUC", "energy": "energy inside", "gain": "insertion less deletion"}


def _half(lines: Iterable[Line], half: str) -> list[Line]:
    return [line for line in lines if line["half"] == half]


def ranked(lines: list[Line]) -> list[tuple[str, float, list[float]]]:
    """Return (setting, mean over kinds, mean of each kind) of the grid on the development half, the best first.

    A kind's networks are averaged first, so that no kind counts twice; settings that a network refuses are left out.
    """
    kinds = grouped(_half(lines, "development"), "kind")
    found = []
    for name in map(str, grid()):
        parts = [[line["settings"].get(name, np.nan) for line in own] for own in kinds.values()]
        means = [100 * float(np.mean(part)) for part in parts]
        if kinds and np.isfinite(means).all():
            found.append((name, float(np.mean(means)), means))
    return sorted(found, key=lambda row: -row[1])


def chosen_setting(lines: list[Line]) -> Setting:
    """Return the setting with the largest mean over the kinds of the development half; the paper's without any."""
    found = ranked(lines)
    if not found:
        return PAPER
    return {str(one): one for one in grid()}[found[0][0]]


def values(line: Line, name: str, measure: str) -> Any:
    """Return a map's value for each image (n,), None where it was not measured."""
    own = line["maps"].get(name, {})
    if measure == "gain":
        if "insertion" not in own:
            return None
        return np.subtract(own["insertion"], own["deletion"])
    return np.array(own[measure]) if measure in own else None


def pooled(lines: list[Line], name: str, measure: str) -> Any:
    """Return the values of all images of some networks, None where one lacks them."""
    parts = [values(line, name, measure) for line in lines]
    if any(part is None for part in parts):
        return None
    return 100 * np.concatenate(parts)


def variants(method: str, *, saturated: bool) -> list[str]:
    """Return the names of a method's maps, plain and at every blur."""
    words = [[method] + [f"blur {100 * blur:g} %"] * (blur > 0) for blur in BLURS]
    return [", ".join([*own, *["saturated"] * saturated]) for own in words]


def best(lines: list[Line], method: str, measure: str, *, saturated: bool = False, blurred: bool = True) -> str | None:
    """Return the name of a method's map at the blur that is best for these very images; without blur the plain one."""
    names = variants(method, saturated=saturated)[: None if blurred else 1]
    means = {name: found.mean() for name in names if (found := pooled(lines, name, measure)) is not None}
    if not means:
        return None
    return max(means, key=means.__getitem__)


def difference(lines: list[Line], one: str, other: str, measure: str) -> Interval | None:
    """Return one map's value less another's in points, paired by image; None where one was not measured."""
    pair = [pooled(lines, name, measure) for name in (one, other)]
    if pair[0] is None or pair[1] is None:
        return None
    return paired((pair[0] - pair[1]).tolist())


def measures_of(lines: list[Line]) -> list[str]:
    """Return what is reported of a kind: what counts first, then deletion and insertion."""
    return list(dict.fromkeys([lines[0]["measure"], "gain"]))


def selection_table(lines: list[Line]) -> str:
    """Return Markdown: the best settings of the development half, and the paper's."""
    kinds = list(grouped(_half(lines, "development"), "kind"))
    rows = []
    for place, (name, mean, means) in enumerate(ranked(lines), 1):
        if place <= _SHOWN or name == str(PAPER):
            rows.append([place, name, f"{mean:.1f}", *(f"{one:.1f}" for one in means)])
    return markdown(["rank", f"setting, of {len(grid())}", "mean", *(KINDS[kind].title for (kind,) in kinds)], rows)


def report_table(lines: list[Line], kind: str, measure: str) -> str:
    """Return Markdown of one kind: the chosen map beside the paper's and every method, plain, blurred, saturated."""
    own = [line for line in _half(lines, "report") if line["kind"] == kind]
    name = str(chosen_setting(lines))
    rows = []
    for setting in settings_of(chosen_setting(lines)):
        found = pooled(own, str(setting), measure)
        if found is not None:
            rows.append(
                (
                    found.mean(),
                    [
                        f"**{setting}**" if str(setting) == name else str(setting),
                        "",
                        _less(own, name, str(setting), measure),
                    ],
                )
            )
    for method in (*METHODS, *CONTROLS):
        for word, options in (
            ("plain", {"blurred": False}),
            ("best blur", {}),
            ("best blur, saturated", {"saturated": True}),
        ):
            other = best(own, method, measure, **options)
            if other is not None:
                mean = pooled(own, other, measure).mean()
                rows.append(
                    (
                        mean,
                        [
                            f"*{method}*" if method in CONTROLS else method,
                            word + _blur_of(other),
                            _less(own, name, other, measure),
                        ],
                    )
                )
    rows.sort(key=lambda row: -row[0])
    return markdown(
        ["map", "form", f"{_WORDS[measure]}, %", "chosen less this"],
        [[*cells[:2], f"{mean:.1f}", cells[2]] for mean, cells in rows],
    )


def _blur_of(name: str) -> str:
    found = [word for word in name.split(", ") if word.startswith("blur")]
    return f" ({found[0].removeprefix('blur ')})" if found else ""


def _less(lines: list[Line], name: str, other: str, measure: str) -> str:
    found = difference(lines, name, other, measure)
    if found is None or name == other:
        return ""
    return against(found, more=True)


def text(lines: list[Line]) -> str:
    """Return the README's tables."""
    parts = {"Choice, on the development half": selection_table(lines)}
    for (kind,), own in grouped(_half(lines, "report"), "kind").items():
        for measure in measures_of(own):
            networks = f"{len(own)} network{'s' * (len(own) > 1)}, {sum(line['images'] for line in own)} images"
            parts[f"{KINDS[kind].title}: {_WORDS[measure]} ({networks})"] = report_table(lines, kind, measure)
    return sections(parts, f"{minutes(lines):.0f} minutes. Commit {commits(lines)}.")


def figure(lines: list[Line], path: Path) -> None:
    """Draw the chosen map's difference from each method at its best blur, by kind, with intervals over images."""
    name = str(chosen_setting(lines))
    kinds = list(grouped(_half(lines, "report"), "kind").items())
    with figure_file(path, 3.0 * len(kinds), 4.2) as drawn:
        for axes, ((kind,), own) in zip(np.atleast_1d(drawn.subplots(1, len(kinds), sharey=True)), kinds, strict=True):
            measure = own[0]["measure"]
            others = {"paper": str(PAPER)} | {method: best(own, method, measure) for method in METHODS}
            for place, other in enumerate(others.values()):
                found = difference(own, name, other, measure) if other else None
                if found is None:
                    continue
                colour = (MUTED, BLUE)[found.above]
                if found.below:
                    colour = VERMILLION
                axes.plot([found.low, found.high], [place, place], color=colour, lw=2)
                axes.plot(found.mean, place, "o", color=colour, ms=5)
            axes.axvline(0, color="black", lw=0.8)
            axes.set_yticks(range(len(others)), list(others))
            axes.set_title(KINDS[kind].title, fontsize=8)
            axes.set_xlabel(f"{_WORDS[measure]},\nchosen less this, points", fontsize=8)


PAGE = Page("experiments.maps.run", text, {"differences.png": figure})
