"""Make docs/methods.png and the table of docs/methods.md: one photograph through every attribution method.

    python -m experiments.methods.page

The page's own words are in docs/methods.md; between its two marks everything is written here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.methods.sheet import draw, save
from experiments.methods.subject import chelsea, class_name, squeezenet
from interpnet.attribution import Attribution, Method, attribute_full, methods
from interpnet.errors import InterpNetError
from interpnet.support.io import write_text

BEGIN, END = "<!-- begin: written by python -m experiments.methods.page -->", "<!-- end -->"


def row(method: Method, found: Attribution, forwards: float) -> str:
    """Return a method's row of the table; ``forwards`` is the time it took in those of the bare network."""
    price = method.price()
    listed = f"{price:g}" if not isinstance(price, str) else "1 a patch" if "patch" in price else "1 a channel"
    needs = ", ".join(sorted(n.partition(":")[2] or {"samples": "seed"}.get(n, n) for n in method.needs)) or "–"
    residual = "–"
    if found.residual is not None and found.flagged is not None:
        worst = float(found.residual.max())
        text = "< 1e-4" if worst < 1e-4 else f"{worst:.2g}"
        residual = f"{text}{' ⚑' if bool(found.flagged.any()) else ''}"
    cells = [f"`{method.name}`", method.family, method.paper, listed, f"{forwards:.0f}", needs, residual]
    return "| " + " | ".join(cells) + " |"


def within(page: str, text: str) -> str:
    """Return the page with ``text`` between its two marks.

    Raises
    ------
    InterpNetError
        A mark is missing.
    """
    if BEGIN not in page or END not in page:
        raise InterpNetError(f"the page lacks {BEGIN!r} or {END!r}; put both where the table belongs")
    return page[: page.index(BEGIN) + len(BEGIN)] + f"\n{text}\n" + page[page.index(END) :]


def main() -> None:
    """Run every method on the photograph and write figure and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    model, image = squeezenet(), chelsea()
    with torch.no_grad():
        logits = model(image)
    target = int(logits.argmax())
    share = float(logits.softmax(1)[0, target])
    found, rows = {}, []
    for method in methods():
        before = _forward(model, image)
        start = time.perf_counter()
        found[method.name] = attribute_full(model, image, target, method.name)
        took = time.perf_counter() - start
        # Other work on the machine comes and goes: the passes right before and after saw what the method saw.
        rows.append(row(method, found[method.name], 2 * took / (before + _forward(model, image))))
        print(rows[-1], flush=True)
    save(draw(image, [f"{class_name(target)} ({share:.0%})"], found, columns=7), options.docs / "methods.png", dpi=80)
    head = (
        "| method | family | source | cost | measured | needs | residual |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    note = (
        f"The class: {class_name(target)}, to which the network gives {share:.0%}. *Cost*: forward passes an image by "
        f"the count of them, a backward pass as two; *measured*: time for this one image over that of a forward pass "
        f"({torch.get_num_threads()} threads), with everything around it. *Residual*: how far "
        f"the map's sum is from what the method promises, relative; ⚑ past the method's bound."
    )
    page = options.docs / "methods.md"
    write_text(page, within(page.read_text(), "\n".join(["", note, "", head, *rows, ""])))


def _forward(model: nn.Module, image: Tensor) -> float:
    """Return the median seconds of nine forward passes."""
    seconds = []
    with torch.no_grad():
        for _ in range(9):
            start = time.perf_counter()
            model(image)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
