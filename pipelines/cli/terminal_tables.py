"""What the stages found, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interpnet.ablation import AblationResult, Condition
from interpnet.engine import Site
from interpnet.interpretation import Interpretation
from interpnet.mulasso import SelectionCurve, Stability

from ..report.numbers import percent
from ..run.selection import SELDOM, how_chosen, seldom

# A terminal is no place for a thousand rows; the files have them.
_MOST_ROWS = 40


def _table(console: Console, title: str, columns: Sequence[tuple[str, bool]]) -> Table:
    # Not as the table's own title, which is broken at the table's width.
    console.print(title, style="bold", highlight=False, markup=False)
    table = Table(header_style="bold")
    for name, number in columns:
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _add(table: Table, cells: Iterable[str]) -> None:
    # As Text, because a class named "[red]" is a class, and no markup.
    table.add_row(*(Text(cell) for cell in cells))


def show_collect(console: Console, entry: dict[str, Any]) -> None:
    """Print what the collect stage measured."""
    speed = entry.get("images_per_second")
    console.print(
        f"  {entry['n_images']} images x {entry['n_channels']} channels, accuracy {percent(entry['accuracy'])}"
        + ("" if speed is None else f", {speed:,.0f} images/s"),
        highlight=False,
    )


def show_relevant(
    console: Console,
    found: Interpretation,
    selection: SelectionCurve | None = None,
    frequencies: Stability | None = None,
) -> None:
    """Print every class's number of relevant channels and the heaviest three; of many classes, some that have any.

    With the choice of mu, how it was made; with frequencies, how often half of the images name the same channels.
    """
    few = len(found.classes) <= _MOST_ROWS
    rows = [c for c in range(len(found.classes)) if few or len(found.columns(c))][:_MOST_ROWS]
    how = "" if selection is None else ", chosen on held-out images"
    if selection is not None:
        console.print(f"  {how_chosen(selection)}", highlight=False, markup=False)
    columns = [("class", False), ("channels", True), ("gap", True), ("heaviest", False)]
    if frequencies is not None:
        columns[3:] = [(f"below {SELDOM}", True), ("heaviest", False), ("frequency", False)]
    table = _table(
        console, f"Relevant channels (mu = {found.mu:.4g}{how}{', non-negative' if found.positive else ''})", columns
    )
    for c in rows:
        relevant = found.relevant(c)
        heaviest = ", ".join(f"{channel} {weight:+.3g}" for channel, weight in relevant[:3]) or "none"
        cells = [found.classes[c], str(len(relevant)), f"{found.gaps[c]:.1e}", heaviest]
        if frequencies is not None:
            often = [float(frequencies.frequency[c, column]) for column in found.columns(c)]
            cells[3:] = [str(sum(map(seldom, often))), heaviest, ", ".join(f"{value:.2f}" for value in often[:3])]
        _add(table, cells)
    if len(rows) < len(found.classes):
        _add(table, [f"... of {len(found.classes)} classes: weights/channels.csv"])
    console.print(table)
    if frequencies is not None:
        console.print(
            f"  frequency: share of {frequencies.n_subsamples} half samples of the images that name the channel, too; "
            f"below {SELDOM}, other images would often have named another.",
            style="dim",
            highlight=False,
        )


def _with_interval(mean: float, interval: tuple[float, float]) -> str:
    low, high = interval
    half = (high - low) / 2
    return percent(mean) if not half > 0 else f"{percent(mean)} ± {100 * half:.1f}"


def show_ablation(console: Console, result: AblationResult) -> None:
    """Print mean class accuracy under every condition, with 95 % intervals over the repeats."""
    table = _table(
        console,
        f"Recall with channels removed ({result.n_images} test images, {result.repeats} repeats of random controls)",
        [("removed", False), ("layers", False), ("channels", True), ("own class", True), ("other classes", True)],
    )
    _add(table, ["nothing", "", "0", percent(result.mean_intact), percent(result.mean_intact)])
    for condition in result.conditions:
        _add(table, _row(condition))
    console.print(table)
    console.print("  ± is the half width of a 95 % interval over the random draws.", style="dim", highlight=False)


def _row(condition: Condition) -> list[str]:
    known = condition.removed[~_nan(condition.removed)]
    return [
        condition.name,
        condition.layers,
        f"{known.mean():.1f}" if len(known) else "-",
        _with_interval(condition.mean_own(), condition.interval_own()),
        _with_interval(condition.mean_others(), condition.interval_others()),
    ]


def _nan(values: Any) -> Any:
    import numpy as np

    return np.isnan(values)


def show_explained(console: Console, classes: Sequence[str], records: Sequence[dict[str, Any]], folder: str) -> None:
    """Print the explanations of a user's images."""
    table = _table(
        console,
        "Explained images",
        [("image", False), ("predicted", False), ("explained", False), ("confidence", True), ("channels", False)],
    )
    for record in records:
        channels = ", ".join(f"{c['layer']}[{c['index']}] {c['response']:.3g}" for c in record["channels"])
        cells = [
            record["name"],
            classes[record["predicted"]],
            classes[record["explained"]],
            percent(record["confidence"]),
            channels or record["note"],
        ]
        _add(table, cells)
    console.print(table)
    console.print(f"pictures and JSON: {folder}", highlight=False, soft_wrap=True, markup=False)


def show_layers(console: Console, sites: Sequence[Site], title: str) -> None:
    """Print the sites of a network."""
    table = _table(
        console,
        title,
        [("name", False), ("kind", False), ("shape", False), ("channels", True), ("default", False), ("note", False)],
    )
    for site in sites:
        notes = [site.why, "gate" if site.gate else "", "classifier's output" if site.output else ""]
        shape = "x".join(map(str, site.shape))
        channels = str(site.channels) if site.usable else "-"
        note = ", ".join(note for note in notes if note)
        _add(table, [site.name, site.kind, shape, channels, "yes" if site.default else "", note])
    console.print(table)
    chosen = [site for site in sites if site.default and site.usable]
    console.print(
        f"{len(sites)} sites; by default {sum(site.channels for site in chosen)} channels of {len(chosen)} layers. "
        "--layers takes names, globs ('layer1.*'), default, conv, all.",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
