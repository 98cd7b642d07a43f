"""S5's page: answers by class, channels by depth, and what the named channels carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, markdown, minutes, number, proportion, sections, signed
from interpnet.plotting.style import BLUE, GRID, MUTED, VERMILLION

COMMAND = "experiments.cue_conflict.run"
TITLES = {"efficientnet": "EfficientNet-Lite0", "squeezenet": "SqueezeNet 1.0"}
THIRDS = ("early", "middle", "late")


def percent(share: Interval) -> str:
    """Return ``62 (51 to 72)``, a share in percent with its interval; a dash where there is none."""
    if not np.isfinite(share.mean):
        return "–"
    mean, low, high = (number(100 * v, ".0f") for v in share)
    return f"{mean} ({low} to {high})"


def answers(row: Line) -> Interval:
    """Return the share of shape among a class's answers that are its shape or its texture, with Wilson's interval."""
    return proportion(row["shape"], row["shape"] + row["texture"])


def interval(values: list[float]) -> Interval:
    """Return an interval from a results file."""
    return Interval(*values)


def classes_table(line: Line) -> str:
    """Return Markdown: a network's answers and effects by class, the class most of shape first."""
    rows = []
    for row in sorted(line["behaviour"]["classes"], key=lambda one: -one["share"][0]):
        other = row["images"] - row["shape"] - row["texture"]
        counts = [row["class"], row["images"], row["shape"], row["texture"], other]
        added = [number(row[f"{cue} adds"], "+.1f") for cue in ("shape", "texture")]
        rows.append([*counts, percent(answers(row)), *added, percent(interval(row["share"]))])
    head = ["class of the shape", "images", "said shape", "said texture", "said another class"]
    return markdown(
        [*head, "shape among answers, %", "shape adds, log-odds", "texture adds", "shape among log-odds, %"], rows
    )


def in_all(line: Line) -> str:
    """Return the sentences on a network as a whole."""
    b = line["behaviour"]
    decided = b["shape"] + b["texture"]
    by_class = [interval(row["share"]) for row in b["classes"]]
    below, above = sum(one.high < 0.5 for one in by_class), sum(one.low > 0.5 for one in by_class)
    return (
        f"{b['images']} images. The answer is the shape's class in {b['shape']}, the texture's in {b['texture']}, "
        f"another in {b['images'] - decided}. **Shape among answers: {percent(interval(b['share of decisions']))} %; "
        f"among log-odds: {percent(interval(b['share of log-odds']))} %** (shape adds "
        f"{number(b['shape adds'], '+.1f')}, texture {number(b['texture adds'], '+.1f')}, the mean over classes). "
        f"By log-odds {below} of {len(by_class)} classes lie below one half with their whole interval, {above} above."
    )


def channels_table(lines: list[Line]) -> str:
    """Return Markdown: how much of the scores' variance goes with shapes and textures, by depth."""
    rows = []
    for line in lines:
        for name, part in zip(THIRDS, line["channels"]["thirds"], strict=True):
            cues = [part["shape"], part["texture"]]
            share = 100 * cues[1] / sum(cues)
            rows.append(
                [TITLES[line["network"]], name, part["channels"], *(f"{100 * v:.1f}" for v in cues), f"{share:.0f}"]
            )
    return markdown(
        ["network", "third of the layers", "channels", "goes with shape, %", "with texture, %", "texture's part, %"],
        rows,
    )


def groups_table(lines: list[Line]) -> str:
    """Return Markdown: channels chosen on every second class, on the other classes and on photographs of textures."""
    rows = []
    for line in lines:
        c = line["channels"]
        for name, group in c["groups"].items():
            share = 100 * group["texture"] / (group["texture"] + group["shape"])
            rows.append([TITLES[line["network"]], name, group["channels"], f"{share:.0f}", f"{group['apart']:.3f}"])
        rows[-2] += [signed(interval(c["apart within layers"]), 3)]
        rows[-1] += [""]
        for row, cue in zip(rows[-2:], ("texture", "shape"), strict=True):
            row.append(signed(interval(c[f"apart goes with {cue}"]), 2))
        rows[-2].append(number(c["same on other classes"], ".2f"))
        rows[-1].append("")
    head = ["network", "channels that follow", "channels", "texture's part on the other classes, %"]
    tail = [
        "textures told apart, AUC",
        "texture's less shape's, within layers",
        "AUC goes with the part, within layers",
    ]
    tail.append("share of texture goes with that on the other classes")
    return markdown([*head, *tail], rows)


def named_table(lines: list[Line]) -> str:
    """Return Markdown: what a class's shape and texture do to the channels it relies on."""
    rows = []
    for line in lines:
        for source, found in line["named"].items():
            cues = [signed(interval(found[cue]), 2) for cue in ("shape", "texture", "shape, random", "texture, random")]
            share = percent(interval(found["texture's share"]))
            follows = number(found["goes with the class's log-odds"], ".2f")
            rows.append([TITLES[line["network"]], source, found["classes"], *cues, share, follows])
    head = ["network", "named on", "classes", "its shape adds, SD", "its texture adds", "shape, random channels"]
    return markdown([*head, "texture, random channels", "texture's part, %", "goes with the log-odds"], rows)


def text(lines: list[Line]) -> str:
    """Return the page's part between the marks."""
    parts = {f"{TITLES[x['network']]}: by class": f"{in_all(x)}\n\n{classes_table(x)}" for x in lines}
    parts["What the channels follow, by depth"] = channels_table(lines)
    parts["Channels that follow textures, and those that follow shapes"] = groups_table(lines)
    parts["What the channels carry that a class relies on"] = named_table(lines)
    return sections(parts, f"{minutes(lines):.0f} minutes. Commit {commits(lines)}.")


def figure(lines: list[Line], path: Path) -> None:
    """Draw the share of shape by class, by answers and by log-odds, a panel for each network."""
    with figure_file(path, 4.6 * len(lines), 5.0, 120) as drawn:
        for panel, line in zip(drawn.subplots(1, len(lines), squeeze=False)[0], lines, strict=True):
            b = line["behaviour"]
            rows = sorted(b["classes"], key=lambda one: one["share"][0])
            rows.insert(0, {"class": "in all", "share": b["share of log-odds"]})
            for place, row in enumerate(rows):
                decided = interval(b["share of decisions"]) if row["class"] == "in all" else answers(row)
                marks = (
                    (interval(row["share"]), BLUE, "o", 0.16, "log-odds"),
                    (decided, VERMILLION, "s", -0.16, "answers"),
                )
                for share, colour, shape, off, label in marks:
                    if np.isfinite(share.mean):
                        ends = [100 * share.low, 100 * share.high]
                        panel.plot(ends, [place + off] * 2, color=colour, lw=1.4)
                        said = label if not place else None
                        panel.plot(100 * share.mean, place + off, shape, color=colour, ms=5, label=said)
            panel.set_yticks(range(len(rows)), [row["class"] for row in rows])
            panel.axvline(50, color=MUTED, lw=0.8, ls="--")
            panel.axhline(0.5, color=GRID, lw=0.8)
            panel.set_xlim(-32, 103)  # a few intervals go on
            panel.set_xlabel("share of shape, % (0: texture alone)")
            panel.set_title(TITLES[line["network"]])
            panel.legend(loc="lower right")


PAGE = Page(COMMAND, text, {"shares.png": figure})
