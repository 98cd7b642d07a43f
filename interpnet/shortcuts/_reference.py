"""What shares are usual: those of networks without a shortcut, measured in experiments/cues.

A part that a network may well use, such as what surrounds a disc, has a larger usual share than a corner. The values
are quantiles over the classes of networks that rely on no planted cue: those on which thresholds were chosen, none of
those that are reported: ``experiments/cues/reference.json``, but for the edges' 0.13, which was rounded up.
"""

from __future__ import annotations

#: By the name of a part, or by its kind: what 98 % of classes without a shortcut stay below.
USUAL: dict[str, float] = {
    "outside the subject": 0.13,
    "outside a disc of radius 0.35": 0.58,
    "outside a disc of radius 0.45": 0.29,
    "the frame": 0.19,
    "corner": 0.10,
    "edge": 0.14,
    "the mean colour": 0.33,
    "the most common colour": 0.39,
    "the finest detail": 0.28,
    "the texture of blocks": 0.44,
    "a pattern in common": 0.26,
    "the position": 0.16,
    "a small patch": 0.23,
    "a patch": 0.46,
}


def usual_share(name: str, kind: str) -> float:
    """Return the usual share of a part by its name, else by its kind.

    Examples
    --------
    >>> usual_share("top left", "corner"), usual_share("a patch", "patch")
    (0.1, 0.46)
    """
    return USUAL[name] if name in USUAL else USUAL[kind]
