"""The README's tables and figure, from results.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common.pages import Page, figure_file
from experiments.common.tables import (
    Interval,
    Line,
    against,
    commits,
    grouped,
    markdown,
    minutes,
    paired,
    sections,
)
from experiments.maps.settings import BLURS, METHODS, PAPER, Setting, grid, settings_of
from experiments.maps.subjects import KINDS
from interpnet.plotting.style import BLUE, MUTED, VERMILLION

_SHOWN = 8  # settings of the grid
_WORDS = {"iou": "IoU-AUC", "energy": "energy inside", "gain": "insertion less deletion"}
#: The forms in which a method of the literature may come: (whether blurred, whether saturated).
FORMS = {
    "plain": (False, False),
    "at its best blur": (True, False),
    "saturated": (False, True),
    "saturated, at its best blur": (True, True),
}


class Case(NamedTuple):
    """The networks of a kind that are reported, and one of its measures."""

    kind: str
    measure: str
    lines: list[Line]

    @property
    def title(self) -> str:
        """The kind and the measure in words."""
        return f"{KINDS[self.kind].title}: {_WORDS[self.measure]}"

    def values(self, name: str) -> Any:
        """Return a map's value for each image of all networks, in percent; None where one lacks it."""
        parts = [_values(line, name, self.measure) for line in self.lines]
        if any(part is None for part in parts):
            return None
        return 100 * np.concatenate(parts)

    def less(self, one: str, other: str) -> Interval | None:
        """Return one map's value less another's in points, paired by image; None where one was not measured."""
        first = self.values(one)
        second = self.values(other)
        if first is None or second is None:
            return None
        return paired((first - second).tolist())

    def best(self, methods: Iterable[str], form: str) -> str | None:
        """Return the name of the best map of some methods in a form, its blur the best for these very images."""
        blurred, saturated = FORMS[form]
        names = [name for method in methods for name in _variants(method, blurred=blurred, saturated=saturated)]
        means = {name: found.mean() for name in names if (found := self.values(name)) is not None}
        if not means:
            return None
        return max(means, key=means.__getitem__)


def _values(line: Line, name: str, measure: str) -> Any:
    own = line["maps"].get(name, {})
    if measure != "gain":
        return np.array(own[measure]) if measure in own else None
    if "insertion" not in own:
        return None
    return np.subtract(own["insertion"], own["deletion"])


def _variants(method: str, *, blurred: bool, saturated: bool) -> list[str]:
    blurs = BLURS if blurred else BLURS[:1]
    words = [[method, *[f"blur {100 * blur:g} %"] * (blur > 0), *["saturated"] * saturated] for blur in blurs]
    return [", ".join(own) for own in words]


def _half(lines: Iterable[Line], half: str) -> list[Line]:
    return [line for line in lines if line["half"] == half]


def cases(lines: list[Line]) -> list[Case]:
    """Return what is reported of every kind: what counts first, then deletion and insertion."""
    found = []
    for (kind,), own in grouped(_half(lines, "report"), "kind").items():
        found += [Case(kind, measure, own) for measure in dict.fromkeys([own[0]["measure"], "gain"])]
    return found


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


def name_of(setting: Setting, case: Case) -> str:
    """Return the setting's name in a case; where no image names channels, all of them may be chosen."""
    if case.lines[0]["measure"] == "gain":
        setting = replace(setting, choose="all")
    return str(setting)


def selection_table(lines: list[Line]) -> str:
    """Return Markdown: the best settings of the development half, and the paper's."""
    kinds = list(grouped(_half(lines, "development"), "kind"))
    rows = []
    for place, (name, mean, means) in enumerate(ranked(lines), 1):
        if place <= _SHOWN or name == str(PAPER):
            rows.append([place, name, f"{mean:.1f}", *(f"{one:.1f}" for one in means)])
    return markdown(["rank", f"setting, of {len(grid())}", "mean", *(KINDS[kind].title for (kind,) in kinds)], rows)


def _cell(case: Case, name: str, other: str | None) -> str:
    """Return another map's mean and the chosen one's less it."""
    if other is None:
        return ""
    values = case.values(other)
    less = case.less(name, other)
    if values is None or less is None:
        return ""
    return f"{values.mean():.1f}: {against(less, more=True)}"


def summary_table(lines: list[Line]) -> str:
    """Return Markdown: the chosen map beside the paper's, relevance from the logit, and the best of each form."""
    setting = chosen_setting(lines)
    rows = []
    for case in cases(lines):
        name = name_of(setting, case)
        relevance = case.best(["lrp_epsilon_plus_flat"], "plain")
        cells = [_cell(case, name, str(PAPER)), _cell(case, name, relevance)]
        for form in FORMS:
            other = case.best(METHODS, form)
            text = _cell(case, name, other)
            cells.append(f"{other} {text}" if text else "")
        rows.append([case.title, len(case.values(name)), f"{case.values(name).mean():.1f}", *cells])
    heads = ["kind and measure, %", "images", "chosen", "the paper's", "LRP epsilon-plus-flat from the logit"]
    return markdown([*heads, *(f"best {form}" for form in FORMS)], rows)


def changes_table(lines: list[Line]) -> str:
    """Return Markdown: what each single change does to the chosen setting, by kind and measure."""
    setting = chosen_setting(lines)
    found = [case for case in cases(lines) if case.measure != "gain"]
    rows = []
    for other in settings_of(setting):
        if other == setting:
            continue
        less = [case.less(str(other), str(setting)) for case in found]
        rows.append([_change(other, setting), *("" if one is None else f"{one.mean:+.1f}" for one in less)])
    return markdown(
        ["changed", *(case.title for case in found)], [[cell.replace("-", "−") for cell in row] for row in rows]
    )


def _change(other: Setting, setting: Setting) -> str:
    if other == PAPER:
        return "all: the paper's"
    changed = [f"{key} {value}" for key, value in vars(other).items() if value != getattr(setting, key)]
    return ", ".join(changed)


def methods_table(lines: list[Line], form: str) -> str:
    """Return Markdown: every method in a form, by kind and measure, less the chosen map."""
    setting = chosen_setting(lines)
    found = cases(lines)
    rows = []
    for method in METHODS:
        cells = []
        for case in found:
            other = case.best([method], form)
            less = case.less(other, name_of(setting, case)) if other else None
            cells.append("" if less is None else f"{less.mean:+.1f}".replace("-", "−"))
        rows.append([method, *cells])
    return markdown(["method less chosen, points", *(case.title for case in found)], rows)


def counts_table(lines: list[Line]) -> str:
    """Return Markdown: the chosen setting with more and fewer channels, beside relevance from the logit."""
    rows = []
    for line in _half(lines, "channels"):
        for count, own in line["maps"].items():
            gain = np.subtract(own["insertion"], own["deletion"]).mean()
            rows.append([KINDS[line["kind"]].title, count, f"{100 * np.mean(own['energy']):.1f}", f"{100 * gain:.1f}"])
        case = next(case for case in cases(lines) if case.kind == line["kind"])
        relevance = [
            case._replace(measure=measure).values("lrp_epsilon_plus_flat").mean() for measure in ("energy", "gain")
        ]
        rows.append([KINDS[line["kind"]].title, "LRP from the logit", *(f"{one:.1f}" for one in relevance)])
    return markdown(["photographs", "channels", "energy inside, %", "insertion less deletion, %"], rows)


def of_counts(lines: list[Line]) -> str:
    """Return in a sentence what more channels change."""
    parts = []
    for line in _half(lines, "channels"):
        means = {count: 100 * float(np.mean(own["energy"])) for count, own in line["maps"].items()}
        gains = {
            count: 100 * float(np.mean(np.subtract(own["insertion"], own["deletion"])))
            for count, own in line["maps"].items()
        }
        words = ", ".join(f"{count}: {means[count]:.0f} and {gains[count]:.0f}" for count in means)
        parts.append(f"{KINDS[line['kind']].title} ({words})")
    return f"energy inside and insertion less deletion, %, by the number of channels: {'; '.join(parts)}"


def text(lines: list[Line]) -> str:
    """Return the README's tables."""
    parts = {
        "Choice, on the development half": selection_table(lines),
        "Report: the chosen map (value of the other: chosen less it, points, bold where the other is better)": (
            summary_table(lines)
        ),
        "What each part does": changes_table(lines),
        "More and fewer channels, on photographs": counts_table(lines),
        "Every method, plain": methods_table(lines, "plain"),
        "Every method, at its best blur": methods_table(lines, "at its best blur"),
    }
    return sections(
        parts, f"{minutes(lines):.0f} minutes, of one shared GPU or one processor thread. Commit {commits(lines)}."
    )


def figure(lines: list[Line], path: Path) -> None:
    """Draw the chosen map's difference from each method at its best blur, by kind, with intervals over images."""
    setting = chosen_setting(lines)
    found = [case for case in cases(lines) if case.measure != "gain"]
    if not found:
        return
    with figure_file(path, 2.1 * len(found) + 1, 3.6) as drawn:
        for axes, case in zip(np.atleast_1d(drawn.subplots(1, len(found), sharey=True)), found, strict=True):
            others = {"the paper's": str(PAPER)}
            others |= {method: case.best([method], "at its best blur") or "" for method in METHODS}
            for place, other in enumerate(others.values()):
                less = case.less(str(setting), other)
                if less is None:
                    continue
                colour = (MUTED, BLUE)[less.above]
                if less.below:
                    colour = VERMILLION
                axes.plot([less.low, less.high], [place, place], color=colour, lw=2)
                axes.plot(less.mean, place, "o", color=colour, ms=5)
            axes.axvline(0, color="black", lw=0.8)
            axes.set_yticks(range(len(others)), list(others), fontsize=8)
            axes.tick_params(axis="x", labelsize=8)
            axes.set_title(KINDS[case.kind].title.replace(", ", ",\n"), fontsize=8)
            axes.set_xlabel(f"{_WORDS[case.measure]},\nchosen less this, points", fontsize=8)
        drawn.set_layout_engine("tight")


PAGE = Page("experiments.maps.run", text, {"differences.png": figure})
