"""What S5 found, by rule from results.json."""

from __future__ import annotations

from experiments.common.claims import Claim, counted, judged, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, points, signed
from experiments.cue_conflict.table import TITLES, interval, percent


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return S5's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    by_network = {TITLES[line["network"]]: line for line in lines}
    return [by_texture(by_network), relied_on(by_network), told_apart(by_network)]


def by_texture(lines: dict[str, Line]) -> Claim:
    """Judge: a network goes by the texture if shape's share of its answers is below one half, interval and all."""
    shares = {name: interval(line["behaviour"]["share of decisions"]) for name, line in lines.items()}
    beyond = {name: Interval(*(50 - 100 * v for v in (s.mean, s.high, s.low))) for name, s in shares.items()}
    each = (
        f"{name}: {percent(share)} % of answers, {percent(interval(lines[name]['behaviour']['share of log-odds']))} % "
        "of log-odds"
        for name, share in shares.items()
    )
    return judged(
        "S5",
        "Where shape and texture disagree, a network trained on ImageNet answers by the texture",
        beyond,
        "networks",
        f"shape's share, {'; '.join(each)}",
        "neither cue decides alone",
    )


def relied_on(lines: dict[str, Line]) -> Claim:
    """Judge: named channels carry texture if its share of what both cues add is above one half, interval and all."""
    found = {name: line["named"]["photographs"] for name, line in lines.items()}
    shares = {name: interval(one["texture's share"]) for name, one in found.items()}
    beyond = {name: Interval(*(100 * v - 50 for v in share)) for name, share in shares.items()}
    each = (
        f"{name}: texture adds {signed(interval(one['texture']), 2)} SD, shape {signed(interval(one['shape']), 2)}"
        for name, one in found.items()
    )
    return judged(
        "S5",
        "The channels that a class relies on carry its texture rather than its shape",
        beyond,
        "networks",
        f"{'; '.join(each)}",
        "the named channels answer to both cues",
    )


def told_apart(lines: dict[str, Line]) -> Claim:
    """Judge: texture's channels tell textures apart better if the difference within layers is above 0."""
    found = {name: interval(line["channels"]["apart within layers"]) for name, line in lines.items()}
    shown = [one.above for one in found.values()]
    groups = [line["channels"]["groups"]["shape"] for line in lines.values()]
    still = " and ".join(f"{100 * g['texture'] / (g['texture'] + g['shape']):.0f}" for g in groups)
    each = (f"{name} {points(one)}" for name, one in found.items())
    return Claim(
        "S5",
        "Channels that follow textures tell photographs of textures apart better than those that follow shapes",
        counted(shown, "networks"),
        f"points of ROC-AUC within layers: {'; '.join(each)}",
        verdict_of(shown),
        f"channels chosen for shape follow textures most on other classes, too ({still} % of what they follow)",
    )
