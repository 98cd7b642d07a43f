"""Write docs/attribution-table.md: every attribution method on every network, right or refused, with residuals.

    python -m experiments.attribution_table.run [--out docs/attribution-table.md]

Each cell is computed, none is typed. A method counts as right when its maps are finite, have the right shape and no
constant map among them, are the same for an image alone and in a batch, break no sum rule that it claims to keep
exactly, and, for a backward rule, are not the plain gradient. Anything else but a ModelError fails the command.
"""

from __future__ import annotations

import argparse
import platform
import sys
from dataclasses import dataclass
from functools import lru_cache

import torch
import torchvision
from torch import Tensor

from experiments.attribution_table.networks import NETWORKS, QUICK, SIZE, images, network
from interpnet.attribution import Attribution, Method, attribute_full, methods
from interpnet.errors import ModelError
from interpnet.support.io import write_text

_EXACT = 1e-4
_COMMAND = "python -m experiments.attribution_table.run"


@dataclass(frozen=True)
class Cell:
    """What happened to one method on one network."""

    text: str
    refusal: str = ""
    wrong: str = ""


def examine(name: str, method: Method) -> Cell:
    """Run one method on one network and say whether it is right."""
    x = images(double=True)
    try:
        found = _run(name, method, x)
        alone = _run(name, method, x[1:])
    except ModelError as error:
        return Cell("refused", refusal=str(error))
    wrong = _faults(name, method, found, alone)
    if wrong:
        return Cell("**wrong**", wrong=wrong)
    if found.residual is None or found.flagged is None:
        return Cell("right")
    worst, flagged = float(found.residual.max()), int(found.flagged.sum())
    number = "< 1e-9" if worst < 1e-9 else f"{worst:.1e}" if worst < 0.01 or worst >= 100 else f"{worst:.2g}"
    return Cell(f"right, {number}{' ⚑' if flagged else ''}")


def _run(name: str, method: Method, x: Tensor) -> Attribution:
    options = {} if "completeness" in method.axioms else QUICK.get(method.name, {})
    return attribute_full(network(name, double=True), x, None, method.name, **options)


@lru_cache(maxsize=1)
def _gradient(name: str) -> Tensor:
    raw = attribute_full(network(name, double=True), images(double=True), None, "gradient").raw
    assert raw is not None
    return raw


def _faults(name: str, method: Method, found: Attribution, alone: Attribution) -> str:
    if found.maps.shape != (2, SIZE, SIZE) or not bool(torch.isfinite(found.maps).all()):
        return f"maps of shape {tuple(found.maps.shape)}, or not finite"
    if any(float(m.std()) == 0 for m in found.maps):
        return "a constant map"
    off = float((alone.maps[0] - found.maps[1]).abs().max() / found.maps[1].abs().max())
    if off > 1e-6:
        return f"alone and in a batch differ by {off:.1e} of the maximum"
    if "exact" in method.axioms and (found.residual is None or not float(found.residual.max()) <= _EXACT):
        return "its exact sum rule is broken"
    if "not-gradient" in method.axioms:
        raw = found.raw if found.raw is not None else torch.zeros_like(_gradient(name))
        if float(torch.cosine_similarity(raw.flatten(1), _gradient(name).flatten(1)).abs().max()) > 0.999:
            return "the plain gradient"
    return ""


def table(cells: dict[tuple[str, str], Cell]) -> str:
    """Return the page as Markdown."""
    refusals: dict[str, int] = {}
    rows = []
    for method in methods():
        texts = []
        for name in NETWORKS:
            cell = cells[name, method.name]
            note = ""
            if cell.refusal:
                note = f" [{refusals.setdefault(f'`{method.name}` on {name}: {cell.refusal}', len(refusals) + 1)}]"
            texts.append(cell.text + note)
        price = method.price()
        cost = f"{price:g}" if not isinstance(price, str) else price
        rows.append([f"`{method.name}`", method.family, cost, *texts])
    head = ["method", "family", "cost", *NETWORKS]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    notes = [f"{n}. {text}" for text, n in refusals.items()]
    return "\n".join([_PREFACE, *lines, "", *(["## Refusals", "", *notes, ""] if notes else []), _footer()])


_PREFACE = f"""# Attribution methods on networks: right or refused

Written by `{_COMMAND}`; do not edit.

Random weights with calibrated BatchNorm, two images of {SIZE}x{SIZE}, float64, the predicted classes.

- **right**: finite, not constant, the same alone and in a batch, not the plain gradient where a rule promises another.
- A number is the residual of the method's own sum rule, `|sum - expected| / |expected|`, the worse of two images.
  ⚑: past the method's bound; `attribute_full` flags such maps. The scores of networks that know nothing are small
  differences of large terms: residuals are harder to keep small here than on trained networks.
- **refused**: a `ModelError`, quoted below.
- **cost**: forward passes an image with default options, a backward pass counted as two.
"""


def _footer() -> str:
    python, torches = platform.python_version(), f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"Made with Python {python}, {torches}.\n"


def main(arguments: list[str] | None = None) -> int:
    """Compute all cells, write the page, and return 1 if a method was wrong somewhere."""
    parser = argparse.ArgumentParser(prog=_COMMAND)
    parser.add_argument("--out", default="docs/attribution-table.md")
    options = parser.parse_args(arguments)
    cells = {}
    for name in NETWORKS:
        for method in methods():
            cells[name, method.name] = examine(name, method)
        done = [cells[name, m.name] for m in methods()]
        print(f"{name}: {sum(not c.refusal and not c.wrong for c in done)} right", file=sys.stderr, flush=True)
    write_text(options.out, table(cells))
    faults = [f"{m} on {n}: {c.wrong}" for (n, m), c in cells.items() if c.wrong]
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
