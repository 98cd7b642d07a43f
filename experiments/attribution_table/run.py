"""Write docs/attribution-table.md: every attribution method on every network, right or refused, with residuals.

    python -m experiments.attribution_table.run [--networks vit_b_16 ...] [--whole] [--device cuda] [--again]

What counts as right is written on the page. Anything else but a ModelError fails the command. Cells that
results.json has are not computed again; without --networks the page is written. The last six networks are narrow, with
``--whole`` they are as drawn: the page shows these where results.json has all of their cells.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from experiments.attribution_table.networks import NETWORKS, QUICK, SIZE, THIN, images, network
from experiments.common.runner import Results, command
from experiments.common.tables import Line, markdown
from interpnet.attribution import Attribution, Method, attribute_full, methods
from interpnet.errors import ModelError
from interpnet.support.io import write_text

_EXACT = 1e-4  # largest residual of a sum rule that is kept exactly
_COMMAND = "python -m experiments.attribution_table.run"


@dataclass(frozen=True)
class Cell:
    """What happened to one method on one network."""

    text: str
    refusal: str = ""
    wrong: str = ""


def examine(name: str, method: Method, device: str = "cpu", *, narrow: bool = False) -> Cell:
    """Run one method on one network and say whether it is right."""
    x = images(double=True).to(device)
    model = network(name, double=True, narrow=narrow).to(device)
    try:
        found = _run(model, method, x)
        alone = _run(model, method, x[1:])
    except ModelError as error:
        return Cell("refused", refusal=str(error))
    wrong = _faults(method, found, alone, _gradient(model))
    if wrong:
        return Cell("**wrong**", wrong=wrong)
    if found.residual is None or found.flagged is None:
        return Cell("right")
    worst = float(found.residual.max())
    number = f"{worst:.2g}" if 0.01 <= worst < 100 else f"{worst:.1e}"
    if worst < 1e-9:
        number = "< 1e-9"
    return Cell(f"right, {number}{' ⚑' * bool(found.flagged.any())}")


def _run(model: nn.Module, method: Method, x: Tensor) -> Attribution:
    # With few samples or steps a complete method's sum would be wrong for that alone.
    options = {} if "completeness" in method.axioms else QUICK.get(method.name, {})
    return attribute_full(model, x, None, method.name, **options)


@lru_cache(maxsize=1)
def _gradient(model: nn.Module) -> Tensor:
    x = images(double=True).to(next(model.parameters()).device)
    raw = attribute_full(model, x, None, "gradient").raw
    assert raw is not None
    return raw


def _faults(method: Method, found: Attribution, alone: Attribution, gradient: Tensor) -> str:
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
        raw = torch.zeros_like(gradient) if found.raw is None else found.raw
        if float(torch.cosine_similarity(raw.flatten(1), gradient.flatten(1)).abs().max()) > 0.999:
            return "the plain gradient"
    return ""


def table(lines: Sequence[Line]) -> str:
    """Return the page as Markdown."""
    refusals: dict[str, int] = {}
    columns = {name: _column(name, lines) for name in NETWORKS}
    rows = []
    for method in methods():
        texts = []
        for name, column in columns.items():
            cell = column[method.name]
            text = cell["text"]
            if cell["refusal"]:
                number = refusals.setdefault(f"`{method.name}` on {name}: {cell['refusal']}", len(refusals) + 1)
                text += f" [{number}]"
            texts.append(text)
        cost = method.price()
        if not isinstance(cost, str):
            cost = f"{cost:g}"
        rows.append([f"`{method.name}`", method.family, cost, *texts])
    parts = [_PREFACE + "\n" + markdown(["method", "family", "cost", *NETWORKS], rows)]
    if refusals:
        parts += ["## Refusals", "\n".join(f"{n}. {text}" for text, n in refusals.items())]
    narrow = [name for name, column in columns.items() if any(cell["narrow"] for cell in column.values())]
    if narrow:
        parts.append(f"Narrow, with the same operators in fewer and narrower layers: {', '.join(narrow)}.")
    made = dict.fromkeys(cell["made"] for column in columns.values() for cell in column.values())
    return "\n\n".join([*parts, f"Made with {'; '.join(made)}.\n"])


def _column(name: str, lines: Sequence[Line]) -> dict[str, Line]:
    """Return the cells of a network by method: of the whole one where all were computed, else of the narrow one."""
    found: dict[bool, dict[str, Line]] = {False: {}, True: {}}
    for line in lines:
        if line["network"] == name:
            found[line["narrow"]][line["method"]] = line
    return found[any(method.name not in found[False] for method in methods())]


_PREFACE = f"""# Attribution methods on networks: right or refused

Written by `{_COMMAND}`; do not edit.

Random weights with calibrated BatchNorm, two images of {SIZE}x{SIZE}, float64, the predicted classes. `deit_tiny`,
`maxvit_tiny` and `resnetv2_50` are timm's, the others but `strided` torchvision's.

- **right**: finite, not constant, the same alone and in a batch, not the plain gradient where a rule promises another.
- A number is the residual of the method's own sum rule, `|sum - expected| / |expected|`, the worse of two images.
  ⚑: past the method's bound; `attribute_full` flags such maps. The scores of networks that know nothing are small
  differences of large terms: residuals are harder to keep small here than on trained networks.
- **refused**: a `ModelError`, quoted below.
- **cost**: forward passes per image with default options, a backward pass counted as two.
"""


def _made(device: str) -> str:
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    if device == "cpu":
        return versions
    return f"{versions} on {torch.cuda.get_device_name()}"


@command(
    out="the page",
    whole="the last six networks as drawn: hours without a GPU",
    again="compute anew what results has",
    device=("cpu", "cuda"),
    networks=NETWORKS,
)
def main(
    *,
    out: Path = Path("docs/attribution-table.md"),
    results: Path = Path(__file__).parent / "results.json",
    networks: tuple[str, ...] = (),
    whole: bool = False,
    device: str = "cpu",
    again: bool = False,
) -> int:
    """Compute all cells, write the page, and return 1 if a method was wrong somewhere."""
    kept = Results(results)
    chosen = networks or NETWORKS
    if again:
        kept.lines = [line for line in kept.lines if line["network"] not in chosen]
    known = {method.name: method for method in methods()}
    wanted = [
        {"network": name, "narrow": name in THIN and not whole, "method": method} for name in chosen for method in known
    ]
    for line in kept.missing(wanted):
        cell = examine(line["network"], known[line["method"]], device, narrow=line["narrow"])
        line |= vars(cell) | {"made": _made(device)}
    if not networks:
        write_text(out, table(kept.lines))
    faults = [f"{o['method']} on {o['network']}: {o['wrong']}" for o in kept.lines if o["wrong"]]
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0
