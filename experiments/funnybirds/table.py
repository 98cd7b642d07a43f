"""C4's page: what removing parts costs, and how well each way of explaining orders the parts."""

from __future__ import annotations

from pathlib import Path

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, against, commits, markdown, minutes, number, sections
from experiments.funnybirds.importance import BEST, CONTROLS, MAP, NAMED, OURS, PAINTED, USUAL, USUAL_OF_CLASS
from interpnet.plotting.style import BLUE, GREEN, INK, MUTED, VERMILLION

COMMAND = "experiments.funnybirds.run"
KNOWING = (PAINTED, USUAL, USUAL_OF_CLASS)  # these have seen more than the image and the network
KINDS = {"ours": (OURS, MAP), "dissection": (NAMED, BEST), "control": CONTROLS, "knows more": KNOWING}
_COLOURS = {"ours": BLUE, "dissection": GREEN, "control": VERMILLION, "knows more": INK, "map": MUTED}


def kind(name: str) -> str:
    """Return what a way is: ours, dissection, control, a map, or one that knows more."""
    return next((title for title, names in KINDS.items() if name in names), "map")


def both(lines: list[Line]) -> tuple[list[Line], Line]:
    """Return the lines of single networks, and the one over all of the most networks."""
    return [line for line in lines if "network" in line], max(
        (line for line in lines if "ways" in line), key=lambda line: int(line["networks"])
    )


def sorted_ways(line: Line) -> list[tuple[str, dict[str, Interval]]]:
    """Return each way with its intervals, the best order first."""
    ways = {name: {key: Interval(*value) for key, value in one.items()} for name, one in line["ways"].items()}
    return sorted(ways.items(), key=lambda one: -one[1]["order"].mean)


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    single, joint = both(lines)
    right = ", ".join(f"{100 * line['accuracy']:.0f}" for line in single)
    named = "; ".join(
        f"{sum(line['named'].values())} of {line['channels']} ("
        + ", ".join(f"{part} {n}" for part, n in line["named"].items())
        + ")"
        for line in single
    )
    facts = (
        f"{len(single)} network{'s' * (len(single) > 1)}, {right} % of {single[0]['images']} test images right. "
        f"Channels named after a part: {named}. {minutes(lines):.0f} minutes. Measured at {commits(lines)}."
    )
    parts = {
        "What removing a part costs": _effects(single),
        "Order of the parts": _orders(joint),
    }
    return sections(parts, facts)


def _effects(single: list[Line]) -> str:
    rows = []
    for part in single[0]["parts"]:
        every = [line["parts"][part] for line in single]
        lost = ", ".join(number(one[0]) for one in every)
        other = ", ".join(f"{100 * one[1]:.0f}" for one in every)
        rows.append([part, every[0][2], lost, other])
    return markdown(["part", "images that show it", "log-odds lost, each network", "other answer, %"], rows)


def _orders(joint: Line) -> str:
    rows = []
    for name, one in sorted_ways(joint):
        order, top, across = (one[key] for key in ("order", "top", "across"))
        shown = f"**{name}**" if name == OURS else name
        difference = "" if name == OURS else against(one["ours less it"], more=True, digits=2)
        # A mean that leaves the image itself out runs against it.
        images = "" if name in {USUAL, USUAL_OF_CLASS} else _cell(across)
        rows.append([shown, kind(name), _cell(order), f"{100 * top.mean:.0f}", images, difference])
    head = ["way", "kind", "order of parts in an image", "first part right, %", "images by a part", "ours less it"]
    return markdown(head, rows)


def _cell(value: Interval) -> str:
    return f"{number(value.mean, '.2f')} ({number(value.low, '.2f')} to {number(value.high, '.2f')})"


def draw(lines: list[Line], path: Path) -> None:
    """Draw the agreement of every way with its interval."""
    ways = sorted_ways(both(lines)[1])[::-1]
    with figure_file(path, 6.4, 0.19 * len(ways) + 0.9) as drawn:
        axes = drawn.subplots()
        for y, (name, one) in enumerate(ways):
            colour, (mean, low, high) = _COLOURS[kind(name)], one["order"]
            axes.plot([low, high], [y, y], "-", color=colour, lw=1.4)
            axes.plot([mean], [y], "o", color=colour, markersize=4)
        axes.set_yticks(range(len(ways)), [name for name, _ in ways], fontsize=7)
        for label, (name, _) in zip(axes.get_yticklabels(), ways, strict=True):
            label.set_color(_COLOURS[kind(name)])
        axes.axvline(0, color=MUTED, lw=0.8)
        axes.set_xlabel("rank correlation with what removing the parts costs")
        handles = [axes.plot([], [], "o-", color=colour, label=title)[0] for title, colour in _COLOURS.items()]
        axes.legend(handles=handles, frameon=False, fontsize=7, loc="lower right")


PAGE = Page(COMMAND, text, {"orders.png": draw})
