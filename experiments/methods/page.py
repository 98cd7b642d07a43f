"""Make docs/methods.png and the table of docs/methods.md: one photograph through every attribution method.

    python -m experiments.methods.page

The page's own words are in docs/methods.md; between its two marks everything is written here.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.benchmarks.measuring import seconds
from experiments.common.imagenet import squeezenet
from experiments.common.pages import fill
from experiments.common.runner import command
from experiments.common.tables import cell, markdown
from experiments.methods.sheet import draw, save
from experiments.methods.subject import chelsea, class_name
from interpnet.attribution import Attribution, Method, attribute_full, methods

COMMAND = "experiments.methods.page"


def row(method: Method, found: Attribution, forwards: float) -> list[str]:
    """Return a method's row of the table; ``forwards`` is the time it took in those of the bare network."""
    price = method.price()
    if not isinstance(price, str):
        listed = f"{price:g}"
    elif "patch" in price:
        listed = "1 per patch"
    else:
        listed = "1 per channel"
    needs = ", ".join(sorted(n.partition(":")[2] or {"samples": "seed"}.get(n, n) for n in method.needs)) or "–"
    residual = "–"
    if found.residual is not None and found.flagged is not None:
        worst = float(found.residual.max())  # of the only image
        residual = "< 1e-4" if worst < 1e-4 else f"{worst:.2g}"
        residual += " ⚑" * bool(found.flagged.any())
    return [f"`{method.name}`", method.family, cell(method.paper), listed, f"{forwards:.0f}", needs, residual]


def _forward(model: nn.Module, image: Tensor) -> float:
    """Return the median seconds of nine forward passes."""
    with torch.no_grad():
        return statistics.median(seconds(lambda: model(image))[0] for _ in range(9))


@command(docs="folder of methods.md and methods.png")
def main(*, docs: Path = Path("docs")) -> None:
    """Run every method on the photograph and write figure and table."""
    model = squeezenet()
    image = chelsea()
    with torch.no_grad():
        logits = model(image)
    target = int(logits.argmax())
    share = float(logits.softmax(1)[0, target])
    found = {}
    rows = []
    for method in methods():
        attribute_full(model, image, target, method.name)  # the first one of a kind also makes its kernels
        before = _forward(model, image)
        start = time.perf_counter()
        found[method.name] = attribute_full(model, image, target, method.name)
        took = time.perf_counter() - start
        # Other work on the machine comes and goes: the passes right before and after saw what the method saw.
        rows.append(row(method, found[method.name], 2 * took / (before + _forward(model, image))))
        print(*rows[-1], flush=True)
    save(draw(image, [f"{class_name(target)} ({share:.0%})"], found, columns=7), docs / "methods.png", dpi=80)
    note = (
        f"The class: {class_name(target)}, to which the network gives {share:.0%}. *Cost*: forward passes per image by "
        f"the count of them, a backward pass as two; *measured*: time of a second run over that of a forward pass "
        f"({torch.get_num_threads()} threads), with everything around it. *Residual*: how far "
        f"the map's sum is from what the method promises, relative; ⚑ past the method's bound."
    )
    table = markdown(["method", "family", "source", "cost", "measured", "needs", "residual"], rows)
    fill(docs / "methods.md", COMMAND, f"{note}\n\n{table}")
