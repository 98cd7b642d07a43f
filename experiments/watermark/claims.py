"""What S2 found, from its results.json."""

from __future__ import annotations

from experiments.common.claims import Claim, verdict_of
from experiments.common.pages import committed
from experiments.watermark.run import TEXTS, beyond


def claims() -> list[Claim]:
    """Return S2's claim; it holds at a place of the watermark if the carton rises most, its interval above zero."""
    overlays = committed(__file__)["overlays"]
    figures = []
    for name in TEXTS:
        carton = overlays[name]["carton"]
        figures.append(f"{name}: {beyond(carton)}, place {overlays[name]['place of the carton']} of 1,000")
    marks = [name for name in TEXTS if "text" not in TEXTS[name]]
    shown = [overlays[name]["place of the carton"] == 1 and overlays[name]["carton"]["low"] > 0 for name in marks]
    first = overlays[marks[0]]["carton"]
    return [
        Claim(
            "S2",
            "ImageNet-W's watermark raises the carton most of 1,000 classes, beyond its shuffled pixels",
            f"{first['rise']:+.1f} of log-odds, first of 1,000",
            "; ".join(figures),
            verdict_of(shown),
            "another class learnt the mark as well",
        )
    ]
