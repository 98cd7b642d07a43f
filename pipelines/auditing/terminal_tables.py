"""What the stages found, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interpnet.ablation import AblationResult, Condition, Effect, by_class, finite_mean
from interpnet.concepts import Dissection
from interpnet.interpretation import Interpretation
from interpnet.mulasso import SelectionCurve, Stability
from interpnet.shortcuts import Findings
from interpnet.support.text import printable

from ..report.dissection import floors_text
from ..report.drawn import field_count, field_sentence
from ..report.load import RunData
from ..report.numbers import number_text, percent, signed, with_interval
from ..report.repair import repair_view
from ..run.selection import SELDOM, how_chosen, seldom
from .check import Check

if TYPE_CHECKING:  # a check and a comparison need no torch
    from interpnet.engine import Site

# A terminal is no place for a thousand rows; the files have them.
_MOST_ROWS = 40
_SOME_WAITING = 0.05  # of the time: below, reading images costs nothing
_MOST_NAMED = 8  # classes in a title


def _say(console: Console, text: str, style: str = "", *, whole: bool = False) -> None:
    # Names of classes and folders may look like markup; what may be copied stays on a whole line.
    shown = "\n".join(map(printable, text.split("\n")))
    console.print(shown, style=style, highlight=False, markup=False, soft_wrap=whole)


def say_whole(console: Console, text: str) -> None:
    """Print text that may be copied, on a whole line."""
    _say(console, text, whole=True)


def _show(console: Console, title: str, columns: str, rows: Iterable[Iterable[str]]) -> None:
    """Print a table; ``columns`` are separated by commas, those of numbers begin with ``#``."""
    # Not as the table's own title, which is broken at the table's width.
    _say(console, title, "bold")
    table = Table(header_style="bold")
    for name in columns.split(", "):
        justify: Any = {True: "right", False: "left"}[name.startswith("#")]
        table.add_column(name.removeprefix("#"), justify=justify, overflow="fold")
    for cells in rows:
        # As Text, because a class named "[red]" is a class, and no markup.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)


def show_table(console: Console, title: str, columns: str, rows: Iterable[Iterable[str]], note: str = "") -> None:
    """Print a table, with a note below; ``columns`` are separated by commas, those of numbers begin with ``#``."""
    _show(console, title, columns, rows)
    if note:
        _say(console, f"  {note}", "dim")


def show_collect(console: Console, entry: dict[str, Any]) -> None:
    """Print what the collect stage measured."""
    said = f"  {entry['n_images']} images x {entry['n_channels']} channels"
    # None where an image can have several labels.
    if entry["accuracy"] is not None:
        said += f", accuracy {percent(entry['accuracy'])}"
    speed = entry.get("images_per_second")
    if speed is not None:
        said += f", {speed:,.0f} images/s"
    _say(console, said)
    waited = entry.get("waited") or 0.0
    if speed is not None and _SOME_WAITING < waited < 1:
        alone = speed / (1 - waited)
        _say(console, f"  waited for images {waited:.0%} of the time; the network alone: {alone:,.0f} images/s")


def show_relevant(
    console: Console,
    found: Interpretation,
    selection: SelectionCurve | None,
    frequencies: Stability | None,
    only: Sequence[int] | None = None,
) -> None:
    """Print the number of relevant channels and the heaviest three of every class, or of ``only`` some.

    Of many classes, some that have any.

    With the choice of mu, how it was made; with frequencies, how often half of the images name the same channels.
    """
    shown = list(range(len(found.classes)))
    if only is not None:
        shown = list(only)
    if len(shown) > _MOST_ROWS:
        shown = [c for c in shown if found.counts[c]][:_MOST_ROWS]
    title = f"mu = {found.mu:.4g}"
    if selection is not None:
        _say(console, f"  {how_chosen(selection)}")
        title += ", chosen on held-out images"
    if found.positive:
        title += ", non-negative"
    rows = []
    for c in shown:
        relevant = found.relevant(c)
        heaviest = ", ".join(f"{channel} {weight:+.3g}" for channel, weight in relevant[:3]) or "none"
        cells = [found.classes[c], str(len(relevant)), f"{found.gaps[c]:.1e}", heaviest]
        if frequencies is not None:
            often = [float(frequencies.frequency[c, column]) for column in found.columns(c)]
            cells[3:] = [str(sum(map(seldom, often))), heaviest, ", ".join(f"{value:.2f}" for value in often[:3])]
        rows.append(cells)
    if len(shown) < len(found.classes):
        rows.append([f"... of {len(found.classes)} classes: weights/channels.csv"])
    title = f"Relevant channels ({title})"
    if frequencies is None:
        _show(console, title, "class, #channels, #gap, heaviest", rows)
        return
    _show(console, title, f"class, #channels, #gap, #below {SELDOM}, heaviest, frequency", rows)
    _say(
        console,
        f"  frequency: share of {frequencies.n_subsamples} half samples of the images that name the channel, too; "
        f"below {SELDOM}, other images would often have named another.",
        "dim",
    )


def show_reliance(console: Console, found: Interpretation, only: Sequence[int] | None = None) -> None:
    """Print how many channels every class, or ``only`` some, relies on.

    And the first three with their reliance and its standard error.
    """
    shown = [c for c in np.flatnonzero(found.counts).tolist() if only is None or c in only]
    rows = []
    for c in shown[:_MOST_ROWS]:
        relied = found.relevant(c)
        first = []
        for channel, value in relied[:3]:
            error = "" if found.stderr is None else f" ± {found.stderr[c, found.channels.position(channel)]:.2g}"
            first.append(f"{channel} {value:.3g}{error}")
        rows.append([found.classes[c], str(len(relied)), ", ".join(first)])
    if len(rows) < len(shown):
        rows.append([f"... of {len(shown)} classes: weights/reliance.csv"])
    title = f"Channels relied on (price {found.price:g})"
    _show(console, title, "class, #channels, first by reliance", rows)
    _say(console, "  reliance: log-odds of the class that the channel carries, less what it carries for others.", "dim")


def show_shortcuts(console: Console, found: Findings) -> None:
    """Print the share of each class's most suspicious part, the most suspicious class first."""
    rows = []
    for one in found.classes[:_MOST_ROWS]:
        share = with_interval(one.share, one.low, one.high)
        verdict = {True: "suspicious", False: ""}[one.suspicious]
        rows.append([one.name, one.part, share, number_text(one.usual), number_text(one.detectable), verdict])
    if len(rows) < len(found.classes):
        rows.append([f"... of {len(found.classes)} classes: shortcuts/shortcuts.json"])
    _show(console, "What the network looks at", "class, part, #share, #usual, #detectable, ", rows)
    _say(
        console,
        "  share of what speaks for the class that follows the part; 98 % of classes without a shortcut stay below the "
        "usual one; detectable: found 8 times of 10.",
        "dim",
    )


def show_field(console: Console, run: RunData) -> None:
    """Print which classes draw images from the field; nothing where there were none."""
    n = field_count(run)
    if n is None or run.shortcuts is None:
        return
    said = [field_sentence(run, one, n) for one in run.shortcuts.drawn if one.source == "field"]
    for sentence in said or [f"no class draws the {n} images from the field"]:
        _say(console, f"  {sentence}.")


def show_repair(console: Console, facts: Mapping[str, Any]) -> None:
    """Print a repair: figures before and after beside the control, or what was tried and why nothing was accepted."""
    view = repair_view(facts)
    if view.accepted:
        rows = [[row.what, *(percent(value) for value in row.values)] for row in view.rows]
        _show(console, "Repaired", "on images held out, #before, #after, #control", rows)
        _say(console, f"  {view.headline}")
    else:
        rows = [[t.how, t.strength, signed(100 * t.clean, 2), signed(100 * t.exchanged, 2), t.why] for t in view.best]
        _show(console, "Nothing was accepted", "way, #strength, #as they are, #exchanged, ", rows)
        _say(console, "  changes of accuracy in points, of the best strength of each way", "dim")
        for advice in view.advice:
            _say(console, f"  {advice}", whole=True)
    _say(console, f"  {view.reading}", "dim")


def show_checks(console: Console, found: Sequence[Check]) -> None:
    """Print what a check looked at, and how it ended."""
    words = {True: "fine", False: "beyond the limit", None: "not known"}
    rows = [[one.name, one.value, one.limit, words[one.passed]] for one in found]
    _show(console, "Check", "what, found, limit, ", rows)


def _with_interval(mean: float, interval: tuple[float, float]) -> str:
    low, high = interval
    half = (high - low) / 2
    if half > 0:
        return f"{percent(mean)} ± {100 * half:.1f}"
    return percent(mean)  # no interval, or none known


def _change(change: Effect, times: float = 1.0, digits: int = 2) -> str:
    low, high = change.interval()
    half = times * (high - low) / 2
    mean = signed(times * change.overall(), digits)
    if half > 0:
        return f"{mean} ± {half:.{digits}f}"
    return mean


def _intact_others(result: AblationResult) -> float:
    """Return the mean recall by the untouched network of the classes beside each that was studied."""
    if result.only is None or result.intact_of_all is None:
        return result.mean_intact
    return finite_mean([finite_mean(np.delete(result.intact_of_all, c)) for c in result.only])


def show_ablation(console: Console, result: AblationResult, way: str) -> None:
    """Print what every condition costs, with 95 % intervals; ``way``: how the channels were named."""
    title = (
        f"Channels removed: named by {way} ({result.n_images} test images, {result.repeats} passes for every random "
        "control)"
    )
    if result.only is not None:
        names = [result.classes[c] for c in result.only]
        listed = ", ".join(names[:_MOST_NAMED]) + f" and {len(names) - _MOST_NAMED} more" * (len(names) > _MOST_NAMED)
        title += f"; means over {listed}"
    columns = "removed, layers, #channels, #own recall, #others' recall"
    intact = ["nothing", "", "0", percent(result.mean_intact), percent(_intact_others(result))]
    if result.independent:
        # The others of a label are those of images that lack it, not all: what changes is theirs alone.
        columns = "removed, layers, #channels, #own recall, #others' recall, change in %"
        intact[-1] = signed(0.0, 1)
    odds = result.log_odds is not None
    if odds:
        columns += ", #own log-odds, #others' log-odds"
        intact += ["0.00", "0.00"]
    _show(console, title, columns, [intact, *(_row(result, condition, odds) for condition in result.conditions)])
    covered = "test images and random draws" if odds else "the random draws"
    _say(console, f"  ± is the half width of a 95 % interval over {covered}.", "dim")
    if result.independent:
        _show_labels(console, result)


def _show_labels(console: Console, result: AblationResult) -> None:
    """Print recall and precision of every label, whole and without its relevant channels; of many, the first."""
    without = by_class(result.condition("relevant").own)
    unknown = np.full(len(result.classes), np.nan)
    precision = [unknown if one is None else one for one in (result.precision, result.precision_removed)]
    shown = [c for c in range(len(result.classes)) if result.support[c] and (result.only is None or c in result.only)]
    rows = []
    for c in shown[:_MOST_ROWS]:
        numbers = [result.intact[c], precision[0][c], without[c], precision[1][c]]
        rows.append([result.classes[c], str(result.support[c]), *(percent(float(value)) for value in numbers)])
    if len(rows) < len(shown):
        rows.append([f"... of {len(shown)} labels: report/classes.csv"])
    columns = "label, #images, #recall, #precision, #recall without its channels, #precision without"
    _show(console, "Each label", columns, rows)


def _row(result: AblationResult, condition: Condition, odds: bool) -> list[str]:
    others = _with_interval(condition.mean_others(), condition.interval_others())
    if result.independent:
        others = _change(condition.changes["recall"].others, 100.0, 1)
    row = [
        condition.name,
        condition.layers,
        number_text(finite_mean(condition.removed), 1),
        _with_interval(condition.mean_own(), condition.interval_own()),
        others,
    ]
    changes = condition.changes.get("log_odds")
    if odds and changes is not None:
        row += [_change(changes.own), _change(changes.others)]
    return row


def show_explained(console: Console, classes: Sequence[str], records: Sequence[dict[str, Any]], folder: str) -> None:
    """Print the explanations of a user's images."""
    rows = []
    for record in records:
        channels = ", ".join(f"{c['layer']}[{c['index']}] {c['response']:.3g}" for c in record["channels"])
        answer = classes[record["predicted"]]
        # Where an image can have several labels, the question is whether it is given the one explained.
        if "given" in record:
            answer = {True: "given", False: "not given"}[record["given"]]
        names = [record["name"], answer, classes[record["explained"]]]
        rows.append([*names, percent(record["confidence"]), channels or record["note"]])
    _show(console, "Explained images", "image, predicted, explained, #confidence, channels", rows)
    _say(console, f"pictures and JSON: {folder}", whole=True)


def show_dissection(console: Console, found: Dissection, model: str) -> None:
    """Print how many channels of each layer have a name, and the best channel of each concept."""
    counts = ", ".join(f"{n} images of {name}" for name, n in found.images.items())
    control = not np.isnan(found.floor).all()
    columns = "layer, #channels, #with a name, #concepts" + (", #IoU at random" if control else "")
    rows = []
    for one in found.layers():
        cells = [one.layer, str(one.channels), f"{one.named} ({percent(one.named / one.channels)})", str(one.concepts)]
        rows.append(cells + [floors_text(one)] * control)
    _show(console, f"{model}: {int(found.named.sum())} of {len(found.channels)} channels have a name", columns, rows)
    if control:
        _say(
            console,
            "  IoU at random: what 99 % of the layer's channels stay below with random weights, by category.",
            "dim",
        )
    detectors = {concept: found.detectors(concept) for concept in found.concepts}
    rows = []
    for c in np.argsort([-len(detectors[concept]) for concept in found.concepts], kind="stable"):
        concept = found.concepts[c]
        best = ["0", "none", ""]
        if detectors[concept]:
            channel, iou = detectors[concept][0]
            row = found.channels.position(channel)
            overlap = with_interval(iou, found.low[row, c], found.high[row, c])
            best = [str(len(detectors[concept])), f"{channel.layer}[{channel.index}]", overlap]
        rows.append([concept, found.categories[c], str(found.images_with[c]), *best])
    _show(console, f"Concepts in {counts}", "concept, category, #images, #channels, the best, #its IoU", rows)


def show_layers(console: Console, sites: Sequence[Site], title: str) -> None:
    """Print the sites of a network."""
    rows = []
    for site in sites:
        notes = {site.why: True, "gate": site.gate, "classifier's output": site.output}
        note = ", ".join(name for name, holds in notes.items() if name and holds)
        channels = str(site.channels) if site.usable else "-"
        default = "yes" if site.default else ""
        rows.append([site.name, site.kind, "x".join(map(str, site.shape)), channels, default, note])
    _show(console, title, "name, kind, shape, #channels, default, note", rows)
    chosen = [site for site in sites if site.default and site.usable]
    _say(
        console,
        f"{len(sites)} sites; by default {sum(site.channels for site in chosen)} channels of {len(chosen)} layers. "
        "--layers takes names, globs ('layer1.*'), default, conv, attention, heads, all.",
        whole=True,
    )
