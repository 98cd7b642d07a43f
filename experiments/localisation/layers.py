"""In which layers E3's networks have the channels that their classes rely on; for the verdict.

    python -m experiments.localisation.layers --work runs/localisation

Reads the weights that the main script left in the working folder and writes layers.json and the README's table.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from experiments.common.flower_networks import ARCHITECTURES, flower_network
from experiments.common.pages import fill
from experiments.common.runner import Results, command
from experiments.common.tables import Line, grouped, markdown
from interpnet.interpretation import Interpretation

HERE = Path(__file__).parent
COMMAND = "experiments.localisation.layers"


def by_layer(found: Interpretation) -> dict[str, float]:
    """Return each layer's share of the summed |w|, the mean over classes, for the layers that have one.

    Examples
    --------
    >>> import numpy as np
    >>> from interpnet.engine import ChannelIndex
    >>> by_layer(Interpretation(ChannelIndex((("a", 1), ("b", 2))), np.array([[1.0, 0.0, -3.0]]), ("cat",)))
    {'a': 0.25, 'b': 0.75}
    """
    shares = zip(found.channels.layers, found.layer_relevance().mean(0), strict=True)
    return {name: round(float(share), 4) for name, share in shares if share > 0}


def table(lines: list[Line]) -> str:
    """Return Markdown: the layers with the largest shares, the mean over the networks of a kind."""
    rows = []
    for (architecture,), here in grouped(lines, "architecture").items():
        totals: Counter[str] = Counter()
        for line in here:
            totals.update(line["layers"])
        shares = [f"`{name}` {100 * total / len(here):.0f} %" for name, total in totals.most_common(5)]
        rows.append([architecture, str(len(here)), ", ".join(shares)])
    return markdown(["single-6c", "networks", "share of the relevant weight by layer"], rows)


@command()
def main(*, networks: int = 5, work: Path = Path("runs/localisation")) -> None:
    """Measure what is missing, and write."""
    results = Results(HERE / "layers.json")
    wanted = ({"architecture": a, "seed": seed} for a in ARCHITECTURES for seed in range(networks))
    for line in results.missing(wanted):
        network = flower_network("single-6c", line["seed"], work, architecture=line["architecture"])
        line["layers"] = by_layer(network.interpretation())
    fill(HERE / "README.md", COMMAND, table(results.lines))
