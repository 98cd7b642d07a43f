"""What shares are usual: those of networks without a shortcut, measured in experiments/cues.

A part that a network may well use, such as what surrounds a small disc, has a larger usual share than a corner. The
values are the 95 % quantiles over the classes of the networks without a planted cue on which thresholds were chosen.
"""

from __future__ import annotations

#: By the name of a part: what 95 % of classes without a shortcut stay below.
USUAL: dict[str, float] = {"top left": 0.1}
#: For a part that is not listed.
UNKNOWN = 0.5


def usual_share(name: str) -> float:
    """Return the usual share of a part by its name."""
    return USUAL.get(name, UNKNOWN)
