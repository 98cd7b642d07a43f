"""What E3 found, from its results.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.common.claims import Claim, verdict_of
from experiments.common.maps import PAPER
from experiments.common.pages import paired, signed
from experiments.localisation.table import CONTROLS, by_map, kinds_of

HERE = Path(__file__).parent
#: The six that the paper compares its method with, by their names here.
RIVALS = ("channels upsampled", "guided", "gradcam", "guided_gradcam", "gradcam++", "guided_gradcam++")
ABSOLUTE = f"{PAPER}, absolute"

Line = dict[str, Any]
Interval = tuple[float, float, float]


def literature(names: Iterable[str]) -> list[str]:
    """Return the methods of the literature among names of maps: neither ours nor controls."""
    return [n for n in names if not n.startswith(("channels ", "logit ")) and n not in CONTROLS]


def gains(lines: list[Line], one: str, others: Iterable[str] | None = None) -> dict[str, tuple[str, Interval]]:
    """Return for each kind of network the paired gain of a map over the best of others, in points of IoU-AUC.

    Parameters
    ----------
    lines : list of dict
        Lines of results.json.
    one : str
        A map's name.
    others : iterable of str, optional
        Names of other maps; all of the literature by default. The best is the one with the largest mean on the kind,
        which favours it: it is chosen and compared on the same networks.

    Returns
    -------
    dict of str to (str, (float, float, float))
        For each kind with two networks or more the best other, and mean and ends of Student's 95 % interval.
    """
    found = {}
    for architecture, variant in kinds_of(lines):
        part = [x for x in lines if (x["architecture"], x["variant"]) == (architecture, variant)]
        if len(part) < 2:
            continue
        means = {name: row[0] for name, row in by_map(part, "iou").items()}
        best = max(literature(means) if others is None else others, key=lambda n: means.get(n, -1.0))
        pairs = [100 * (x["maps"][one]["iou"] - x["maps"][best]["iou"]) for x in part]
        found[f"{architecture} {variant}"] = best, paired(pairs)
    return found


def above(found: dict[str, tuple[str, Interval]]) -> list[bool]:
    """Return for each kind whether the whole interval is above zero."""
    return [low > 0 for _, (_, low, _) in found.values()]


def words(found: dict[str, tuple[str, Interval]]) -> str:
    """Return the gains in one line."""
    return "; ".join(f"{kind} {signed(interval)} over {best}" for kind, (best, interval) in found.items())


def claims() -> list[Claim]:
    """Return E3's claims: against the paper's other methods, and against the best of all."""
    lines: list[Line] = json.loads((HERE / "results.json").read_text())
    seven, every, absolute = gains(lines, PAPER, RIVALS), gains(lines, PAPER), gains(lines, ABSOLUTE)
    return [
        Claim(
            "E3",
            "The method (identified channels, guided, resampled) has the highest IoU-AUC of the paper's seven",
            words(seven),
            verdict_of(above(seven)),
            f"with absolute values instead of positive parts: {words(gains(lines, ABSOLUTE, RIVALS))}",
        ),
        Claim(
            "E3",
            "The method has a higher IoU-AUC than every other of the registry",
            words(every),
            verdict_of(above(every)),
            f"the positive part drops petals darker than what is behind them; with absolute values: {words(absolute)}",
        ),
    ]
