"""What A1 found, by rule from results.json."""

from __future__ import annotations

from experiments.attention.table import GAMMAS, gains, way
from experiments.common.claims import Claim, judged
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, paired


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return A1's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    chosen, report = lines[:1], lines[1:]
    gamma = max(GAMMAS, key=lambda g: float(gains(chosen, way("attnlrp", g)).mean()))
    best = way("attnlrp", gamma)
    return [
        _beats(report, best, way("attnlrp"), f"Gamma ({gamma:g}, chosen on another network) at linear maps orders a "
               "transformer's pixels better than epsilon there", "gains by both are about as large"),
        _beats(report, best, way("cp", gamma), "Relevance to weights and values of attention (AttnLRP) orders the pixels "
               "better than relevance to values alone (CP-LRP)", "the values alone order them as well"),
    ]  # fmt: skip


def _beats(report: list[Line], ours: str, other: str, claim: str, reason: str) -> Claim:
    """Judge: the symmetric relevance gain of one way is above another's, paired by image, on each network."""
    effects = {f"seed {line['seed']}": _less(line, ours, other) for line in report}
    each = "; ".join(
        f"seed {line['seed']} {gains([line], ours).mean():.2f} against {gains([line], other).mean():.2f}"
        for line in report
    )
    return judged("A1", claim, effects, "networks", f"symmetric relevance gain: {each}", reason)


def _less(line: Line, ours: str, other: str) -> Interval:
    return paired((100 * (gains([line], ours) - gains([line], other))).tolist())
