"""What shares are usual: those of networks without a shortcut, measured in experiments/cues.

A part that a network may well use, such as what surrounds a disc, has a larger usual share than a corner. The values
are quantiles over the classes of networks that rely on no planted cue: those on which thresholds were chosen, none of
those that are reported: ``experiments/cues/reference.json``.
"""

from __future__ import annotations

#: By the name of a part, or by its kind: what 98 % of classes without a shortcut stay below.
USUAL: dict[str, float] = {
    "outside the subject": 0.13,
    "outside a disc of radius 0.35": 0.58,
    "outside a disc of radius 0.45": 0.29,
    "the frame": 0.18,
    "corner": 0.10,
    "edge": 0.15,
    "the mean colour": 0.40,
    "the tint": 0.30,
    "the most common colour": 0.39,
    "the finest detail": 0.36,
    "the texture of blocks": 0.46,
    "a pattern in common": 0.27,
    "the position": 0.18,
    "a small patch": 0.14,
    "a patch": 0.28,
}


def usual_share(name: str, kind: str) -> float:
    """Return the usual share of a part by its name, else by its kind.

    Examples
    --------
    >>> usual_share("top left", "corner"), usual_share("a patch", "patch")
    (0.1, 0.28)
    """
    return USUAL[name] if name in USUAL else USUAL[kind]
