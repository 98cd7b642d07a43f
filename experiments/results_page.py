"""Write RESULTS.md: what every experiment claims, on one screen, and experiments/forest.png, the effects at a glance.

    python -m experiments.results_page

Claims come from the module ``claims`` of every folder here that has one; each computes figure and verdict from the
results committed beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.common.claims import KEYS, VERDICTS, Claim
from experiments.common.pages import figure_file
from experiments.common.tables import cell, markdown
from interpnet.plotting.style import BLUE, GRID, INK, MUTED, ORANGE, VERMILLION
from interpnet.support.io import write_text

HERE = Path(__file__).parent
PAGE = HERE.parent / "RESULTS.md"
PICTURE = HERE / "forest.png"  # shown in RESULTS.md
INTRO = """# Results

What the experiments found, written by `python -m experiments.results_page` from the results committed beside each.
A verdict is computed by a rule. *Holds*: on every case measured (a kind of network, a data set), in general with the
whole 95 % interval over networks or seeds; *in part*: on some; *does not hold*: on none, be it refuted or not shown.
The numbers under *reason* are those of the list below the figure."""
#: The order of the page, with each verdict's colour and shape in the figure.
_STYLES = {
    "does not hold": (VERMILLION, "s"),
    "holds in part": (ORANGE, "D"),
    "holds": (BLUE, "o"),
    "open": (MUTED, "^"),
}
_FAILED = {"does not hold", "holds in part"}  # these need a reason
_LEFT = -0.3  # where the claims begin in the figure, in widths of the axes
Found = list[tuple[str, Claim]]  # folder and claim


def collected() -> Found:
    """Return (folder, claim) of every experiment, by verdict and in the order of the keys: what does not hold first."""
    found = []
    for folder in sorted(file.parent.name for file in HERE.glob("*/claims.py") if file.parent.name != "common"):
        claims = import_module(f"experiments.{folder}.claims").claims()
        found += [(folder, checked(folder, claim)) for claim in claims]
    return ordered(found)


def ordered(found: Iterable[tuple[str, Claim]]) -> Found:
    """Return the claims in the order of the page."""
    verdicts = list(_STYLES)
    return sorted(found, key=lambda pair: (verdicts.index(pair[1].verdict), KEYS.index(pair[1].key)))


def checked(folder: str, claim: Claim) -> Claim:
    """Return the claim if the page can show it; a failed claim needs a reason."""
    if claim.key not in KEYS or claim.verdict not in VERDICTS:
        raise ValueError(
            f"experiments.{folder}.claims gives key {claim.key!r} and verdict {claim.verdict!r}; expected one of "
            f"{', '.join(KEYS)}, and one of {', '.join(VERDICTS)}"
        )
    if claim.verdict in _FAILED and not claim.reason.strip():
        raise ValueError(f"experiments.{folder}.claims: {claim.claim!r} {claim.verdict}, so give the reason")
    return claim


def page(found: Iterable[tuple[str, Claim]]) -> str:
    """Return RESULTS.md: a table per verdict, the figure, each reason once, and every claim in full, folded."""
    lines = ordered(found)
    missing = [key for key in KEYS if key not in {claim.key for _, claim in lines}]
    notes: dict[str, int] = {}
    parts = [INTRO]
    for verdict in _STYLES:
        head = ["", "claim", "result", *["reason"] * (verdict in _FAILED)]
        rows = []
        for folder, claim in lines:
            if claim.verdict == verdict:
                link = f"[{claim.key}](experiments/{folder}/README.md)"
                row = [link, cell(claim.claim), cell(claim.short), _note(claim, notes)]
                rows.append(row[: len(head)])
        if rows:
            parts += [f"## {verdict.capitalize()}", markdown(head, rows)]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.")
    parts += ["## How large the effects are", "![Effects with their 95 % intervals](experiments/forest.png)"]
    if notes:
        listed = "\n".join(f"{number}. {cell(reason)}" for reason, number in notes.items())
        parts += ["## The most likely reasons", listed]
    parts += ["## Every claim in full", *(_full(claim, notes) for _, claim in lines)]
    return "\n\n".join(parts) + "\n"


def _note(claim: Claim, notes: dict[str, int]) -> str:
    """Return the number of the claim's reason in the list under the figure; claims may share it."""
    if claim.verdict not in _FAILED:
        return ""
    reason = claim.reason[0].upper() + claim.reason[1:]  # a note is a sentence
    return f"({notes.setdefault(reason, len(notes) + 1)})"


def _full(claim: Claim, notes: dict[str, int]) -> str:
    """Return a claim's figures, its reason's number and the test of it, folded."""
    lines = [f"<details><summary>{claim.key}: {claim.claim} (<i>{claim.verdict}</i>)</summary>", cell(claim.figure)]
    if claim.verdict in _FAILED:
        test = f" and its test: {cell(claim.tested)}" if claim.tested else ""
        lines.append(f"Most likely reason {_note(claim, notes)}{test}")
    return "\n\n".join([*lines, "</details>"])


def forest(found: Iterable[tuple[str, Claim]], path: Path) -> int:
    """Draw every effect with its 95 % interval, in points in the direction of its claim; return how many there are.

    An interval to the right of zero shows the claim, one to the left refutes it.
    """
    shown = [claim for _, claim in ordered(found) if claim.effects]
    count = sum(len(claim.effects) for claim in shown)
    # A row for each effect and each claim, two for each verdict.
    rows = count + len(shown) + 2 * len({claim.verdict for claim in shown})
    at = 0
    verdict = ""
    with figure_file(path, 9.0, 0.16 * rows + 0.7) as drawn:
        axes = drawn.subplots()
        across = axes.get_yaxis_transform()  # x in widths of the axes, y in rows
        words: dict[str, Any] = {"transform": across, "va": "center", "bbox": {"color": "white", "pad": 0.5}}
        for claim in shown:
            colour, shape = _STYLES[claim.verdict]
            if claim.verdict != verdict:
                verdict = claim.verdict
                at += 2
                axes.text(_LEFT, at - 1, verdict.capitalize(), weight="bold", **words)
            axes.text(_LEFT, at, f"{claim.key}  {claim.claim}", fontsize=7.5, **words)
            axes.axhspan(at + 0.5, at + len(claim.effects) + 0.5, color=GRID, alpha=0.25, lw=0)
            for case, effect in claim.effects:
                at += 1
                axes.text(-0.01, at, case, transform=across, ha="right", va="center", fontsize=7, color=MUTED)
                axes.plot([effect.low, effect.high], [at, at], color=colour, lw=1.4)
                axes.plot(effect.mean, at, shape, color=colour, ms=4)
            at += 1
        axes.axvline(0, color=INK, lw=0.9)
        axes.set_ylim(at, 0)  # the first row is on top
        axes.set_yticks([])
        axes.tick_params(labeltop=True)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(
            "refutes the claim  ←  effect with 95 % interval  →  shows the claim\n"
            "percentage points of recall or overlap; hundredths of rank correlation, deletion, insertion, ROC-AUC\n"
            "a mark without a line: a single network"
        )
    return count


def main() -> None:
    """Write the page and draw the figure."""
    found = collected()
    write_text(PAGE, page(found))
    forest(found, PICTURE)


if __name__ == "__main__":
    main()
