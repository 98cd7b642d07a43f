"""C3's page: what concepts do to each class, and the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, markdown, minutes, number, paired, sections, signed
from experiments.tcav.images import CLASSES, CONCEPTS, LAND, ON_WATER, STRIPED, STRIPES, TEXTURES, WATERS
from interpnet.plotting.style import BLUE, MUTED, VERMILLION

COMMAND = "experiments.tcav.run"
WHOLE, POOLED, CAPTUM = "whole maps", "means of channels", "captum"
AGAIN = "last layer alone, other images"
RANDOM = "random weights, "  # before another way: the same of a network without training
UNTRAINED = tuple(f"{RANDOM}{way}" for way in (WHOLE, POOLED, AGAIN))
WAYS = (WHOLE, POOLED, AGAIN, *UNTRAINED, CAPTUM)
LEVEL = 0.05
#: By concept: the concept it stands beside, and the classes that it should raise.
BESIDE = {STRIPES: (TEXTURES, STRIPED), WATERS: (LAND, ON_WATER)}


def lines_by_way(lines: list[Line]) -> dict[str, Line]:
    """Return the lines by what was read."""
    return {line["way"]: line for line in lines}


def beside(line: Line, name: str, concept: str) -> Interval:
    """Return a concept's effect on a class less that of the concept beside it: mean of layers, over images."""
    of_images = np.array(line["classes"][name]["by_image"])
    k, other = (line["concepts"].index(one) for one in (concept, BESIDE[concept][0]))
    return paired((of_images[k] - of_images[other]).tolist())


def layers_found(line: Line, name: str, concept: str, sign: int = 1) -> int:
    """Return at how many layers a class's effect differs from random sets' in one direction."""
    own = line["classes"][name]
    k = line["concepts"].index(concept)
    found = (np.array(own["effect_p_value"][k]) <= LEVEL) & np.array(line["separates"][k])
    return int((found & (sign * np.array(own["effect"][k]) > 0)).sum())


def raised(line: Line, name: str, concept: str) -> bool:
    """Whether a concept raises a class: beyond random sets at a layer, at none downwards, and beyond its control."""
    beyond = layers_found(line, name, concept) > 0 and layers_found(line, name, concept, -1) == 0
    return beyond and beside(line, name, concept).above


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    ways = lines_by_way(lines)
    read = [line for line in lines if line["way"] != CAPTUM]
    facts = [
        f"- {line['way']}: {line['sets']} random sets, {minutes([line]):.0f} minutes on {line['device']}; the vectors "
        f"tell {_accuracies(line)} of images held out from random ones (random sets from each other "
        f"{100 * float(np.mean(line['random_accuracy'])):.0f} %); beyond random sets in {_beyond(line)} cells"
        for line in read
    ]
    parts = {
        f"Effect in log-odds, {line['way']}: each layer in turn, **bold** where beyond random sets": _effects(line)
        for line in read
    }
    parts |= {
        "A concept less the one beside it: mean of the layers, with the 95 % interval over images": _against(read)
    }
    first = [*facts, f"- measured at {commits(lines)}"]
    if CAPTUM in ways:
        line = ways[CAPTUM]
        first.append(
            f"- captum on the same {line['vectors']} vectors at `{line['layer']}`: scores differ by at most "
            f"{line['score']:.0e}, vectors by {line['vector']:.0e}, the effect by {line['effect']:.0e} (it is "
            f"{line['effect of captum']:.2f})"
        )
    return sections(parts, "\n".join(first))


def _accuracies(line: Line) -> str:
    means = [(name, 100 * float(np.mean(own))) for name, own in zip(line["concepts"], line["accuracy"], strict=True)]
    return ", ".join(f"{name} {mean:.0f} %" for name, mean in means)


def _beyond(line: Line) -> str:
    found = np.array([own["effect_p_value"] for own in line["classes"].values()]) <= LEVEL
    return f"{int(found.sum())} of {found.size}"


def _effects(line: Line) -> str:
    rows = []
    for name in CLASSES:
        own = line["classes"][name]
        cells = []
        for k, concept in enumerate(line["concepts"]):
            values = zip(own["effect"][k], own["effect_p_value"][k], strict=True)
            words = " ".join(
                f"{'**' * (p <= LEVEL)}{number(effect, '+.3f')}{'**' * (p <= LEVEL)}" for effect, p in values
            )
            scores = " ".join(f"{score:.2f}" for score in own["score"][k])
            expected = concept in BESIDE and name in BESIDE[concept][1]
            cells.append(f"{words}{' ↑' * expected}<br>{scores}")
        rows.append([name.replace("_", " "), *cells, " ".join(f"{one:.3f}" for one in own["random_effect"])])
    head = ["class", *line["concepts"], "19 of 20 random sets below"]
    return f"Below each effect the score; ↑: expected.\n\n{markdown(head, rows)}"


def _against(lines: list[Line]) -> str:
    rows = []
    for concept, (other, expected) in BESIDE.items():
        for name in CLASSES:
            cells = []
            for line in lines:
                value = beside(line, name, concept)
                mark = ", raised" if raised(line, name, concept) else ""
                cells.append(f"{signed(value, 3)}{mark}")
            title = f"{concept} less {other}: {name.replace('_', ' ')}"
            rows.append([title + " ↑" * (name in expected), *cells])
    return markdown(["", *(line["way"] for line in lines)], rows)


def figure(lines: list[Line], path: Path) -> None:
    """Draw the effects in whole maps: a panel for each concept, classes downwards, a mark for each layer."""
    line = lines_by_way(lines)[WHOLE]
    names = list(CLASSES)
    with figure_file(path, 11.5, 0.36 * len(names) + 1.5) as drawn:
        panels = drawn.subplots(1, len(CONCEPTS), sharey=True, sharex=True)
        for axes, concept in zip(panels, CONCEPTS, strict=True):
            k = line["concepts"].index(concept)
            for row, name in enumerate(names):
                own = line["classes"][name]
                expected = concept in BESIDE and name in BESIDE[concept][1]
                for i, marker in enumerate("os^"):
                    y = row + 0.22 * (i - 1)
                    usual = own["random_effect"][i]
                    axes.plot([-usual, usual], [y, y], color=MUTED, alpha=0.25, lw=5, solid_capstyle="butt")
                    low, high = own["effect_interval"][k][i]
                    colour = VERMILLION if expected else BLUE
                    axes.plot([low, high], [y, y], color=colour, lw=1)
                    beyond = own["effect_p_value"][k][i] <= LEVEL
                    axes.plot(own["effect"][k][i], y, marker, color=colour, ms=5, mfc=colour if beyond else "white")
            axes.axvline(0, color=MUTED, lw=0.8)
            axes.set_title(concept)
            axes.grid(axis="x")
        panels[0].set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        panels[0].invert_yaxis()
        drawn.supxlabel("log-odds for a usual step towards the concept", fontsize=9.5)


PAGE = Page(COMMAND, text, {"effects.png": figure})  # the README, from results.json
