"""What A1 found, by rule from results.json."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.attention.table import GAMMAS, METHODS, gains, way
from experiments.common.claims import Claim, judged
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, paired


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return A1's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    chosen, report = lines[:1], lines[1:]
    gamma = max(GAMMAS, key=lambda g: float(gains(chosen, way("attnlrp", g)).mean()))
    method = max(METHODS, key=lambda m: float(gains(chosen, way("attnlrp", method=m)).mean()))
    best = way("attnlrp", method=method)
    return [
        _beats(
            report,
            best,
            ("integrated_gradients", "deeplift"),
            f"Relevance through attention (AttnLRP with {method}, chosen on another network) orders a transformer's "
            "pixels better than integrated gradients and DeepLIFT",
            "both order them alike",
        ),
        _beats(
            report,
            best,
            (way("cp", method=method),),
            "Relevance to weights and values of attention (AttnLRP) orders the pixels better than to values alone "
            "(CP-LRP)",
            "the values alone order them as well",
        ),
        _beats(
            report,
            way("attnlrp", gamma),
            (way("attnlrp"),),
            f"Gamma ({gamma:g}, chosen on another network) at linear maps orders the pixels better than epsilon there",
            "in networks of three blocks little cancels",
        ),
    ]


def _beats(report: list[Line], ours: str, others: Sequence[str], claim: str, reason: str) -> Claim:
    """Judge: the symmetric relevance gain of one way is above others', paired by image, on each network."""
    pairs = [(line, other) for other in others for line in report]
    effects = {f"seed {line['seed']}, {other}": _less(line, ours, other) for line, other in pairs}
    each = "; ".join(
        f"seed {line['seed']} {gains([line], ours).mean():.2f} against {gains([line], other).mean():.2f} ({other})"
        for line, other in pairs
    )
    return judged("A1", claim, effects, "comparisons", f"symmetric relevance gain: {each}", reason)


def _less(line: Line, ours: str, other: str) -> Interval:
    return paired((100 * (gains([line], ours) - gains([line], other))).tolist())
