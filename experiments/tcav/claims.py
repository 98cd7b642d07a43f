"""What C3 found, by rule from results.json."""

from __future__ import annotations

from experiments.common.claims import Claim, counted, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, number
from experiments.tcav.images import CLASSES, STRIPES
from experiments.tcav.table import AGAIN, BESIDE, CAPTUM, POOLED, UNTRAINED, WHOLE, beside, lines_by_way, raised

_AGREES = 1e-6
_REASONS = (
    "a direction is of other things early and late: in stage 3 textures of any kind lower nearly every class",
    "the class goes by other things",
)


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return C3's claims, on the committed results where no others are given."""
    ways = lines_by_way(committed(__file__) if lines is None else lines)
    return [
        *(_expected(concept, ways, WHOLE, "") for concept in BESIDE),
        *(_expected(concept, ways, AGAIN, "At the last layer, on other images: ") for concept in BESIDE),
        _others(ways[WHOLE], ""),
        _others(ways[AGAIN], "At the last layer, on other images: "),
        _untrained(ways[UNTRAINED]),
        _captum(ways[CAPTUM]),
    ]


def _shown(line: Line, concept: str, names: tuple[str, ...]) -> dict[str, tuple[bool, Interval]]:
    return {name: (raised(line, name, concept), beside(line, name, concept)) for name in names}


def _words(cases: dict[str, tuple[bool, Interval]]) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')} {number(value.mean, '+.3f')}{', raised' * up}" for name, (up, value) in cases.items()
    )


def _expected(concept: str, ways: dict[str, Line], way: str, where: str) -> Claim:
    """Judge: the concept raises each of the classes that it should."""
    other, names = BESIDE[concept]
    cases = _shown(ways[way], concept, names)
    ups = [up for up, _ in cases.values()]
    subject = f"{concept} {'raise' if concept == STRIPES else 'raises'} {', '.join(names)}"
    reason = "" if all(ups) else _REASONS[way == AGAIN]
    return Claim(
        "C3",
        sentence(f"{where}{subject} of EfficientNet-Lite0, more than random images and than {other}"),
        counted(ups, "classes"),
        f"log-odds for a usual step, less those of {other}: {_words(cases)}",
        verdict_of(ups),
        reason,
        f"means of channels in place of whole maps: {_words(_shown(ways[POOLED], concept, names))}" if reason else "",
    )


def _others(line: Line, where: str) -> Claim:
    """Judge: a concept raises no class that has nothing to do with it."""
    quiet = {
        f"{concept}, {name}": not raised(line, name, concept)
        for concept, (_, expected) in BESIDE.items()
        for name in CLASSES
        if name not in expected
    }
    loud = [name.replace("_", " ") for name, still in quiet.items() if not still]
    return Claim(
        "C3",
        sentence(f"{where}stripes and water raise no class of EfficientNet-Lite0 that has nothing to do with them"),
        counted(quiet.values(), "pairs"),
        f"raised: {'; '.join(loud)}" if loud else "none is raised",
        verdict_of(quiet.values()),
        "photographs of a concept share more than the concept" if loud else "",
    )


def sentence(words: str) -> str:
    """Return words with a capital at their start."""
    return words[0].upper() + words[1:]


def _untrained(line: Line) -> Claim:
    """Judge: with random weights no class is raised by anything."""
    quiet = [not raised(line, name, concept) for concept in BESIDE for name in CLASSES]
    return Claim(
        "C3",
        "With random weights no concept raises a class",
        counted(quiet, "pairs"),
        f"{len(quiet) - sum(quiet)} of {len(quiet)} pairs of concept and class raised",
        verdict_of(quiet),
        "" if all(quiet) else "of so many pairs some are beyond random sets by chance",
    )


def _captum(line: Line) -> Claim:
    """Judge: scores, vectors and effects are those of captum."""
    parts = ("score", "vector", "effect")
    agree = [line[part] <= _AGREES for part in parts]
    return Claim(
        "C3",
        "On the same vectors scores and effects are those of captum's TCAV, to 1e-6",
        counted(agree, "numbers"),
        "; ".join(f"{part} {line[part]:.0e}" for part in parts),
        verdict_of(agree),
        "" if all(agree) else "float32 sums in another order",
    )
