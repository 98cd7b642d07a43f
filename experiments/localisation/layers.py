"""In which layers E3's networks have the channels that their classes rely on; for the verdict.

    python -m experiments.localisation.layers --work runs/localisation

Reads the weights that the main script left in the working folder and writes layers.json and the README's table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiments.common.flower_networks import ARCHITECTURES, trained
from experiments.common.pages import fill, markdown, measured_before
from experiments.localisation.run import HERE, MU
from interpnet.datasets import load_dataset, make_loader
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import collect_scores
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

_COMMAND = "experiments.localisation.layers"


def by_layer(found: Interpretation) -> dict[str, float]:
    """Return each layer's share of the summed |w|, the mean over classes, for the layers that have one.

    Examples
    --------
    >>> import numpy as np
    >>> from interpnet.engine import ChannelIndex
    >>> by_layer(Interpretation(ChannelIndex((("a", 1), ("b", 2))), np.array([[1.0, 0.0, -3.0]]), ("cat",)))
    {'a': 0.25, 'b': 0.75}
    """
    shares = found.layer_relevance().mean(0)
    return {
        name: round(float(share), 4) for name, share in zip(found.channels.layers, shares, strict=True) if share > 0
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: the layers with the largest shares, the mean over the networks of a kind."""
    rows = []
    for architecture in dict.fromkeys(x["architecture"] for x in lines):
        here = [x["layers"] for x in lines if x["architecture"] == architecture]
        names = sorted({n for layers in here for n in layers}, key=lambda n: -sum(x.get(n, 0.0) for x in here))
        shares = [f"`{n}` {100 * sum(x.get(n, 0.0) for x in here) / len(here):.0f} %" for n in names[:5]]
        rows.append([architecture, str(len(here)), ", ".join(shares)])
    return markdown(["single-6c", "networks", "share of the relevant weight by layer"], rows)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/localisation"))
    options = parser.parse_args(arguments)
    keep_freed_memory()
    file = HERE / "layers.json"
    lines = measured_before(file)
    train_on, test_on = (load_dataset("an8flower-single-6c", split=s, root=options.work) for s in ("train", "test"))
    for architecture in ARCHITECTURES:
        for seed in range(options.networks):
            if (architecture, seed) in {(x["architecture"], x["seed"]) for x in lines}:
                continue
            weights = options.work / f"single-6c-{architecture}-{seed}.safetensors"
            model, _ = trained(architecture, train_on, test_on, seed, weights)
            scores = collect_scores(model, make_loader(train_on, batch_size=64), progress=False)
            found = interpret(scores, mu=MU, classes=train_on.classes)
            lines.append({"architecture": architecture, "seed": seed, "layers": by_layer(found)})
            write_text(file, json.dumps(lines, indent=1) + "\n")
    fill(HERE / "README.md", _COMMAND, table(lines))


if __name__ == "__main__":
    main()
