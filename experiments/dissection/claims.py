"""What C2 found, by rule from results.json."""

from __future__ import annotations

from experiments.common.claims import Claim
from experiments.common.pages import committed
from experiments.common.tables import Line
from experiments.dissection.table import percent, share

_MOST_FALSE = 0.01  # of the channels with random weights


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return C2's claim, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    by_name = {line["network"]: line for line in lines}
    trained, random = (share(by_name[name]) for name in ("trained", "random weights"))
    paper = share(by_name["random weights"], "above 0.04")
    holds = random.mean <= _MOST_FALSE < trained.low
    return [
        Claim(
            "C2",
            "Names from Network Dissection with its two controls are names of what was learned",
            f"{100 * trained.mean:.0f} % named, {100 * random.mean:.1f} % at random",
            f"{percent(trained)} % of EfficientNet-Lite0's channels have a name, {percent(random)} % with random "
            f"weights; by the paper's rule alone {percent(paper)} % of those with random weights",
            "holds" if holds else "does not hold",
            reason="" if holds else "too few images for the intervals",
        )
    ]
