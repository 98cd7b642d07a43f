"""``interpnet check RUN --against BASELINE``: limits on what may change, where the change is more than chance."""

from __future__ import annotations

from pathlib import Path

from interpnet.errors import InterpNetError

from ..comparing.change import Change
from ..comparing.comparison import compare
from ..comparing.recalls import Recalls
from ..report.numbers import percent, signed, span
from ..run.check_settings import CheckSettings
from ..run.settings import option
from .check import MOST_NAMED, Check, checks


def checked(folder: Path, limits: CheckSettings, baseline: Path | None = None) -> tuple[Check, ...]:
    """Compare a run folder with limits and, where one is named, with the run that it must not fall behind.

    A fall is a finding where it is larger than its limit and beyond chance. ``InterpNetError`` for limits on changes
    without a baseline, for runs that cannot be compared, and as :func:`interpnet.pipelines.auditing.check.checks`.
    """
    if baseline is None:
        _check_unneeded(limits)
        return checks(folder, limits)
    found = compare(baseline, folder)
    known: frozenset[tuple[str, str]] = frozenset()
    if limits.allow_known_shortcuts:
        before = found.pair.first.shortcuts
        if before is None:
            raise InterpNetError(
                f"--allow-known-shortcuts came, and {str(baseline)!r} was not searched for any; run `interpnet "
                f"shortcuts {baseline}` first"
            )
        known = frozenset((one.name, one.part) for one in before.suspicious)
    if found.recalls is None or not found.recalls.classes:
        raise InterpNetError(
            f"--against {str(baseline)!r}: no class has test images that both runs looked at; run `interpnet ablate` "
            "on each"
        )
    overall = found.recalls.accuracy or found.recalls.recall
    name = {True: "mean recall", False: "accuracy"}[found.recalls.accuracy is None]
    fallen = _fall(f"{name} against the baseline", overall, limits.max_accuracy_loss or 0.0)
    return (*checks(folder, limits, known), fallen, _recalls(found.recalls, limits.max_recall_loss or 0.0))


def _check_unneeded(limits: CheckSettings) -> None:
    for name in ("max_accuracy_loss", "max_recall_loss", "allow_known_shortcuts"):
        # A limit of 0 is one, too.
        if getattr(limits, name) is not None and getattr(limits, name) is not False:
            raise InterpNetError(f"{option(name)} came, and no run to compare with; name it: --against RUN")


def _fall(name: str, change: Change, most: float) -> Check:
    points = span((100 * change.low, 100 * change.high), 1)
    value = f"{percent(change.first)} before, {percent(change.second)} now "
    value += f"({signed(100 * change.change, 1)} points, 95 % interval {points})"
    return Check(name, value, _limit(most), not _beyond(change, most), change.change)


def _recalls(recalls: Recalls, most: float) -> Check:
    classes = recalls.classes
    fallen = sorted((one for one in classes if _beyond(one.recall, most)), key=lambda one: one.recall.change)
    named = ", ".join(
        f"{one.name} {percent(one.recall.first)} to {percent(one.recall.second)}" for one in fallen[:MOST_NAMED]
    )
    if len(fallen) > MOST_NAMED:
        named += f" and {len(fallen) - MOST_NAMED} more"
    worst = min((one.recall.change for one in classes), default=None)
    return Check("recalls against the baseline", named or "none fell beyond that", _limit(most), not fallen, worst)


def _beyond(change: Change, most: float) -> bool:
    return change.differs and -change.change > most


def _limit(most: float) -> str:
    if most == 0:
        return "no fall beyond chance"
    return f"a fall of at most {percent(most)} of the images, or within chance"
