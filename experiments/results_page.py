"""Write RESULTS.md: what every experiment claims, with figure and verdict, on one screen.

    python -m experiments.results_page

Claims come from the module ``claims`` of every folder here that has one; each computes figure and verdict from the
results committed beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from experiments.common.claims import KEYS, VERDICTS, Claim
from experiments.common.pages import markdown
from interpnet.support.io import write_text

HERE = Path(__file__).parent
PAGE = HERE.parent / "RESULTS.md"
INTRO = """# Results

What the experiments found, written by `python -m experiments.results_page` from the results committed beside each.
A verdict is computed by a rule. *Holds*: on every case measured (a kind of network, a data set), in general with the
whole 95 % interval over networks or seeds; *in part*: on some; *does not hold*: on none, be it refuted or not shown."""


def collected() -> list[tuple[str, Claim]]:
    """Return (folder, claim) of every experiment, in the order of the keys."""
    found = []
    for file in sorted(HERE.glob("*/claims.py")):
        module = import_module(f"experiments.{file.parent.name}.claims")
        found += [(file.parent.name, checked(file.parent.name, claim)) for claim in module.claims()]
    return sorted(found, key=lambda pair: KEYS.index(pair[1].key))


def checked(folder: str, claim: Claim) -> Claim:
    """Return the claim if the page can show it; a failed claim needs a reason."""
    if claim.key not in KEYS or claim.verdict not in VERDICTS:
        raise ValueError(
            f"experiments.{folder}.claims gives key {claim.key!r} and verdict {claim.verdict!r}; expected one of "
            f"{', '.join(KEYS)}, and one of {', '.join(VERDICTS)}"
        )
    if claim.verdict in {"does not hold", "holds in part"} and not claim.reason.strip():
        raise ValueError(f"experiments.{folder}.claims: {claim.claim!r} {claim.verdict}, so give the reason")
    return claim


def cell(text: str) -> str:
    r"""Return text that stays within a cell of a Markdown table.

    Examples
    --------
    >>> print(cell("a | b\n c"))
    a \| b c
    """
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def page(found: Iterable[tuple[str, Claim]]) -> str:
    """Return RESULTS.md: first what does not hold or only in part, then what holds."""
    lines = list(found)
    wrong = [(f, c) for f, c in lines if c.verdict != "holds"]
    right = [(f, c) for f, c in lines if c.verdict == "holds"]
    missing = [key for key in KEYS if key not in {c.key for _, c in lines}]
    parts = [INTRO]
    if wrong:
        rows = [[*_shown(f, c), "" if c.verdict == "open" else cell(c.reason)] for f, c in wrong]
        head = ["", "claim", "figure", "verdict", "most likely reason, and its test"]
        parts += ["## What does not hold, or only in part", markdown(head, rows)]
    if right:
        rows = [_shown(folder, claim) for folder, claim in right]
        parts += ["## What holds", markdown(["", "claim", "figure", "verdict"], rows)]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def _shown(folder: str, claim: Claim) -> list[str]:
    link = f"[{claim.key}](experiments/{folder}/README.md)"
    return [link, cell(claim.claim), cell(claim.figure), claim.verdict]


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(collected()))


if __name__ == "__main__":
    main()
