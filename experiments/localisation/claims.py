"""What E3 found, from its results.json."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.common.claims import Claim, judged
from experiments.common.maps import PAPER
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, signed
from experiments.localisation.table import ABSOLUTE, CONTROLS, by_map, gain, kinds_of

#: The six that the paper compares its method with, by their names here.
RIVALS = ("channels upsampled", "guided", "gradcam", "guided_gradcam", "gradcam++", "guided_gradcam++")
Gains = dict[str, tuple[str, Interval]]


def literature(names: Iterable[str]) -> list[str]:
    """Return the methods of the literature among names of maps: neither ours nor controls."""
    return [n for n in names if not n.startswith(("channels ", "logit ")) and n not in CONTROLS]


def gains(lines: list[Line], one: str, others: Iterable[str] | None = None) -> Gains:
    """Return for each kind of network the best of other maps, and a map's paired gain over it in points of IoU-AUC.

    Kinds with a single network are left out. ``others`` are all of the literature by default. The best is the one with
    the largest mean on the kind, which favours it: it is chosen and compared on the same networks.
    """
    found = {}
    for kind, part in kinds_of(lines).items():
        means = {name: row[0] for name, row in by_map(part, "iou").items()}
        best = max(others or literature(means), key=lambda n: means.get(n, -1.0))
        over = gain(part, one, best)
        if over is not None:
            found[" ".join(kind)] = best, over
    return found


def words(found: Gains) -> str:
    """Return the gains in one line."""
    return "; ".join(f"{kind} {signed(interval)} over {best}" for kind, (best, interval) in found.items())


def claims() -> list[Claim]:
    """Return E3's claims: against the paper's other methods, and against the best of all."""
    lines: list[Line] = committed(__file__)
    found = []
    for sentence, others, tested in (
        (
            "The method (identified channels, guided, resampled) has the highest IoU-AUC of the paper's seven",
            RIVALS,
            "with absolute values instead of positive parts",
        ),
        ("The method has a higher IoU-AUC than every other of the registry", None, "with absolute values"),
    ):
        own = gains(lines, PAPER, others)
        effects = {kind: interval for kind, (_, interval) in own.items()}
        reason = "the positive part drops petals darker than what is behind them"
        tried = f"{tested}: {words(gains(lines, ABSOLUTE, others))}"
        found.append(judged("E3", sentence, effects, "kinds", words(own), reason, tried))
    return found
