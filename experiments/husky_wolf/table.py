"""S4's text and its chart, from results.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, markdown, minutes, number, sections, signed
from experiments.husky_wolf.photographs import CLASSES
from experiments.husky_wolf.pictures import DISCS, MATERIALS, NOTHING, OUTLINE
from interpnet.plotting.style import BLUE, GRID, VERMILLION, row_lines

COMMAND = "experiments.husky_wolf.run"
ANSWERS = {"head": "the head", "own outputs": "EfficientNet-Lite0's own outputs"}
_COLOURS = {"head": (VERMILLION, "o"), "own outputs": (BLUE, "s")}
#: An effect that a test at 5 % finds with a probability of 0.8 is so many standard errors; an interval is 2 x 1.96.
_DETECTABLE = 2.8 / 1.96
Lines = Sequence[Line]


def one(lines: Lines, **keys: Any) -> Line:
    """Return the line with some keys; an error where it is not there."""
    (line,) = [line for line in lines if keys.items() <= line.items()]
    return line


def gap(lines: Lines, who: str) -> float:
    """Return how far the test wolves' log-odds are above the huskies', on average."""
    return float(one(lines, what="photographs")["gap"][who])


def changed(lines: Lines, material: str, who: str, c: str, key: str = "change") -> Interval:
    """Return what a material around the outlined animals does to the wolf's log-odds, in log-odds."""
    return Interval(*one(lines, what="material", material=material, shape=OUTLINE)[who][c][key])


def swapped(lines: Lines, shape: str, who: str, key: str) -> Interval:
    """Return a figure of the exchanged surroundings."""
    return Interval(*one(lines, what="swaps", shape=shape)["answers"][who][key])


def detectable(found: Interval) -> float:
    """Return the effect that would have been found with a probability of 0.8, from an interval's width."""
    return (found.high - found.low) / 2 * _DETECTABLE


def text(lines: Lines) -> str:
    """Return the page's part that is written from results."""
    parts = {
        "The photographs": _photographs(lines),
        "In each other's surroundings": _swaps(lines),
        "Cut out, with snow or grass around": _materials(lines),
        "Nothing but the material": _nothing(lines),
        "Channels": _channels(lines),
        "Dogs of other breeds": _dogs(lines),
        "The library's search, and its repairs": _repairs(lines),
        "What 100 photographs cannot decide": _undecided(lines),
    }
    return sections(parts, f"{minutes(lines):.0f} minutes; measured at {commits(lines)}.")


def _percent(found: Sequence[float]) -> str:
    mean, low, high = (f"{100 * value:.0f}" for value in found)
    return f"{mean} ({low} to {high})"


def _photographs(lines: Lines) -> str:
    line = one(lines, what="photographs")
    rows = []
    for name, group in line["groups"].items():
        part, c, snow = name.split(", ")
        level = {"snow 0": "none", "snow 1": "a little", "snow 2": "on the ground"}[snow]
        right = [f"{group['right'][who]}" if group["n"] else "" for who in ANSWERS]
        rows.append([part, c, level, group["n"], *right])
    table = markdown(["part", "class", "snow", "photographs", *(f"right, {name}" for name in ANSWERS.values())], rows)
    accuracies = [f"{name} {_percent(line['accuracy']['test'][who])} %" for who, name in ANSWERS.items()]
    return (
        f"Right on the 20 test photographs: {', '.join(accuracies)}. The wolves' log-odds lie {gap(lines, 'head'):.1f} "
        f"above the huskies' for the head, {gap(lines, 'own outputs'):.1f} for the network's own outputs. The rule "
        f"finds the snow that the eye found with an area under the curve of {line['rule, train']:.2f} (training) and "
        f"{line['rule, test']:.2f} (test).\n\n{table}"
    )


def _swaps(lines: Lines) -> str:
    rows = []
    for shape in (OUTLINE, *DISCS):
        uncovered = one(lines, what="swaps", shape=shape)["uncovered"]
        cells = [_percent(swapped(lines, shape, who, key)) for who in ANSWERS for key in ("share", "follow")]
        rows.append([shape, f"{100 * uncovered:.0f}", *cells])
    head = ["what is kept of a photograph", "leaves uncovered, %"]
    head += [f"{name}: {what}, %" for name in ANSWERS.values() for what in ("share of the surroundings", "follow them")]
    return markdown(head, rows)


def _materials(lines: Lines) -> str:
    rows = []
    for material in MATERIALS:
        row = [material]
        for c in CLASSES:
            found = one(lines, what="material", material=material, shape=OUTLINE)["head"][c]
            row += [signed(found["change"]), f"{100 * found['taken for a wolf']:.0f}"]
        own = one(lines, what="material", material=material, shape=OUTLINE)["own outputs"]
        row += [signed(own[c]["change"]) for c in CLASSES]
        rows.append(row)
    head = ["around the animal", "husky", "taken for a wolf, %", "wolf", "taken for a wolf, %"]
    return (
        "Change of the wolf's log-odds against the photograph as it is: the head's, and (last two) the network's "
        "own.\n\n" + markdown([*head, "husky, own outputs", "wolf, own outputs"], rows)
    )


def _nothing(lines: Lines) -> str:
    rows = []
    for material in MATERIALS:
        line = one(lines, what="material", material=material, shape=NOTHING)
        row = [material]
        for who in ANSWERS:
            found = line[who]["beyond grass"]
            row += [number(line[who]["mean"], "+.1f"), signed(found) if found else ""]
        rows.append([*row, f"{100 * line['head']['taken for a wolf']:.0f}"])
    head = ["picture", "head: log-odds of a wolf", "beyond grass", "own outputs: log-odds", "beyond grass"]
    return markdown([*head, "head: pieces taken for a wolf, %"], rows)


def _channels(lines: Lines) -> str:
    line = one(lines, what="channels", shape=OUTLINE)
    top = ", ".join(f"{k} ({number(rise, '+.2f')})" for k, rise, _ in line["top"][:5])
    return (
        f"Of the {line['rise']:+.1f} between grass and snow around huskies, {line['channels for half of it']} of the "
        f"1,280 channels that the head reads carry half; the first are {top}. Of the first ten {line['both in top']} "
        "are also among the ten that tell the training photographs' classes apart best; over all channels the rank "
        f"correlation of the two is {number(line['rank correlation'], '.2f')}."
    )


def _dogs(lines: Lines) -> str:
    line = one(lines, what="dogs")
    rows = []
    for who, name in ANSWERS.items():
        found = line[who]
        rows.append(
            [
                name,
                _percent(found["taken, snow"]),
                _percent(found["taken, none"]),
                number(found["log-odds, snow"], "+.1f"),
                number(found["log-odds, none"], "+.1f"),
                f"{found['p']:.3f}",
            ]
        )
    head = ["", "in snow, taken for a wolf, %", "without snow, %", "log-odds in snow", "without snow", "p, one-sided"]
    return markdown(head, rows)


def _repairs(lines: Lines) -> str:
    rows: list[list[str]] = []
    for line in lines:
        if line["what"] != "repair":
            continue
        if not rows:
            rows.append(["as it is", *_tests(line["tests"]["before"])])
            refits = [other for other in lines if other["what"] == "refit"]
            rows += [[f"fitted again, surroundings {one_['partners']}", *_tests(one_["tests"])] for one_ in refits]
        if "after" in line["tests"]:
            rows.append([line["how"], *_tests(line["tests"]["after"])])
        else:
            rows.append([f"{line['how']}: {line['why']}", *[""] * 6])
    head = ["head", "right, %", "share of surroundings, %", "snow beyond grass, huskies", "the same, wolves"]
    head += ["wolves on grass taken for huskies, %", "dogs in snow taken for wolves, of 6"]
    return f"{_search(one(lines, what='search'))}\n\n{markdown(head, rows)}"


def _search(line: Line) -> str:
    discs = [
        f"{part}, {' and '.join(f'{_percent(Interval(*share))} %' for share in shares)}"
        for part, shares in line["shares"].items()
        if "disc" in part
    ]
    found = line["classes"].items()
    largest = [
        f"{c}: {one_['part']}, {_percent(Interval(*one_['share']))} %, where {100 * one_['usual']:.0f} % is usual"
        for c, one_ in found
    ]
    suspicious = [c for c, one_ in found if one_["suspicious"]]
    return (
        f"The search on the 80 training photographs suspects {' and '.join(suspicious) or 'neither class'}. "
        f"Shares of huskies and wolves in its screening: {'; '.join(discs)}. The parts furthest beyond what is usual, "
        f"measured again: {'; '.join(largest)}."
    )


def _tests(found: Line) -> list[str]:
    beyond = [Interval(*found["snow beyond grass"][c]).times(100 / found["gap"]) for c in CLASSES]
    return [
        f"{100 * found['accuracy']:.0f}",
        _percent(found["swaps"]["share"]),
        *(f"{signed(one_, 0)} % of the gap" for one_ in beyond),
        f"{100 * found['wolves on grass taken for huskies']:.0f}",
        str(found["dogs in snow taken for wolves"]),
    ]


def _undecided(lines: Lines) -> str:
    snow = changed(lines, "snow", "head", "husky", "beyond grass")
    return (
        "No photograph shows a husky in snow or a wolf without it, so that accuracy by group, worst-group accuracy and "
        "a regression on class and snow are not to be had: in these photographs the two are one. On the cut-out "
        f"huskies an effect of {detectable(snow):.1f} of log-odds would have been found with a probability of 0.8 "
        f"({100 * detectable(snow) / gap(lines, 'head'):.0f} % of the gap between the classes)."
    )


def draw(lines: Lines, path: Path) -> None:
    """Draw what each material does to the wolf's log-odds, as a share of the gap between the classes."""
    with figure_file(path, 9.0, 4.2) as drawn:
        panels = drawn.subplots(1, len(CLASSES), sharey=True)
        for panel, c in zip(panels, CLASSES, strict=True):
            panel.axvline(0, color=GRID, linewidth=1.2)
            for shift, (who, (colour, mark)) in zip((0.14, -0.14), _COLOURS.items(), strict=True):
                for row, material in enumerate(reversed(MATERIALS)):
                    mean, low, high = changed(lines, material, who, c).times(100 / gap(lines, who))
                    panel.plot([low, high], [row + shift] * 2, color=colour, linewidth=1.4)
                    panel.plot(mean, row + shift, mark, color=colour, markersize=5, label=None if row else ANSWERS[who])
            panel.set_title({"husky": "Huskies, cut out", "wolf": "Wolves, cut out"}[c])
            panel.set_xlabel("towards the wolf, % of the gap")
            row_lines(panel)
        panels[0].set_yticks(range(len(MATERIALS)), list(reversed(MATERIALS)))
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)


PAGE = Page(COMMAND, text, {"effects.png": draw})
